/** The activity list: events as sentences, without the steps that only the controllers care for. */

import { byId, empty, h, keyed, setText } from "/console/dom.js";
import { ago, seconds, words } from "/console/format.js";
import { epoch } from "/console/nouns.js";

const SHOWN = 40;
const QUIET = /^(attempt|lease|device)\.|^job\.leased$|^node\.booted$/;

/** What to say of an event, by kind: a verb and a detail. Of other kinds: the last word, and the thing's name. */
const SENTENCES = {
  "search.proposed": ({ round, candidates }) => ["tries", `${candidates} in round ${round}`],
  "search.round": ({ round, counts }) => [`round ${round}`, tally(counts)],
  "search.confirming": ({ candidates }) => ["confirms", `the best ${candidates?.length ?? ""}`],
  "kernel.tuned": ({ time_s }) => ["tuned", seconds(time_s)],
};

const tally = (counts) => Object.entries(counts ?? {}).map(([name, count]) => `${count} ${words(name)}`).join(", ");

/** Draw what happened lately, newest first. */
export function drawActivity(store) {
  const parent = byId("activity");
  const events = store.events.filter((event) => isShown(event, store)).slice(0, SHOWN);
  if (events.length === 0) {
    return parent.replaceChildren(h("li", {}, empty(store.link === "connecting" ? "Reading…" : "Nothing has happened since.")));
  }
  keyed(parent, events.map((event) => ({ event, name: nameOf(event, store) })), ({ event }) => event.id, row);
  return tickActivity(store);
}

/** Steps of attempts are quiet, and so are the jobs that searches make (the list of jobs has none of them). */
function isShown(event, store) {
  const [noun, id] = subject(event);
  if (QUIET.test(event.kind)) return false;
  return noun !== "job" || (store.jobs ?? []).some((job) => String(job.id) === id);
}

const subject = (event) => event.subject.split(/[:/]/);

function nameOf(event, store) {
  const [noun, id] = subject(event);
  const named = { job: store.jobs, node: store.nodes }[noun]?.find((thing) => String(thing.id) === id);
  return named?.name ?? "";
}

/** Ages: called every second. */
export function tickActivity(store) {
  const byKey = new Map(store.events.map((event) => [String(event.id), event]));
  for (const row of byId("activity").children) {
    const event = byKey.get(row.dataset.key);
    if (event) setText(row.lastElementChild, ago(epoch(event.at), store.now()));
  }
}

function row({ event, name }) {
  const [noun, id] = subject(event);
  const [verb, detail] = SENTENCES[event.kind]?.(event.data ?? {}) ?? [words(event.kind.split(".").at(-1)), name];
  return h("li", { class: "row" },
    h("span", { class: "grow" }, h("b", {}, `${noun} ${id ?? ""}`), ` ${verb} `, h("span", { class: "muted" }, detail)),
    h("time", { class: "muted num", datetime: event.at }));
}
