/** The nouns of the API: their states, and what can be worked out from one answer. No page, no requests. */

import { clock } from "/console/format.js";

export const ACTIVE_JOB = new Set(["leased", "running", "cancelling"]);
export const ACTIVE_SEARCH = new Set(["queued", "running"]);
export const QUARANTINED = new Set(["wrong", "out_of_bounds", "crashed", "hung"]);
const UNBUILT = new Set(["illegal", "compile_failed"]);

const TONES = {
  succeeded: "good", done: "good", online: "good", ready: "good", ok: "ok",
  running: "ok", leased: "ok", cancelling: "warn", draining: "warn", drained: "warn", late: "warn",
  queued: "idle", blocked: "idle", paused: "idle", cancelled: "idle", slow: "idle", retired: "idle", enrolled: "idle",
  failed: "bad", unreachable: "bad", lost: "bad", wrong: "bad", out_of_bounds: "bad", crashed: "bad", hung: "bad",
  active: "good", requested: "warn", revoking: "warn", revoked: "idle", denied: "bad", expired: "idle",
  illegal: "idle", compile_failed: "warn", skipped: "idle", waiting: "idle", missed: "warn",
  failing: "bad", stalled: "bad", regressed: "bad",
  accepted: "good", refused: "bad", measuring: "warn", not_ok: "bad",
  installed: "good", stored: "ok", ordered: "idle", repair: "warn", scrapped: "idle",
};

/** The tone of a state or outcome: good, ok, warn, bad or idle. */
export const tone = (state) => TONES[state] ?? "idle";

/** RFC 3339 → epoch seconds. */
export const epoch = (timestamp) => Date.parse(timestamp) / 1000;

/** A candidate's group in plot and legend: ok, slow, quarantined, unbuilt, skipped or waiting. */
export function group(candidate) {
  if (!candidate.outcome) return "waiting";
  if (QUARANTINED.has(candidate.outcome)) return "quarantined";
  if (UNBUILT.has(candidate.outcome)) return "unbuilt";
  return candidate.outcome;
}

/** GFLOP/s of a time for the search's kernel; null when either is unknown. */
export function rate(flops, time) {
  return flops && time ? flops / time / 1e9 : null;
}

/** The same kernel given in two ways has one key: named programs default to float32. */
export function kernelKey(reference) {
  if (!reference) return "";
  if (reference.program) return JSON.stringify([reference.program, reference.shape, reference.dtype ?? "float32"]);
  return reference.hash ?? JSON.stringify(reference.json ?? null);
}

const REFERENCES = { none: "unoptimized", heuristic: "heuristic", numpy: "NumPy" };

/** Reference rates for a search, from the newest kernel jobs on the same kernel and thread count. */
export function references(search, jobs) {
  const found = new Map();
  for (const job of jobs ?? []) {
    if (job.kind !== "kernel" || job.state !== "succeeded" || !sameKernel(search, job)) continue;
    for (const row of job.result?.rows ?? []) {
      if (row.name in REFERENCES && row.gflops && !found.has(row.name)) found.set(row.name, row.gflops);
    }
  }
  return [...found].map(([name, gflops]) => ({ name: REFERENCES[name], gflops }));
}

function sameKernel(search, job) {
  const hash = job.result?.kernel_hash;
  const same = hash && hash === search.kernel_hash ? true : kernelKey(job.spec.kernel) === kernelKey(search.kernel);
  return same && (job.spec.threads ?? 1) === search.threads;
}

/** Candidates in the order in which they were tried, each with its rate. */
export function tried(candidates, flops) {
  return [...candidates]
    .sort((a, b) => a.round - b.round || a.score - b.score || (a.hash < b.hash ? -1 : 1))
    .map((candidate) => ({ ...candidate, group: group(candidate), gflops: rate(flops, candidate.time_s) }));
}

/** The best row of a kernel job's result: its own row, which comes first. */
export const mainRow = (job) => job.result?.rows?.[0] ?? null;

/** What a search has used of its budget. The last round and the confirmation may outlast it: then it is used, and
 * what goes on is named. */
export function spent(search, elapsed) {
  const budget = `${search.budget_s} s`;
  if (search.source === "cache") return "";
  if (search.state === "queued") return `budget ${budget}`;
  if (!ACTIVE_SEARCH.has(search.state)) return `took ${clock(elapsed)}, budget ${budget}`;
  const used = elapsed < search.budget_s ? `${clock(elapsed)} of ${budget}` : `budget ${budget} used`;
  if (search.phase === "confirm") return `${used} · confirming`;
  return elapsed < search.budget_s ? used : `${used} · ending the round`;
}
