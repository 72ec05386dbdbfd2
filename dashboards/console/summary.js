/** The header: the fleet in four figures, and how the page is connected. */

import { byId, setAttribute, setText } from "/console/dom.js";
import { briefly, gflops } from "/console/format.js";
import { ACTIVE_JOB, rate } from "/console/nouns.js";

const LINKS = { connecting: "connecting", live: "live", polling: "polling", offline: "server unreachable" };

/** Draw the header from the store. */
export function drawSummary(store) {
  const nodes = store.nodes ?? [];
  const online = nodes.filter((node) => node.contact === "online").length;
  setText(byId("stat-nodes"), store.nodes ? `${online} / ${nodes.length}` : "–");
  setText(byId("stat-jobs"), store.jobs ? store.jobs.filter((job) => ACTIVE_JOB.has(job.state)).length : "–");
  setText(byId("stat-searches"), store.searches ? store.searches.filter((s) => s.state === "running").length : "–");
  const best = bestKernel(store);
  setText(byId("stat-best"), best ? `${gflops(best.gflops)} GFLOP/s` : "–");
  setText(byId("stat-best-of"), best ? briefly(best.kernel) : "");
  setAttribute(byId("link"), "data-link", store.link);
  setText(byId("link").firstElementChild, LINKS[store.link]);
}

function bestKernel(store) {
  const running = (store.searches ?? [])
    .map((search) => ({ kernel: search.kernel, gflops: rate(search.flops, search.best_s) }))
    .filter((found) => found.gflops !== null);
  const found = [...(store.kernels ?? []), ...running];
  return found.reduce((best, next) => (!best || next.gflops > best.gflops ? next : best), null);
}
