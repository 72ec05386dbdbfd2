/** The page of crons: read them, follow their events, draw what changed. */

import { ApiError, adoptToken, get, list, token } from "/console/api.js";
import { card, tickCards } from "/console/crons.js";
import { byId, empty, h, keyed, setAttribute, setText } from "/console/dom.js";
import { follow } from "/console/events.js";
import { skeleton } from "/console/parts.js";

const SETTLE_MS = 300; // several events of one moment make one reading
const SAFETY_MS = 30000; // what is due changes without an event
const AT_ONCE = 4; // crons read at the same time
const RUNS = 40;
const POINTS = 60;

adoptToken(location, history, sessionStorage);
const page = { shown: null, timer: null, busy: false, again: false };
start();

async function start() {
  if (!token.get()) return say("Sign in first: open /console.");
  byId("crons").replaceChildren(...skeleton("li", 3));
  const stop = new AbortController();
  await read();
  setInterval(() => tickCards(Date.now() / 1000), 1000);
  setInterval(() => { if (!document.hidden) touch(); }, SAFETY_MS);
  const newest = await list("/v1/events", 1).catch(() => []);
  return follow({
    after: newest.at(-1)?.id ?? 0,
    signal: stop.signal,
    onEvent: (event) => { if (event.subject.startsWith("cron:")) touch(); },
    onLink: (link) => drawLink(link),
    onRefused: () => { stop.abort(); refused(); },
  });
}

function touch() {
  page.timer ??= setTimeout(() => { page.timer = null; read(); }, SETTLE_MS);
}

/** Read everything anew; a reading that is asked for during another one follows it. */
async function read() {
  if (page.busy) { page.again = true; return; }
  page.busy = true;
  try {
    const crons = await list("/v1/crons", 100);
    page.shown = await inTurn(crons, readOne);
    say("");
    draw();
  } catch (problem) {
    if (!(problem instanceof ApiError)) throw problem;
    if (problem.status === 401) refused();
    else say(problem.message);
  } finally {
    page.busy = false;
  }
  if (page.again) { page.again = false; touch(); }
}

async function readOne(cron) {
  const [runs, series] = await Promise.all([
    list(`/v1/crons/${cron.id}/runs`, RUNS),
    get(`/v1/crons/${cron.id}/series?limit=${POINTS}`),
  ]);
  return { cron, runs, series: series.items };
}

/** `each` of the items, a few at the same time. */
async function inTurn(items, each) {
  const found = [];
  for (let start = 0; start < items.length; start += AT_ONCE) {
    found.push(...(await Promise.all(items.slice(start, start + AT_ONCE).map(each))));
  }
  return found;
}

function draw() {
  const parent = byId("crons");
  if (page.shown.length === 0) {
    parent.replaceChildren(h("li", {}, empty("There is no cron yet.", "tinyfleet crons add nightly '30 2 * * *' -- ./train.sh")));
    return setText(byId("told"), "");
  }
  keyed(parent, page.shown, ({ cron }) => cron.id, card);
  tickCards(Date.now() / 1000);
  const bad = page.shown.filter(({ cron }) => cron.health !== "ok" && !cron.paused).length;
  return setText(byId("told"), `${page.shown.length} crons, ${bad === 0 ? "all well" : `${bad} not well`}`);
}

function drawLink(link) {
  setAttribute(byId("link"), "data-link", link);
  setText(byId("link").firstElementChild, link);
}

function refused() {
  token.clear();
  say("The token was refused. Sign in again: open /console.");
}

function say(problem) {
  byId("problem").hidden = problem === "";
  setText(byId("problem"), problem);
}
