/** The plot of a search: every candidate a mark, in the order tried, and the best so far as a line. */

import { h, s } from "/console/dom.js";
import { error, gflops, schedule, seconds, words } from "/console/format.js";

const HEIGHT = 232;
const EDGE = { left: 42, right: 118, top: 20, bottom: 44 };
const RAIL = 18; // below the axis: what has no time
const FEWEST = 24; // slots, so that the first candidates do not fill the width
const LABEL_GAP = 13;
const NEAR = 14; // pixels within which the pointer finds a mark
const SHAPES = {
  quarantined: "M-3.4-3.4 3.4 3.4M3.4-3.4-3.4 3.4",
  unbuilt: "M-2.6-2.6h5.2v5.2h-5.2z",
};

/** A plot in its figure: `update(data)` draws it, `element` is the figure. `onPick(candidate)` on a click. */
export class Plot {
  constructor(onPick) {
    this.layers = Object.fromEntries(
      ["bands", "grid", "area", "best", "references", "marks", "labels"].map((n) => [n, s("g", { class: n })]),
    );
    this.svg = s("svg", { role: "img", height: HEIGHT }, ...Object.values(this.layers));
    this.tip = h("div", { class: "tip", hidden: true });
    this.element = h("figure", { class: "plot" }, this.svg, this.tip);
    this.marks = new Map();
    this.data = { candidates: [], references: [] };
    this.svg.addEventListener("pointermove", (event) => this.point(event));
    this.svg.addEventListener("pointerleave", () => this.hide());
    this.svg.addEventListener("click", (event) => { const mark = this.near(event); if (mark) onPick(mark); });
    new ResizeObserver(() => this.draw()).observe(this.element);
  }

  /** `candidates` as `nouns.tried` orders them; `references`: [{ name, gflops }]; `label` for screen readers. */
  update(data) {
    this.data = data;
    this.svg.setAttribute("aria-label", data.label);
    this.draw();
  }

  draw() {
    const width = this.element.clientWidth;
    if (width === 0) return;
    this.svg.setAttribute("width", width);
    this.svg.setAttribute("viewBox", `0 0 ${width} ${HEIGHT}`);
    const scale = scales(this.data, width);
    this.placed = this.data.candidates.map((c, i) => ({ ...c, ...position(c, i, scale) }));
    this.drawBands(scale);
    this.drawGrid(scale);
    this.drawBest(scale);
    this.drawReferences(scale);
    this.drawMarks();
  }

  drawBands(scale) {
    const bands = rounds(this.data.candidates);
    this.layers.bands.replaceChildren(...bands.flatMap(({ round, first, count }) => {
      const x = scale.x(first);
      const width = scale.step * count;
      const edge = s("line", { x1: x, x2: x, y1: EDGE.top, y2: HEIGHT - 4 });
      const name = s("text", { x: x + width / 2, y: HEIGHT - 8, "text-anchor": "middle" }, String(round));
      return width >= 14 ? [edge, name] : [edge];
    }));
  }

  drawGrid(scale) {
    const lines = scale.ticks.flatMap((value) => [
      s("line", { x1: EDGE.left, x2: scale.right, y1: scale.y(value), y2: scale.y(value) }),
      s("text", { x: EDGE.left - 7, y: scale.y(value) + 3.5, "text-anchor": "end" }, String(value)),
    ]);
    const unit = s("text", { x: 4, y: 10 }, "GFLOP/s");
    const round = s("text", { x: EDGE.left - 7, y: HEIGHT - 8, "text-anchor": "end" }, "round");
    this.layers.grid.replaceChildren(...lines, unit, round);
  }

  drawBest(scale) {
    const points = bestSoFar(this.placed);
    if (points.length === 0) {
      this.layers.best.replaceChildren();
      this.layers.area.replaceChildren();
      return;
    }
    const end = scale.x(this.placed.findLastIndex((c) => c.y !== null) + 1);
    const line = points.map((p, i) => (i === 0 ? `M${p.x} ${p.y}` : `H${p.x}V${p.y}`)).join("") + `H${end}`;
    const last = points.at(-1);
    this.layers.area.replaceChildren(s("path", { d: `${line}V${scale.floor}H${points[0].x}Z` }));
    this.layers.best.replaceChildren(s("path", { d: line }), s("circle", { cx: end, cy: last.y, r: 3 }));
  }

  drawReferences(scale) {
    const lines = this.data.references.map(({ gflops: value }) =>
      s("line", { x1: EDGE.left, x2: scale.right, y1: scale.y(value), y2: scale.y(value) }));
    this.layers.references.replaceChildren(...lines);
    this.layers.labels.replaceChildren(...this.labels(scale));
  }

  labels(scale) {
    const best = bestSoFar(this.placed).at(-1);
    const wanted = this.data.references.map((r) => ({ ...r, kind: "reference", y: scale.y(r.gflops) }));
    if (best) wanted.push({ name: "round best", gflops: best.gflops, kind: "leader", y: best.y });
    return spread(wanted).map(({ name, gflops: value, kind, y }) =>
      s("text", { x: scale.right + 8, y: y + 3.5, class: kind }, `${name} ${gflops(value)}`));
  }

