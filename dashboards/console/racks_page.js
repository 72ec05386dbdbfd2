/** The page of racks: the map of all GPUs, and the page of one node or GPU. All of it is the API's own data. */

import { ApiError, adoptToken, all, get, token } from "/console/api.js";
import { byId, setAttribute, setText } from "/console/dom.js";
import { machine } from "/console/machine.js";
import { METRICS, drawMap, drawMetrics } from "/console/racks.js";

const EVERY_MS = 5000;
const MOST_NODES = 5000;
const state = { nodes: null, racks: [], metric: METRICS[0].id, busy: false };

adoptToken(location, history, sessionStorage);
drawMetrics(state.metric, (metric) => { state.metric = metric; drawOverview(); });
addEventListener("hashchange", refresh);
document.addEventListener("visibilitychange", refresh);
setInterval(refresh, EVERY_MS);
refresh();

/** The node, and perhaps the GPU, that the address names: #node=3&gpu=gpu2. */
function chosen() {
  const named = new URLSearchParams(location.hash.slice(1));
  return { node: Number(named.get("node")) || null, gpu: named.get("gpu") };
}

async function refresh() {
  if (document.hidden || state.busy) return;
  if (!token.get()) return tell("Sign in on the fleet's page first: it keeps the token in this tab.", "offline");
  state.busy = true;
  const asked = location.hash;
  try {
    await (chosen().node ? showMachine(chosen()) : showOverview());
    tell("", "live");
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    tell(problem.message, problem.status === 0 ? "offline" : "live");
  } finally {
    state.busy = false;
  }
  if (location.hash !== asked) refresh();
}

function tell(problem, link) {
  byId("problem").hidden = problem === "";
  setText(byId("problem"), problem);
  setAttribute(byId("link"), "data-link", link);
  setText(byId("link").firstElementChild, link);
}

async function showOverview() {
  [state.nodes, state.racks] = await Promise.all([all("/v1/telemetry", MOST_NODES), all("/v1/racks", MOST_NODES)]);
  byId("overview").hidden = false;
  byId("machine").hidden = true;
  drawOverview();
}

function drawOverview() {
  if (state.nodes !== null) drawMap(state.nodes, state.racks, state.metric);
}

async function showMachine({ node, gpu }) {
  const history = await get(`/v1/nodes/${node}/telemetry`);
  byId("overview").hidden = true;
  byId("machine").hidden = false;
  byId("machine").replaceChildren(...machine(history, gpu));
}
