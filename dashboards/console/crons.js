/** One cron as a card: how it stands, its last runs as a strip, its numbers as sparklines; all its runs in a dialog. */

import { all } from "/console/api.js";
import { byId, h } from "/console/dom.js";
import { ago, significant, words } from "/console/format.js";
import { epoch, tone } from "/console/nouns.js";
import { chip, fact } from "/console/parts.js";
import { spark } from "/console/spark.js";

const STRIP = 40;
const SERIES_SHOWN = 6;
const WAYS = { lower: "lower is better", higher: "higher is better" };

/** `shown`: { cron, runs (newest first), series }. */
export function card({ cron, runs, series }) {
  return h("li", { class: `card cron health-${cron.health}` },
    h("header", { class: "card-head" }, h("h3", {}, cron.name), cron.paused ? chip("paused") : chip(cron.health)),
    h("p", { class: "when" }, h("code", {}, cron.schedule), ` ${cron.timezone}`, h("span", { class: "muted", "data-due": cron.upcoming[0] ?? "" })),
    cron.health_reason ? h("p", { class: "problem one-line", title: cron.health_reason }, cron.health_reason) : null,
    strip(runs),
    numbers(series),
    h("button", { type: "button", class: "quiet", onclick: () => openRuns(cron), "aria-label": `${cron.name}: all runs` }, "All runs"));
}

/** Ages of what is due: called every second, touching only text. */
export function tickCards(now) {
  for (const span of document.querySelectorAll("#crons [data-due]")) {
    const due = span.dataset.due;
    span.textContent = due === "" ? "" : ` · due ${inAWhile(epoch(due) - now)}`;
  }
}

/** "in 12 m": how long until then, coarsely. */
export function inAWhile(seconds) {
  if (seconds <= 0) return "now";
  if (seconds < 90) return `in ${Math.ceil(seconds)} s`;
  if (seconds < 5400) return `in ${Math.round(seconds / 60)} m`;
  if (seconds < 129600) return `in ${Math.round(seconds / 3600)} h`;
  return `in ${Math.round(seconds / 86400)} d`;
}

/** The last runs, oldest first: a mark each, whose word is in its title. */
function strip(runs) {
  if (runs.length === 0) return h("p", { class: "muted" }, "It has not run yet.");
  const shown = runs.slice(0, STRIP).reverse();
  const counted = tally(shown);
  return h("ol", { class: "strip", "aria-label": `The last ${shown.length} runs: ${counted}` }, ...shown.map((run) =>
    h("li", { class: `run ${mark(run)}`, title: `${when(run)}: ${said(run)}` })));
}

function tally(runs) {
  const counts = new Map();
  for (const run of runs) counts.set(said(run), (counts.get(said(run)) ?? 0) + 1);
  return [...counts].map(([word, count]) => `${count} ${word}`).join(", ");
}

const said = (run) => (run.regressed ? "regressed" : words(run.state));
const mark = (run) => (run.regressed ? "regressed" : `${run.state} ${tone(run.state)}`);
const when = (run) => new Date(run.scheduled_at).toLocaleString();

/** Watched series first; the others follow as far as there is room. */
function numbers(series) {
  const ordered = [...series].sort((a, b) => Number(b.watched !== null) - Number(a.watched !== null) || (a.name < b.name ? -1 : 1));
  const shown = ordered.filter((one) => one.points.length > 0).slice(0, SERIES_SHOWN);
  if (shown.length === 0) return null;
  return h("ul", { class: "series" }, ...shown.map((one) => {
    const last = one.points.at(-1);
    return h("li", {},
      h("span", { class: "name", title: one.watched ? `${WAYS[one.watched.better]}, tolerance ${one.watched.tolerance * 100} %` : "not compared" }, one.name),
      spark(one), h("b", { class: "num" }, significant(last.value)),
      one.watched ? h("span", { class: `verdict ${last.verdict}` }, last.verdict) : h("span", { class: "muted" }, ""));
  }));
}

/** Open the dialog on a cron's runs; they are read then. */
async function openRuns(cron) {
  const dialog = byId("runs-dialog");
  const body = h("tbody", {});
  const told = h("p", { class: "muted" }, "Reading…");
  dialog.replaceChildren(h("div", { class: "dialog-body" },
    h("header", { class: "dialog-head" }, h("h2", { id: "runs-title" }, cron.name), chip(cron.paused ? "paused" : cron.health),
      h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close")),
    facts(cron), told,
    h("table", { class: "results" }, h("thead", {}, h("tr", {}, ...["Due", "State", "Job", "Why"].map((name) => h("th", { scope: "col" }, name)))), body)));
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); }; // outside of it
  if (!dialog.open) dialog.showModal();
  try {
    const runs = await all(`/v1/crons/${cron.id}/runs`, 200);
    body.replaceChildren(...runs.map(runRow));
    told.textContent = runs.length === 0 ? "It has not run yet." : "";
  } catch (failure) {
    told.textContent = failure.message;
  }
}

function facts(cron) {
  return h("dl", { class: "facts-grid" },
    fact("Schedule", `${cron.schedule}, ${cron.timezone}`), fact("While one runs", words(cron.overlap)), fact("Missed times", words(cron.catch_up)),
    fact("Last success", cron.last_success_at ? ago(epoch(cron.last_success_at), Date.now() / 1000) : "–"), fact("Failed in a row", String(cron.failures)), fact("Added by", cron.created_by));
}

function runRow(run) {
  return h("tr", {}, h("th", { scope: "row" }, when(run)), h("td", {}, chip(run.regressed ? "regressed" : run.state)),
    h("td", { class: "num" }, run.job_id === null ? "–" : String(run.job_id)), h("td", {}, run.error || run.reason || (run.by ? `asked for by ${run.by}` : "")));
}