  drawMarks() {
    const seen = new Set();
    for (const candidate of this.placed) {
      if (candidate.y === null) continue;
      seen.add(candidate.hash);
      const mark = this.mark(candidate);
      mark.setAttribute("class", `mark ${candidate.group}`);
      mark.setAttribute("transform", `translate(${candidate.x.toFixed(1)} ${candidate.y.toFixed(1)})`);
    }
    for (const [hash, mark] of this.marks) {
      if (seen.has(hash)) continue;
      mark.remove();
      this.marks.delete(hash);
    }
  }

  mark(candidate) {
    const known = this.marks.get(candidate.hash);
    if (known && known.dataset.group === candidate.group) return known;
    known?.remove();
    const shape = SHAPES[candidate.group];
    const drawn = shape ? s("path", { d: shape }) : s("circle", { r: candidate.group === "ok" ? 3.4 : 2.6 });
    const mark = s("g", { "data-group": candidate.group }, drawn);
    this.marks.set(candidate.hash, mark);
    this.layers.marks.append(mark);
    return mark;
  }

  near(event) {
    const box = this.svg.getBoundingClientRect();
    const distance = (c) => Math.hypot(c.x - (event.clientX - box.left), c.y - (event.clientY - box.top));
    const drawn = (this.placed ?? []).filter((c) => c.y !== null);
    const nearest = drawn.reduce((best, c) => (!best || distance(c) < distance(best) ? c : best), null);
    return nearest && distance(nearest) <= NEAR ? nearest : null;
  }

  point(event) {
    const candidate = this.near(event);
    this.svg.classList.toggle("pointing", Boolean(candidate));
    if (!candidate) return this.hide();
    this.tip.replaceChildren(...tipLines(candidate));
    this.tip.hidden = false;
    const left = Math.min(candidate.x + 12, this.element.clientWidth - this.tip.offsetWidth - 4);
    this.tip.style.transform = `translate(${Math.max(4, left)}px, ${Math.max(4, candidate.y - this.tip.offsetHeight - 10)}px)`;
  }

  hide() {
    this.tip.hidden = true;
  }
}

function tipLines(candidate) {
  const head = candidate.gflops === null ? words(candidate.outcome) : `${gflops(candidate.gflops)} GFLOP/s`;
  const facts = [`round ${candidate.round}`, words(candidate.outcome)];
  if (candidate.time_s) facts.push(seconds(candidate.time_s));
  if (candidate.max_error !== null) facts.push(`error ${error(candidate.max_error)}`);
  return [
    h("strong", {}, head),
    h("span", { class: "muted" }, facts.join(" · ")),
    h("span", { class: "mono" }, schedule(candidate.schedule)),
    candidate.detail ? h("span", {}, candidate.detail.slice(0, 160)) : null,
  ].filter(Boolean);
}

function scales({ candidates, references }, width) {
  const right = width - EDGE.right;
  const floor = HEIGHT - EDGE.bottom;
  const rates = [...candidates.map((c) => c.gflops ?? 0), ...references.map((r) => r.gflops)];
  const ticks = niceTicks(Math.max(1, ...rates) * 1.04);
  const top = ticks.at(-1);
  const step = (right - EDGE.left) / Math.max(candidates.length, FEWEST);
  return {
    right, floor, ticks, step,
    x: (index) => EDGE.left + step * index,
    y: (value) => floor - (value / top) * (floor - EDGE.top),
  };
}

function position(candidate, index, scale) {
  const x = scale.x(index + 0.5);
  if (candidate.group === "waiting") return { x, y: null };
  return { x, y: candidate.gflops === null ? scale.floor + RAIL / 2 : scale.y(candidate.gflops) };
}

/** Round numbers from 0 to at least `most`, four to six of them. */
export function niceTicks(most) {
  const rough = most / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((m) => m >= rough);
  return Array.from({ length: Math.ceil(most / step) + 1 }, (_, i) => Number((i * step).toPrecision(6)));
}

/** The points at which the best verified rate rises. */
export function bestSoFar(placed) {
  const points = [];
  for (const candidate of placed) {
    if (candidate.group !== "ok" || candidate.gflops === null) continue;
    if (points.length === 0 || candidate.gflops > points.at(-1).gflops) points.push(candidate);
  }
  return points;
}

/** Where each round begins among the candidates, and how many it has. */
export function rounds(candidates) {
  const bands = [];
  candidates.forEach(({ round }, index) => {
    if (bands.at(-1)?.round === round) bands.at(-1).count += 1;
    else bands.push({ round, first: index, count: 1 });
  });
  return bands;
}

/** Move labels apart so that none covers another; the highest value stays on top. */
export function spread(labels) {
  const sorted = [...labels].sort((a, b) => a.y - b.y);
  for (let i = 1; i < sorted.length; i += 1) sorted[i].y = Math.max(sorted[i].y, sorted[i - 1].y + LABEL_GAP);
  return sorted;
}
