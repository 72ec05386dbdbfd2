/** The page of boxes: read the stock and the verdicts, follow their events, draw what changed. */

import { ApiError, adoptToken, all, get, list, token } from "/console/api.js";
import { boxRow, matches, tally, tallyRow, tickAges, verdictRow } from "/console/boxes.js";
import { byId, empty, h, keyed, setAttribute, setText } from "/console/dom.js";
import { follow } from "/console/events.js";
import { skeleton } from "/console/parts.js";

const SETTLE_MS = 300; // several events of one moment make one reading
const SAFETY_MS = 30000;
const DRAWN = 500; // boxes at a time: the rest is found by looking for it

adoptToken(location, history, sessionStorage);
const page = { boxes: [], counts: [], verdicts: [], refusal: "", timer: null, busy: false, again: false };
start();

async function start() {
  if (!token.get()) return say("Sign in first: open /console.");
  byId("verdicts").replaceChildren(...skeleton("li", 2));
  byId("find").addEventListener("input", () => drawStock());
  const stop = new AbortController();
  await read();
  setInterval(() => tickAges(Date.now() / 1000), 1000);
  setInterval(() => { if (!document.hidden) touch(); }, SAFETY_MS);
  const newest = await list("/v1/events", 1).catch(() => []);
  return follow({
    after: newest.at(-1)?.id ?? 0,
    signal: stop.signal,
    onEvent: (event) => { if (/^(box|acceptance|node):/.test(event.subject)) touch(); },
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
    page.verdicts = await all("/v1/acceptances");
    await readStock();
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

/** The stock is for those who operate nodes; others see the verdicts alone. */
async function readStock() {
  try {
    [page.boxes, page.counts] = await Promise.all([all("/v1/boxes", 20000), get("/v1/boxes/counts").then(({ items }) => items)]);
    page.refusal = "";
  } catch (problem) {
    if (!(problem instanceof ApiError) || problem.status !== 403) throw problem;
    page.refusal = "The stock is shown to those who operate nodes.";
  }
}

function draw() {
  drawStock();
  drawVerdicts();
  tickAges(Date.now() / 1000);
}

function drawStock() {
  const verdicts = new Map(page.verdicts.map((verdict) => [verdict.node, verdict]));
  const found = page.boxes.filter((box) => matches(box, byId("find").value.trim()));
  const shown = found.slice(0, DRAWN).map((box) => ({ box, verdict: verdicts.get(box.node) ?? null }));
  keyed(byId("boxes"), shown, ({ box }) => box.id, boxRow);
  keyed(byId("tally"), tally(page.counts), ({ model }) => model, tallyRow);
  setText(byId("stock-count"), found.length === page.boxes.length ? found.length : `${found.length} of ${page.boxes.length}`);
  setText(byId("stock-told"), page.refusal || told(found.length));
  tickAges(Date.now() / 1000);
}

function told(found) {
  if (page.boxes.length === 0) return "There is no box yet: tinyfleet stock add SERIAL --model MODEL";
  if (found === 0) return "No box is like that.";
  return found > DRAWN ? `${found - DRAWN} more: say more of what you look for.` : "";
}

function drawVerdicts() {
  const refusedFirst = [...page.verdicts].sort((a, b) => rank(a) - rank(b) || (a.node < b.node ? -1 : 1));
  setText(byId("verdicts-count"), page.verdicts.length);
  if (refusedFirst.length === 0) {
    return byId("verdicts").replaceChildren(h("li", {}, empty("No node was held against a model yet.", "tinyfleet nodes accept NODE --model MODEL")));
  }
  return keyed(byId("verdicts"), refusedFirst, (verdict) => verdict.node, verdictRow);
}

const rank = (verdict) => ["refused", "measuring", "accepted"].indexOf(verdict.state);

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
