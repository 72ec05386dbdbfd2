/** The page of crons: read them, follow their events, draw what changed. */

import { adoptToken, get, list } from "/console/api.js";
import { card, tickCards } from "/console/crons.js";
import { byId, empty, h, keyed, setText } from "/console/dom.js";
import { skeleton } from "/console/parts.js";
import { keepReading } from "/console/rereading.js";

const AT_ONCE = 4; // crons read at the same time
const RUNS = 40;
const POINTS = 60;

adoptToken(location, history, sessionStorage);
const page = { shown: null };
keepReading({
  prepare: () => byId("crons").replaceChildren(...skeleton("li", 3)),
  read,
  draw,
  concerns: (subject) => subject.startsWith("cron:"),
  tick: tickCards,
});

async function read() {
  page.shown = await inTurn(await list("/v1/crons", 100), readOne);
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
