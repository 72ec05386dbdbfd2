/** The console: sign in, follow the fleet, draw what changed. */

import { drawActivity, tickActivity } from "/console/activity.js";
import { ApiError, adoptToken, get, list, token } from "/console/api.js";
import { byId, setText } from "/console/dom.js";
import { follow } from "/console/events.js";
import { drawJobs, tickJobs } from "/console/jobs.js";
import { drawKernels } from "/console/kernels.js";
import { drawNodes } from "/console/nodes.js";
import { SearchPanel } from "/console/searches.js";
import { Store } from "/console/store.js";
import { drawSummary } from "/console/summary.js";

const RECENT_EVENTS = 200;

adoptToken(location, history, sessionStorage);
byId("sign-in").addEventListener("submit", signIn);
addEventListener("hashchange", () => { if (location.hash.includes("token=")) location.reload(); });
if (token.get()) start();
else askForToken("");

function askForToken(problem) {
  for (const id of ["fleet", "summary", "session"]) byId(id).hidden = true;
  byId("sign-in").hidden = false;
  setText(byId("sign-in-problem"), problem);
  byId("token").focus();
}

async function signIn(event) {
  event.preventDefault();
  token.set(byId("token").value.trim());
  try {
    await get("/v1/whoami");
  } catch (problem) {
    token.clear();
    return askForToken(problem.status === 401 ? "This token is not known, has expired or was revoked." : problem.message);
  }
  byId("token").value = "";
  return start();
}

function start() {
  for (const id of ["fleet", "summary", "session"]) byId(id).hidden = false;
  byId("sign-in").hidden = true;
  const store = new Store();
  const panel = new SearchPanel();
  const stop = new AbortController();
  const leave = (reason) => {
    stop.abort();
    store.stop();
    token.clear();
    askForToken(reason);
  };
  store.onRefused = () => leave("The token was refused. Sign in again.");
  byId("sign-out").addEventListener("click", () => leave(""), { signal: stop.signal });
  store.subscribe(() => draw(store, panel));
  store.chosen = chosenSearch();
  addEventListener("hashchange", () => store.choose(chosenSearch()), { signal: stop.signal });
  document.addEventListener("visibilitychange", () => store.tick(), { signal: stop.signal });
  const timer = setInterval(() => tick(store, panel), 1000);
  stop.signal.addEventListener("abort", () => clearInterval(timer));
  draw(store, panel);
  store.touch("nodes", "jobs", "searches", "kernels");
  followEvents(store, stop.signal);
}

/** The search named in the address: #search=3. */
function chosenSearch() {
  const id = Number(new URLSearchParams(location.hash.slice(1)).get("search"));
  return id > 0 ? id : null;
}

async function followEvents(store, signal) {
  let after = null;
  try {
    const recent = await list("/v1/events", RECENT_EVENTS); // without a cursor: the newest ones
    recent.forEach((event) => store.hear(event));
    after = recent.at(-1)?.id ?? 0;
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
  }
  await follow({
    after, signal,
    onEvent: (event) => store.hear(event),
    onLink: (link) => store.setLink(link),
    onRefused: () => store.onRefused(),
  });
}

function draw(store, panel) {
  drawSummary(store);
  drawNodes(store);
  drawJobs(store);
  drawKernels(store);
  drawActivity(store);
  panel.draw(store);
  byId("problem").hidden = store.problem === "";
  setText(byId("problem"), store.problem);
}

function tick(store, panel) {
  store.tick();
  tickJobs(store);
  tickActivity(store);
  panel.tick(store);
}
