/** The jobs table, and one job's details in a dialog. */

import { get, text } from "/console/api.js";
import { byId, empty, h, keyed, setText } from "/console/dom.js";
import { ago, briefly, clock, error, gflops, kernel, seconds, words } from "/console/format.js";
import { ACTIVE_JOB, epoch, mainRow } from "/console/nouns.js";
import { bar, chip, fact, opts, skeleton } from "/console/parts.js";
import { duration } from "/console/store.js";

const LOG_SHOWN = 20_000; // characters from the end
const COLUMNS = 7;
const ROW_NAMES = { none: "unoptimized", given: "as given", numpy: "NumPy" };

/** Draw the table from the store. */
export function drawJobs(store) {
  const body = byId("jobs").tBodies[0];
  if (store.jobs === null) return body.replaceChildren(...skeletonRows());
  setText(byId("jobs-count"), store.jobs.length || "");
  if (store.jobs.length === 0) return body.replaceChildren(emptyRow());
  keyed(body, store.jobs, (job) => job.id, row);
  return tickJobs(store);
}

/** Durations and ages: called every second, touching only text. */
export function tickJobs(store) {
  for (const row of byId("jobs").tBodies[0].rows) {
    const job = (store.jobs ?? []).find((one) => String(one.id) === row.dataset.key);
    if (!job) continue;
    const spent = duration(job, store.now());
    setText(row.cells[3], spent === null ? "–" : clock(spent));
    setText(row.cells[6], ago(epoch(job.created_at), store.now()));
  }
}

function skeletonRows() {
  return skeleton("tr", 3).map((tr) => (tr.replaceChildren(h("td", { colspan: COLUMNS }, "\u00a0")), tr));
}

function emptyRow() {
  return h("tr", {}, h("td", { colspan: COLUMNS }, empty("No job was submitted yet.", "tinyfleet jobs submit gemm 512,512,512")));
}

function row(job) {
  return h("tr", { class: ACTIVE_JOB.has(job.state) ? "active" : job.state },
    h("td", { class: "num" }, h("button", { type: "button", class: "as-link", onclick: () => openJob(job), "aria-label": `Job ${job.id}: details` }, String(job.id))),
    h("td", { class: "grow" }, h("span", { class: "name" }, job.name ?? title(job)), job.name ? h("span", { class: "muted" }, title(job)) : null),
    h("td", {}, chip(job.state)),
    h("td", { class: "num" }),
    h("td", { class: "grow" }, summary(job)),
    h("td", {}, job.ran_on ?? job.node ?? h("span", { class: "muted" }, job.finished_at ? "–" : "any")),
    h("td", { class: "num muted" }));
}

const title = (job) => (job.spec.kernel ? briefly(job.spec.kernel) : job.kind);

/** One line: the rate and error of a kernel, or why it failed or waits. To be cancelled is no failure. */
function summary(job) {
  const best = mainRow(job);
  if (job.state === "succeeded" && best?.gflops) {
    return h("span", {}, h("b", {}, `${gflops(best.gflops)} GFLOP/s`), h("span", { class: "muted", title: `tolerance ${error(best.tolerance)}` }, `max error ${error(best.max_error)}`));
  }
  if (job.error) return h("span", { class: `${job.state === "cancelled" ? "muted" : "problem"} one-line`, title: job.error }, job.error);
  return h("span", { class: "muted" }, job.reason || (job.outcome ? words(job.outcome) : ""));
}

/** Open the dialog on a job; attempts and log are read then. */
async function openJob(job) {
  const dialog = byId("job-dialog");
  const attempts = h("div", {}, ...skeleton("p", 2));
  const log = h("pre", { class: "log", tabindex: "0", "aria-label": "Log" }, "Reading the log…");
  dialog.replaceChildren(h("div", { class: "dialog-body" }, head(job, dialog), facts(job), results(job), problem(job),
    h("h3", {}, "Attempts"), attempts, h("h3", {}, "Log of the last attempt"), log));
  dialog.onclick = (event) => { if (event.target === dialog) dialog.close(); }; // outside of it
  if (!dialog.open) dialog.showModal();
  await Promise.all([readAttempts(job, attempts), readLog(job, log)]);
}

function head(job, dialog) {
  return h("header", { class: "dialog-head" },
    h("h2", { id: "job-title" }, `Job ${job.id}`), h("span", { class: "name" }, job.name ?? ""), chip(job.state),
    h("button", { type: "button", class: "quiet", onclick: () => dialog.close() }, "Close"));
}

function facts(job) {
  const spec = job.spec;
  return h("dl", { class: "facts-grid" },
    fact("Kind", job.kind), fact("Kernel", spec.kernel ? kernel(spec.kernel) : "–"), fact("Threads", String(spec.threads ?? "–")),
    fact("Seed", String(spec.seed ?? "–")), fact("Attempts", `${job.attempts} of ${job.max_retries + 1}`), fact("Submitted", new Date(job.created_at).toLocaleString()));
}

function results(job) {
  const rows = job.result?.rows ?? [];
  if (rows.length === 0) return h("div", {});
  const most = Math.max(...rows.map((row) => row.gflops ?? 0), 1e-9);
  return h("table", { class: "results" },
    h("thead", {}, h("tr", {}, ...["Schedule", "GFLOP/s", "", "Best time", "Max error", "Outcome"].map((name) => h("th", { scope: "col" }, name)))),
    h("tbody", {}, ...rows.map((row) => h("tr", {},
      h("th", { scope: "row" }, ROW_NAMES[row.name] ?? row.name), h("td", { class: "num" }, gflops(row.gflops)), h("td", { class: "wide" }, bar((row.gflops ?? 0) / most)),
      h("td", { class: "num" }, seconds(row.best_s)), h("td", { class: "num", title: `tolerance ${error(row.tolerance)}` }, error(row.max_error)),
      h("td", {}, chip(row.outcome))))),
    h("caption", {}, opts(rows[0].schedule)));
}

const problem = (job) => (job.error ? h("pre", { class: "log problem" }, job.error) : h("div", {}));

async function readAttempts(job, parent) {
  try {
    const { items } = await get(`/v1/jobs/${job.id}/attempts`);
    const lines = items.map((attempt) => h("li", {},
      h("b", {}, `#${attempt.number}`), chip(attempt.outcome ?? attempt.state), `${attempt.node} / ${attempt.device}`,
      h("span", { class: "muted" }, attempt.elapsed_s ? clock(attempt.elapsed_s) : ""), attempt.error ? h("span", { class: "problem" }, attempt.error) : null));
    parent.replaceChildren(items.length ? h("ol", { class: "attempts" }, ...lines) : h("p", { class: "muted" }, "None yet."));
  } catch (failure) {
    parent.replaceChildren(h("p", { class: "problem" }, failure.message));
  }
}

async function readLog(job, pre) {
  try {
    const log = await text(`/v1/jobs/${job.id}/logs`);
    setText(pre, log.length > LOG_SHOWN ? `…${log.slice(-LOG_SHOWN)}` : log || "The log is empty.");
  } catch (failure) {
    setText(pre, failure.message);
  }
}
