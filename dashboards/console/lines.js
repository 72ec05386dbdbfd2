/** A chart of lines over the last hour. */

import { h, s } from "/console/dom.js";

const WIDTH = 420;
const HEIGHT = 130;
const EDGE = { left: 6, right: 6, top: 8, bottom: 18 };

/** `series`: [{ name, values }], a value for each of the times `at` (RFC 3339), null where there is none; `text(value)`
 *  says a value in words; `most` is the top of the scale, null for the largest value. */
export function lines({ title, at, series, text, most }) {
  const known = series.flatMap((one) => one.values.filter((value) => value !== null));
  const top = most ?? Math.max(...known, 1e-9) * 1.08;
  const times = at.map((moment) => Date.parse(moment));
  const [first, last] = [times[0], Math.max(times.at(-1), times[0] + 60_000)];
  const x = (time) => EDGE.left + ((time - first) / (last - first)) * (WIDTH - EDGE.left - EDGE.right);
  const y = (value) => HEIGHT - EDGE.bottom - (value / top) * (HEIGHT - EDGE.top - EDGE.bottom);
  const now = series.map((one) => `${one.name} ${said(one.values.at(-1), text)}`).join(", ");
  return h("figure", { class: "lines" },
    h("figcaption", {}, h("b", {}, title), h("span", { class: "muted" }, known.length ? `up to ${text(Math.max(...known))}` : "")),
    s("svg", { role: "img", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, "aria-label": `${title} over the last hour; now ${now}` },
      s("line", { class: "axis", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(0), y2: y(0) }),
      s("line", { class: "axis faint", x1: EDGE.left, x2: WIDTH - EDGE.right, y1: y(top / 2), y2: y(top / 2) }),
      ...series.flatMap((one, i) => drawn(one, i, times, x, y)),
      s("text", { x: EDGE.left, y: HEIGHT - 4 }, clock(times[0])),
      s("text", { x: WIDTH - EDGE.right, y: HEIGHT - 4, "text-anchor": "end" }, clock(times.at(-1)))));
}

const said = (value, text) => (value === null || value === undefined ? "not known" : text(value));

const clock = (time) => new Date(time).toISOString().slice(11, 16);

/** One series: a line for each stretch without a gap, a dot where a stretch is one moment. */
function drawn(one, number, times, x, y) {
  const stretches = [[]];
  one.values.forEach((value, i) => {
    if (value === null) stretches.push([]);
    else stretches.at(-1).push(`${x(times[i]).toFixed(1)},${y(value).toFixed(1)}`);
  });
  return stretches.filter((points) => points.length > 0).map((points) => {
    if (points.length > 1) return s("polyline", { class: `line line-${number % 8}`, points: points.join(" ") });
    const [cx, cy] = points[0].split(",");
    return s("circle", { class: `dot line-${number % 8}`, cx, cy, r: 2.5 });
  });
}
