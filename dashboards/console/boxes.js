/** The stock as rows, how many there are of what, and the verdicts on nodes; all lines of a verdict in a dialog. */

import { byId, h } from "/console/dom.js";
import { ago } from "/console/format.js";
import { epoch } from "/console/nouns.js";
import { chip, fact } from "/console/parts.js";

/** A box of the stock; `verdict`: what its node was found to be, if it was. */
export function boxRow({ box, verdict }) {
  return h("tr", {},
    h("th", { scope: "row" }, box.serial), h("td", {}, box.model), h("td", {}, chip(box.state)),
    h("td", { class: "muted", "data-since": box.state_at }, ""), h("td", {}, box.place || "–"), h("td", {}, box.node ?? "–"),
    h("td", {}, verdict ? chip(verdict.state) : "–"), h("td", { class: "muted note", title: box.note }, box.note));
}

/** Ages: called every second, touching only text. */
export function tickAges(now) {
  for (const cell of document.querySelectorAll("[data-since]")) {
    const text = ago(epoch(cell.dataset.since), now);
    if (cell.textContent !== text) cell.textContent = text;
  }
}

/** True when what is looked for is in what the box says of itself; several words all have to be. */
export function matches(box, looked) {
  const said = [box.serial, box.model, box.state, box.place, box.node ?? "", box.note].join(" ").toLowerCase();
  return looked.toLowerCase().split(/\s+/).every((word) => said.includes(word));
}

/** How many there are of each model in each state: counts as the API has them, by place too. */
export function tally(counts) {
  const models = new Map();
  for (const { model, state, boxes } of counts) {
    const states = models.get(model) ?? new Map();
    models.set(model, states.set(state, (states.get(state) ?? 0) + boxes));
  }
  return [...models].map(([model, states]) => ({ model, states: [...states] }));
}

export function tallyRow({ model, states }) {
  return h("li", {}, h("b", {}, model), ...states.flatMap(([state, boxes]) => [chip(state), h("span", { class: "num" }, String(boxes))]));
}

/** A node that was held against a model: the verdict, and the first line that is not ok. */
export function verdictRow(verdict) {
  const wrong = verdict.lines.filter((line) => !line.ok);
  return h("li", { class: "row" },
    h("b", {}, verdict.node), chip(verdict.state),
    h("span", { class: "grow" }, h("span", {}, verdict.model), h("span", { class: "muted" }, ` · ${inShort(verdict, wrong)}`)),
    h("time", { class: "num", datetime: when(verdict), "data-since": when(verdict) }, ""),
    h("button", { type: "button", class: "quiet", onclick: () => openLines(verdict), "aria-label": `${verdict.node}: every limit` }, "Every limit"));
}

const when = (verdict) => verdict.decided_at ?? verdict.asked_at;

function inShort(verdict, wrong) {
  if (verdict.state === "measuring") return `its burn-ins run, asked for by ${verdict.asked_by}`;
  if (wrong.length === 0) return `${verdict.lines.length} limits kept`;
  const [{ what, want, have }] = wrong;
  const more = wrong.length > 1 ? `; and ${wrong.length - 1} more` : "";
  return `${what}: ${have}, not ${want}${more}`;
}

function openLines(verdict) {
  const dialog = byId("lines-dialog");
  dialog.replaceChildren(h("div", { class: "dialog-body" },
    h("header", { class: "dialog-head" }, h("h2", { id: "lines-title" }, verdict.node), chip(verdict.state),
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close")),
    h("dl", { class: "facts-grid" }, fact("Model", verdict.model), fact("Asked for by", verdict.asked_by),
      fact("Asked for", new Date(verdict.asked_at).toLocaleString()),
      fact("Decided", verdict.decided_at ? new Date(verdict.decided_at).toLocaleString() : "not yet")),
    h("div", { class: "scroll" }, h("table", { class: "results" },
      h("thead", {}, h("tr", {}, ...["What", "Verdict", "Wanted", "There is", "What to do"].map((name) => h("th", { scope: "col" }, name)))),
      h("tbody", {}, ...[...verdict.lines].sort((a, b) => Number(a.ok) - Number(b.ok)).map(lineRow))))));
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); }; // outside of it
  if (!dialog.open) dialog.showModal();
}

function lineRow(line) {
  return h("tr", {}, h("th", { scope: "row" }, line.what), h("td", {}, chip(line.ok ? "ok" : "not_ok")),
    h("td", {}, line.want), h("td", {}, line.have), h("td", { class: "muted" }, line.fix));
}
