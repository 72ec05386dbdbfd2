/** A page that reads all it shows, and reads it anew when an event says that something changed. */

import { ApiError, list, token } from "/console/api.js";
import { byId, setAttribute, setText } from "/console/dom.js";
import { follow } from "/console/events.js";

const SETTLE_MS = 300; // several events of one moment make one reading
const SAFETY_MS = 30000; // what is due changes without an event
const TICK_MS = 1000;

/**
 * `prepare` draws what stands there before the first reading; `read` reads, then `draw` draws; `concerns` says of an
 * event's subject whether to read anew; `tick` is told the time (s) each second. Signed out, it says so and does nothing.
 */
export async function keepReading({ prepare, read, draw, concerns, tick }) {
  if (!token.get()) return say("Sign in first: open /console.");
  let timer = null, busy = false, again = false;

  const touch = () => { timer ??= setTimeout(() => { timer = null; readAnew(); }, SETTLE_MS); };

  /** A reading that is asked for during another one follows it. */
  async function readAnew() {
    if (busy) { again = true; return; }
    busy = true;
    try {
      await read();
      say("");
      draw();
    } catch (problem) {
      if (!(problem instanceof ApiError)) throw problem;
      if (problem.status === 401) refused();
      else say(problem.message);
    } finally {
      busy = false;
    }
    if (again) { again = false; touch(); }
  }

  prepare();
  const stop = new AbortController();
  await readAnew();
  setInterval(() => tick(Date.now() / 1000), TICK_MS);
  setInterval(() => { if (!document.hidden) touch(); }, SAFETY_MS);
  const newest = await list("/v1/events", 1).catch(() => []);
  return follow({
    after: newest.at(-1)?.id ?? 0,
    signal: stop.signal,
    onEvent: (event) => { if (concerns(event.subject)) touch(); },
    onLink: drawLink,
    onRefused: () => { stop.abort(); refused(); },
  });
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
