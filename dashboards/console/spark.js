/** Sparklines: a series of numbers as a small line, with its baseline and the points that regressed. */

import { s } from "/console/dom.js";
import { significant } from "/console/format.js";

const WIDTH = 180;
const HEIGHT = 34;
const PAD = 4;

/** Where each value stands: x from left to right in order, y from the least (below) to the greatest. */
export function places(values, others = []) {
  const all = [...values, ...others];
  const least = Math.min(...all);
  const spread = Math.max(...all) - least;
  const step = values.length > 1 ? (WIDTH - 2 * PAD) / (values.length - 1) : 0;
  const y = (value) => (spread === 0 ? HEIGHT / 2 : HEIGHT - PAD - ((value - least) / spread) * (HEIGHT - 2 * PAD));
  return { points: values.map((value, i) => [PAD + i * step, y(value)]), y };
}

/** An SVG of a series; what it shows is in its label too. */
export function spark(series) {
  const values = series.points.map((point) => point.value);
  const last = series.points.at(-1);
  const marks = [last.baseline, last.limit].filter((value) => value !== null && value !== undefined);
  const { points, y } = places(values, marks);
  const line = points.map(([px, py]) => `${px.toFixed(1)},${py.toFixed(1)}`).join(" ");
  return s("svg", { class: "spark", viewBox: `0 0 ${WIDTH} ${HEIGHT}`, width: WIDTH, height: HEIGHT, role: "img", "aria-label": label(series) },
    marks.length > 0 ? level(y(last.baseline), "baseline") : null,
    last.limit === null || last.limit === undefined ? null : level(y(last.limit), "limit"),
    s("polyline", { class: "line", points: line }),
    ...series.points.map((point, i) => dot(point, points[i], i === points.length - 1)));
}

const level = (y, kind) => s("line", { class: kind, x1: 0, x2: WIDTH, y1: y.toFixed(1), y2: y.toFixed(1) });

function dot(point, [x, y], isLast) {
  const regressed = point.verdict === "regressed";
  if (!regressed && !isLast) return null;
  return s("circle", { class: `point ${point.verdict}`, cx: x.toFixed(1), cy: y.toFixed(1), r: regressed ? 3 : 2.2 });
}

function label(series) {
  const last = series.points.at(-1);
  const against = last.baseline === null || last.baseline === undefined ? "nothing to compare with yet" : `baseline ${significant(last.baseline)}, ${last.verdict}`;
  return `${series.name}: ${series.points.length} runs, last ${significant(last.value)}, ${against}`;
}
