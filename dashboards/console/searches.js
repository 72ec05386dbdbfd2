/** The search panel: which search, how far, the plot, the best schedule, and what was tried. */

import { CandidateTable, drawQuarantine } from "/console/candidates.js";
import { announce, byId, empty, h, keyed, setAttribute, setText } from "/console/dom.js";
import { gflops, kernel, seconds, words } from "/console/format.js";
import { ACTIVE_SEARCH, QUARANTINED, epoch, rate, references, spent, tried } from "/console/nouns.js";
import { chip, opts } from "/console/parts.js";
import { Plot } from "/console/plot.js";
import { SourceView } from "/console/source.js";
import { Tabs } from "/console/tabs.js";

const LEGEND = [["ok", "verified"], ["slow", "stopped early"], ["quarantined", "quarantined"], ["unbuilt", "not built"], ["skipped", "not tried"]];
const PICKER_SHOWN = 8;

export class SearchPanel {
  constructor() {
    this.title = h("h3", { class: "kernel" });
    this.state = h("span", {});
    this.about = h("p", { class: "muted about" });
    this.figures = Object.fromEntries(["best", "time", "ratio", "rounds", "measured", "bad"].map((name) => [name, h("dd", {}, "–")]));
    this.standing = h("span", {}); // of the best: the fastest of a round, or confirmed
    this.progress = h("div", { class: "progress", role: "progressbar", "aria-label": "Budget used", "aria-valuemin": "0", "aria-valuemax": "100" }, h("span", {}));
    this.status = h("p", { class: "status" }, h("span", {}), h("span", { class: "num" }));
    this.legend = h("ul", { class: "legend" });
    this.best = h("div", { class: "best-schedule" });
    this.over = h("div", { class: "over" });
    this.table = new CandidateTable();
    this.quarantine = h("div", {});
    this.source = new SourceView();
    this.tabs = new Tabs("Details", [["candidates", "Candidates", this.table.element], ["quarantine", "Quarantined", this.quarantine], ["source", "C source", this.source.element]]);
    this.plot = new Plot((candidate) => this.pick(candidate));
    this.plot.element.append(this.over);
    this.view = this.assemble();
    this.said = "";
    this.ticked = null;
  }

  assemble() {
    const figure = (name, term, kind = "") => h("div", { class: kind }, h("dt", {}, term), this.figures[name]);
    return h("div", { class: "search-view" },
      h("div", { class: "search-head" },
        h("div", {}, h("div", { class: "title-line" }, this.title, this.state), this.about),
        h("dl", { class: "figures" }, figure("best", this.standing, "lead"), figure("ratio", "of NumPy"), figure("time", "time"),
          figure("rounds", "rounds"), figure("measured", "tried"), figure("bad", "quarantined"))),
      this.progress, this.status, this.plot.element, this.legend,
      h("div", { class: "best-line" }, h("h4", {}, "Best schedule"), this.best),
      this.tabs.element);
  }

  /** Draw the panel from the store. */
  draw(store) {
    const body = byId("search-body");
    if (store.searches === null) return;
    this.drawPicker(store);
    const search = store.search();
    if (!search) {
      body.replaceChildren(empty("No search was started yet.", "tinyfleet searches run gemm 512,512,512 --budget 30"));
      return;
    }
    if (this.view.parentNode !== body) body.replaceChildren(this.view);
    this.drawSearch(store, search);
    this.tick(store);
  }

  drawPicker(store) {
    const current = store.search()?.id;
    const items = store.searches.slice(0, PICKER_SHOWN).map((s) => ({ id: s.id, state: s.state, name: kernel(s.kernel), current: s.id === current }));
    keyed(byId("picker"), items, (item) => item.id, ({ id, state, name, current: isCurrent }) =>
      h("a", { href: `#search=${id}`, class: `pick ${state}`, title: `${name}: ${state}`, "aria-current": isCurrent ? "true" : null, "aria-label": `Search ${id}, ${name}, ${state}` }, `#${id}`));
  }

  drawSearch(store, search) {
    const order = store.candidatesOf === search.id ? tried(store.candidates, search.flops) : [];
    const known = references(search, store.jobs);
    this.drawHead(search);
    this.drawFigures(search, order, known);
    this.plot.update({ candidates: order.filter((c) => c.group !== "skipped"), references: known, label: describe(search, order) });
    this.drawLegend(order);
    this.drawOver(store, search, order);
    this.drawBest(search);
    const measured = order.filter((c) => c.outcome && c.group !== "skipped");
    this.table.update(measured);
    drawQuarantine(this.quarantine, order);
    this.tabs.count("candidates", measured.length);
    this.tabs.count("quarantine", order.filter((c) => QUARANTINED.has(c.outcome)).length);
    this.source.show(search.tuned_kernel_id ?? null);
    this.announceState(search);
  }

