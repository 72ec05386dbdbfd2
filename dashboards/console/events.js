/**
 * The event stream by fetch (an EventSource cannot send the Authorization header): reconnects where it left off,
 * backing off when the server is away. While it is down the page polls; see `store.js`.
 */

import { ApiError, request } from "/console/api.js";

const FIRST_WAIT_MS = 500;
const LONGEST_WAIT_MS = 15000;
const SILENCE_MS = 40000; // the server says every 15 s that it is there; a network that went away says nothing

/** Split server-sent events out of text that arrives in pieces: feed(text) → [{ id, event, data }]. */
export function parser() {
  let rest = "";
  return (piece) => {
    const blocks = (rest + piece.replaceAll("\r\n", "\n")).split("\n\n");
    rest = blocks.pop();
    return blocks.map(parseBlock).filter((event) => event.data !== "");
  };
}

function parseBlock(block) {
  const event = { id: null, event: "message", data: "" };
  for (const line of block.split("\n")) {
    const colon = line.indexOf(":");
    if (colon <= 0) continue; // a comment (keep-alive) or no field
    const field = line.slice(0, colon);
    const value = line.slice(colon + 1).replace(/^ /, "");
    if (field === "data") event.data += (event.data ? "\n" : "") + value;
    else if (field in event) event[field] = value;
  }
  return event;
}

/**
 * Follow the stream from `after` while the page is seen, until `signal` aborts.
 * `onEvent(event)` gets each parsed event, `onLink("live" | "polling" | "offline")` each change of the connection.
 *
 * A hidden page holds no stream: a browser opens six connections to one server, so that the seventh tab would get
 * none, and pages kept for the back button count too.
 */
export async function follow({ after, onEvent, onLink, onRefused, signal }) {
  let cursor = after;
  while (!signal.aborted) {
    await untilVisible(signal);
    const hidden = new AbortController();
    const onChange = () => document.hidden && hidden.abort();
    document.addEventListener("visibilitychange", onChange);
    const seen = AbortSignal.any([signal, hidden.signal]);
    cursor = await followWhileSeen({ after: cursor, onEvent, onLink, onRefused, signal: seen });
    document.removeEventListener("visibilitychange", onChange);
  }
}

function untilVisible(signal) {
  return new Promise((resolve) => {
    const look = () => {
      if (document.hidden && !signal.aborted) return;
      document.removeEventListener("visibilitychange", look);
      resolve();
    };
    document.addEventListener("visibilitychange", look);
    signal.addEventListener("abort", look, { once: true });
    look();
  });
}

/** Reconnect until `signal` aborts; the cursor to go on from. */
async function followWhileSeen({ after, onEvent, onLink, onRefused, signal }) {
  let cursor = after;
  let wait = FIRST_WAIT_MS;
  while (!signal.aborted) {
    try {
      cursor = await readStream(cursor, onEvent, () => { wait = FIRST_WAIT_MS; onLink("live"); }, signal);
      onLink("polling");
    } catch (problem) {
      cursor = problem.cursor ?? cursor;
      if (signal.aborted) return cursor;
      if (problem instanceof ApiError && problem.status === 401) {
        onRefused();
        return cursor;
      }
      onLink(problem instanceof ApiError && problem.status === 0 ? "offline" : "polling");
    }
    await pause(wait * (0.75 + Math.random() / 2), signal); // spread, so that a thousand pages do not return at once
    wait = Math.min(wait * 2, LONGEST_WAIT_MS);
  }
  return cursor;
}

async function readStream(after, onEvent, onOpen, signal) {
  let cursor = after;
  const query = cursor === null ? "" : `?after=${encodeURIComponent(cursor)}`;
  const silence = new Watchdog(SILENCE_MS);
  const either = AbortSignal.any([signal, silence.signal]);
  try {
    const response = await request(`/v1/events/stream${query}`, { signal: either, headers: { Accept: "text/event-stream" } });
    onOpen();
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    const feed = parser();
    for (;;) {
      const { value, done } = await reader.read();
      if (done) return cursor;
      silence.restart();
      for (const event of feed(value)) {
        cursor = event.id ?? cursor;
        onEvent(JSON.parse(event.data));
      }
    }
  } catch (problem) {
    throw Object.assign(problem, { cursor });
  } finally {
    silence.stop();
  }
}

/** Aborts its signal when it has not been restarted for so long. */
export class Watchdog {
  constructor(milliseconds) {
    this.milliseconds = milliseconds;
    this.control = new AbortController();
    this.signal = this.control.signal;
    this.restart();
  }

  restart() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.control.abort(), this.milliseconds);
  }

  stop() {
    clearTimeout(this.timer);
  }
}

function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}
