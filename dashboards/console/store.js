/**
 * What the page knows, and when it asks again. Events are hints: they say which noun to read anew and carry nothing
 * that is shown except the activity list. While the stream is down, everything is read every two seconds.
 */

import { ApiError, all, get, list, request } from "/console/api.js";
import { ACTIVE_JOB, ACTIVE_SEARCH, epoch } from "/console/nouns.js";

const SETTLE_MS = 150; // several events of one moment make one request
const POLL_MS = 2000; // without the stream
const SAFETY_MS = 15000; // with it: a node that falls silent makes no event at once
const RUNNING_MS = 1500; // the search on show, while it runs
const EVENTS_KEPT = 200;
const NEWEST_JOBS = 15;
const NOUNS = ["nodes", "jobs", "searches", "kernels"];

export class Store {
  constructor() {
    Object.assign(this, { nodes: null, jobs: null, searches: null, kernels: null, events: [] });
    Object.assign(this, { chosen: null, candidates: [], candidatesOf: null, attempts: new Map() });
    Object.assign(this, { link: "connecting", problem: "", skew: 0, readAt: 0, searchReadAt: 0 });
    this.listeners = [];
    this.dirty = new Set();
    this.timer = null;
    this.busy = false;
    this.streams = false;
    this.stopped = false;
  }

  /** Ask for nothing more, and say nothing more. */
  stop() {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  /** Call `listener(store)` after every change. */
  subscribe(listener) {
    this.listeners.push(listener);
  }

  changed() {
    if (this.stopped) return;
    for (const listener of this.listeners) listener(this);
  }

  /** The server's clock, epoch seconds. */
  now() {
    return Date.now() / 1000 + this.skew;
  }

  /** The search on show: the chosen one, else the newest that runs, that measured something, or at all. */
  search() {
    const searches = this.searches ?? [];
    const chosen = searches.find((search) => search.id === this.chosen);
    const running = searches.find((search) => ACTIVE_SEARCH.has(search.state));
    return chosen ?? running ?? searches.find((search) => search.measured > 0) ?? searches[0] ?? null;
  }

  /** Show search `id` from now on; null follows the newest. */
  choose(id) {
    if (this.chosen === id) return;
    this.chosen = id;
    this.touch("search");
    this.changed();
  }

  /** An event arrived: keep it for the activity list, and read its noun anew. */
  hear(event) {
    this.events = [event, ...this.events.filter((known) => known.id !== event.id)].slice(0, EVENTS_KEPT);
    const noun = event.subject.split(/[:/]/)[0];
    if (noun === "search") this.touch("searches", "kernels");
    else if (noun === "job" || noun === "attempt" || noun === "lease") this.touch("jobs", "nodes");
    else if (noun === "node" || noun === "device") this.touch("nodes");
    else this.touch(...NOUNS);
    this.changed();
  }

  /** The stream is "live", or it is not and how the page lives without it. */
  setLink(link) {
    this.streams = link === "live";
    if (this.link === link) return;
    this.link = link;
    if (link === "live") this.touch(...NOUNS);
    this.changed();
  }

  /** Ask for nouns again soon. */
  touch(...nouns) {
    if (this.stopped) return;
    for (const noun of nouns) this.dirty.add(noun);
    this.timer ??= setTimeout(() => this.refresh(), SETTLE_MS);
  }

  /** Called every second: ask again for what may have changed without an event. */
  tick() {
    if (document.hidden) return;
    const age = Date.now() - this.readAt;
    if (age > (this.link === "live" ? SAFETY_MS : POLL_MS)) this.touch(...NOUNS);
    const running = ACTIVE_SEARCH.has(this.search()?.state);
    if (running && Date.now() - this.searchReadAt > RUNNING_MS) this.touch("searches");
  }

  /** Read all that is out of date; at most one reading at a time. */
  async refresh() {
    this.timer = null;
    if (this.busy) return;
    this.busy = true;
    const nouns = [...this.dirty];
    this.dirty.clear();
    try {
      await Promise.all(nouns.filter((noun) => noun !== "search").map((noun) => this.read(noun)));
      if (nouns.includes("searches") || nouns.includes("search")) await this.readSearch();
      if (NOUNS.every((noun) => nouns.includes(noun))) this.readAt = Date.now();
      this.problem = "";
    } catch (problem) {
      this.fail(problem);
    } finally {
      this.busy = false;
    }
    this.changed();
    if (this.dirty.size > 0) this.touch();
  }

  fail(problem) {
    if (this.stopped) return;
    if (!(problem instanceof ApiError)) throw problem;
    this.readAt = Date.now();
    if (problem.status === 401) this.onRefused();
    else this.problem = problem.message;
    if (problem.status === 0) this.link = "offline";
  }

  async read(noun) {
    if (noun === "nodes") this.nodes = await this.readNodes();
    else this[noun] = await list(`/v1/${noun}`, noun === "jobs" ? 60 : 100);
    if (noun === "jobs") await this.readAttempts();
  }

  async readNodes() {
    const response = await request("/v1/nodes?limit=200");
    const date = Date.parse(response.headers.get("Date") ?? "");
    const skew = Number.isNaN(date) ? 0 : date / 1000 - Date.now() / 1000;
    this.skew = Math.abs(skew) > 2 ? skew : 0; // the header has whole seconds
    if (this.link === "offline") this.link = this.streams ? "live" : "polling"; // one lost answer ends no stream
    return (await response.json()).items;
  }

  /** Where jobs run or ran: the last attempt of each active and of the newest; those of final ones are kept. */
  async readAttempts() {
    const tried = this.jobs.filter((job, i) => job.attempts > 0 && (i < NEWEST_JOBS || ACTIVE_JOB.has(job.state)));
    const wanted = tried.filter((job) => !(job.finished_at && this.attempts.has(job.id))).slice(0, NEWEST_JOBS);
    const pages = await Promise.all(wanted.map((job) => get(`/v1/jobs/${job.id}/attempts`)));
    pages.forEach((page, i) => this.attempts.set(wanted[i].id, page.items.at(-1)));
  }

  async readSearch() {
    const search = this.search();
    if (!search) return;
    this.candidates = await all(`/v1/searches/${search.id}/candidates`);
    this.candidatesOf = search.id; // another search may have been chosen meanwhile; it is dirty then
    this.searchReadAt = Date.now();
  }
}

/** Seconds since something began, or its whole duration when it has ended; null before the start. */
export function duration(thing, now) {
  if (!thing.started_at) return null;
  const end = thing.finished_at ? epoch(thing.finished_at) : now;
  return Math.max(0, end - epoch(thing.started_at));
}