  drawHead(search) {
    setText(this.title, kernel(search.kernel));
    const chips = search.source === "cache" ? ["cache"] : [search.state];
    if (this.state.dataset.is !== chips.join()) this.state.replaceChildren(...chips.map(chip));
    this.state.dataset.is = chips.join();
    const threads = `${search.threads} thread${search.threads === 1 ? "" : "s"}`;
    setText(this.about, [`search ${search.id}`, threads, `width ${search.width}`, (search.arch ?? "any architecture").split("+")[0]].join(" · "));
    setAttribute(this.about, "title", search.arch);
  }

  drawFigures(search, order, known) {
    const best = rate(search.flops, search.best_s);
    const numpy = known.find((reference) => reference.name === "NumPy");
    setText(this.standing, search.state === "done" ? "GFLOP/s, confirmed" : "GFLOP/s, best so far");
    setText(this.figures.best, gflops(best));
    setText(this.figures.time, seconds(search.best_s));
    setText(this.figures.ratio, best && numpy ? `${(best / numpy.gflops).toFixed(2)}×` : "–");
    setText(this.figures.rounds, search.rounds);
    setText(this.figures.measured, search.measured);
    setText(this.figures.bad, order.filter((c) => QUARANTINED.has(c.outcome)).length);
  }

  drawLegend(order) {
    const counts = LEGEND.map(([group, name]) => ({ group, name, count: order.filter((c) => c.group === group).length }));
    keyed(this.legend, counts, (item) => item.group, ({ group, name, count }) =>
      h("li", { class: `${group}${count === 0 ? " none" : ""}` }, h("i", { "aria-hidden": "true" }), name, h("b", {}, String(count))));
  }

  /** What to say in the plot's place when there is nothing to plot. */
  drawOver(store, search, order) {
    this.over.hidden = order.length > 0;
    const origin = store.kernels?.find((tuned) => tuned.id === search.tuned_kernel_id)?.search_id;
    const by = origin ? ` by search ${origin}` : "";
    if (store.candidatesOf !== search.id) setText(this.over, "Reading the candidates…");
    else if (search.source === "cache") setText(this.over, `Answered from the cache: this kernel was tuned${by}, nothing was measured again.`);
    else if (ACTIVE_SEARCH.has(search.state)) setText(this.over, search.state === "queued" ? "Waiting for a node." : "Making the first candidates…");
    else setText(this.over, search.error || "No candidate was measured.");
  }

  drawBest(search) {
    const stamp = JSON.stringify(search.best_schedule);
    if (this.best.dataset.is === stamp) return;
    this.best.dataset.is = stamp;
    this.best.replaceChildren(search.best_schedule ? opts(search.best_schedule) : h("p", { class: "muted" }, "None verified yet."));
  }

  /** What moves with the clock: called every second. */
  tick(store) {
    const search = store.search();
    if (!search) return;
    const elapsed = elapsedNow(search, store);
    const share = ACTIVE_SEARCH.has(search.state) ? Math.min(1, elapsed / search.budget_s) : 1;
    setAttribute(this.progress, "aria-valuenow", Math.round(share * 100));
    setAttribute(this.progress, "class", `progress ${search.state}${this.ticked === search.id ? " smooth" : ""}`);
    this.progress.firstElementChild.style.transform = `scaleX(${share})`;
    this.ticked = search.id; // a bar that has just been drawn does not grow from nothing
    setText(this.status.firstElementChild, status(search));
    setText(this.status.lastElementChild, spent(search, elapsed));
  }

  pick(candidate) {
    this.tabs.select("candidates");
    this.table.pick(candidate.hash);
  }

  announceState(search) {
    const now = `Search ${search.id}: ${words(search.state)}`;
    if (this.said && this.said !== now) announce(now);
    this.said = now;
  }
}

function elapsedNow(search, store) {
  if (search.state !== "running" || !search.started_at) return search.elapsed_s;
  return Math.max(search.elapsed_s, store.now() - epoch(search.started_at));
}

function status(search) {
  if (search.error) return search.error;
  if (search.source === "cache") return "answered from the cache";
  if (search.state === "running") return `round ${search.rounds}: ${PHASES[search.phase] ?? search.phase ?? "starting"}`;
  if (search.state === "queued" && search.reason) return search.reason;
  return { queued: "waiting for a node", done: "confirmed at full shape" }[search.state] ?? words(search.state);
}

const PHASES = {
  expand: "making candidates", measure: "compiling, verifying, timing", confirm: "confirming the best at full shape", "": "starting",
};

function describe(search, order) {
  const best = rate(search.flops, search.best_s);
  return `${kernel(search.kernel)}: ${order.length} candidates in ${search.rounds} rounds, best ${gflops(best)} GFLOP/s. The table below has every value.`;
}
