/** The candidates of a search: the table of what was tried, and what was quarantined and why. */

import { empty, h, keyed, setText } from "/console/dom.js";
import { error, gflops, schedule, seconds } from "/console/format.js";
import { bar, chip, opts } from "/console/parts.js";

const FIRST_ROWS = 6;
const HEADS = [["", "num"], ["GFLOP/s", "num"], ["", "wide"], ["Time", "num"], ["Round", "num"], ["Outcome", ""], ["Max error", "num"], ["Schedule", "grow"]];

/** The table; `update(candidates)` with what `nouns.tried` gives, `pick(hash)` to point at one row. */
export class CandidateTable {
  constructor() {
    this.body = h("tbody", {});
    this.more = h("button", { type: "button", class: "quiet", onclick: () => this.showAll() });
    this.table = h("table", { class: "candidates" },
      h("thead", {}, h("tr", {}, ...HEADS.map(([name, kind]) => h("th", { scope: "col", class: kind }, name)))), this.body);
    this.note = h("div", {});
    this.element = h("div", {}, h("div", { class: "scroll" }, this.table), this.note, this.more);
    this.all = false;
    this.picked = null;
    this.candidates = [];
  }

  update(candidates) {
    this.candidates = [...candidates].sort(fastestFirst);
    const shown = this.all ? this.candidates : this.candidates.slice(0, FIRST_ROWS);
    const most = this.candidates[0]?.gflops ?? 1;
    const rows = shown.map((candidate, i) => ({ candidate, rank: i + 1, share: (candidate.gflops ?? 0) / most, picked: candidate.hash === this.picked }));
    keyed(this.body, rows, (item) => item.candidate.hash, row);
    this.table.hidden = rows.length === 0;
    this.note.replaceChildren(...(rows.length ? [] : [empty("No candidate was tried yet.")]));
    this.more.hidden = shown.length === this.candidates.length;
    setText(this.more, `Show all ${this.candidates.length}`);
  }

  showAll() {
    this.all = true;
    this.update(this.candidates);
  }

  pick(hash) {
    this.picked = hash;
    this.all = this.all || this.candidates.findIndex((c) => c.hash === hash) >= FIRST_ROWS;
    this.update(this.candidates);
    this.body.querySelector(".picked")?.scrollIntoView({ block: "nearest" });
  }
}

const fastestFirst = (a, b) => (b.gflops ?? -1) - (a.gflops ?? -1) || a.round - b.round || a.score - b.score;

function row({ candidate, rank, share, picked }) {
  return h("tr", { class: picked ? "picked" : null },
    h("td", { class: "num muted" }, String(rank)),
    h("td", { class: "num" }, h("b", {}, gflops(candidate.gflops))),
    h("td", { class: "wide" }, bar(share, candidate.group)),
    h("td", { class: "num" }, seconds(candidate.time_s)),
    h("td", { class: "num" }, String(candidate.round)),
    h("td", {}, chip(candidate.outcome)),
    h("td", { class: "num", title: `tolerance ${error(candidate.tolerance)}` }, error(candidate.max_error)),
    h("td", { class: "grow mono", title: schedule(candidate.schedule) }, schedule(candidate.schedule)));
}

/** Draw the quarantined candidates with their reasons into `parent`. */
export function drawQuarantine(parent, candidates) {
  const bad = candidates.filter((candidate) => candidate.group === "quarantined");
  if (bad.length === 0) return parent.replaceChildren(empty("Nothing was quarantined.", "Every candidate that ran gave the right answer."));
  let list = parent.querySelector("ul");
  if (!list) parent.replaceChildren(list = h("ul", { class: "quarantine" }));
  return keyed(list, bad, (candidate) => candidate.hash, quarantined);
}

function quarantined(candidate) {
  const wrong = candidate.max_error === null ? null
    : h("span", { class: "muted" }, `error ${error(candidate.max_error)}, tolerance ${error(candidate.tolerance)}`);
  return h("li", {},
    h("p", {}, chip(candidate.outcome), h("span", { class: "muted" }, `round ${candidate.round}`), wrong, h("code", { class: "muted" }, candidate.hash.slice(0, 12))),
    candidate.detail ? h("p", { class: "reason" }, candidate.detail) : null,
    opts(candidate.schedule));
}
