/** The page of boxes: read the stock and the verdicts, follow their events, draw what changed. */

import { ApiError, adoptToken, all, get } from "/console/api.js";
import { boxRow, matches, tally, tallyRow, tickAges, verdictRow } from "/console/boxes.js";
import { byId, empty, h, keyed, setText } from "/console/dom.js";
import { skeleton } from "/console/parts.js";
import { keepReading } from "/console/rereading.js";

const DRAWN = 500; // boxes at a time: the rest is found by looking for it

adoptToken(location, history, sessionStorage);
const page = { boxes: [], counts: [], verdicts: [], refusal: "" };
byId("find").addEventListener("input", () => drawStock());
keepReading({
  prepare: () => byId("verdicts").replaceChildren(...skeleton("li", 2)),
  read,
  draw,
  concerns: (subject) => /^(box|acceptance|node):/.test(subject),
  tick: tickAges,
});

async function read() {
  page.verdicts = await all("/v1/acceptances");
  await readStock();
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
