/** The page of logins: who asks, who is in on which node, whose keys; decide and end by a click. */

import { choices, offer } from "/console/access_forms.js";
import { ApiError, adoptToken, get, list, request as call, send, token } from "/console/api.js";
import { announce, byId, empty, h, keyed, setText } from "/console/dom.js";
import { follow } from "/console/events.js";
import { ago, seconds } from "/console/format.js";
import { epoch } from "/console/nouns.js";
import { chip, skeleton } from "/console/parts.js";

const SETTLE_MS = 150; // several events of one moment make one request
const SAFETY_MS = 10000; // what expires makes an event; what the clock says changes without one
const OPEN = new Set(["active", "revoking"]);
const SHOWN_ENDED = 20;

adoptToken(location, history, sessionStorage);
const state = { grants: null, keys: null, me: null, decides: false, timer: null };
if (token.get()) start();
else location.replace("/console");

async function start() {
  for (const id of ["asked", "held", "keys"]) byId(id).replaceChildren(...skeleton("li", 2));
  byId("ask-cancel").addEventListener("click", () => byId("ask").close());
  try {
    state.me = await get("/v1/whoami");
    state.decides = state.me.role === "admin";
  } catch (problem) {
    return fail(problem);
  }
  offer(refresh, fail);
  byId("login-offer").addEventListener("toggle", () => choices(state.keys.filter(isMine)));
  await refresh();
  setInterval(touch, SAFETY_MS);
  const recent = await list("/v1/events", 1).catch(() => []);
  await follow({
    after: recent.at(-1)?.id ?? 0,
    signal: new AbortController().signal,
    onEvent: (event) => { if (/^(grant|key|node)\b/.test(event.subject)) touch(); },
    onLink: (link) => { byId("link").dataset.link = link; setText(byId("link").firstElementChild, link); },
    onRefused: () => location.replace("/console"),
  });
  return undefined;
}

function touch() {
  if (document.hidden) return;
  state.timer ??= setTimeout(refresh, SETTLE_MS);
}

async function refresh() {
  state.timer = null;
  try {
    [state.grants, state.keys] = await Promise.all([newest(), list("/v1/ssh-keys", 200)]);
    byId("problem").hidden = true;
  } catch (problem) {
    return fail(problem);
  }
  return draw();
}

/** All that are open, and some that have ended, the newest first. */
async function newest() {
  const pages = await Promise.all(["requested", "active", "revoking", "revoked", "denied", "expired"].map((one) => list(`/v1/grants?state=${one}`, 200)));
  return pages.flat().sort((a, b) => b.id - a.id);
}

function fail(problem) {
  if (!(problem instanceof ApiError)) throw problem;
  if (problem.status === 401) return location.replace("/console");
  byId("problem").hidden = false;
  setText(byId("problem"), problem.message);
  return undefined;
}

function draw() {
  const asked = state.grants.filter((grant) => grant.state === "requested");
  const open = state.grants.filter((grant) => OPEN.has(grant.state));
  const ended = state.grants.filter((grant) => grant.state !== "requested" && !OPEN.has(grant.state)).slice(0, SHOWN_ENDED);
  fill("asked", asked, request, empty("Nobody waits.", "tinyfleet access request --pool POOL --reason WHY"));
  fill("held", [...open, ...ended], login, empty("Nobody has a login.", ""));
  fill("keys", state.keys, key, empty("No key yet.", "tinyfleet keys add ~/.ssh/id_ed25519.pub"));
}

function fill(id, rows, drawOne, nothing) {
  setText(byId(`${id}-count`), rows.length || "");
  if (rows.length === 0) return byId(id).replaceChildren(h("li", {}, nothing));
  return keyed(byId(id), rows, (row) => row.id, drawOne);
}

const target = (grant) => (grant.pool ? `pool ${grant.pool}` : `node ${grant.node}`);

const when = (time) => (time ? ago(epoch(time), Date.now() / 1000) : "");

function head(grant) {
  const asked = `${grant.reason} · ${when(grant.requested_at)}`;
  return h("span", { class: "grow" }, h("b", {}, `${grant.person} on ${target(grant)}`), h("span", { class: "muted" }, asked));
}

function request(grant) {
  const days = Math.round((grant.duration_s / 86400) * 10) / 10;
  return h("li", { class: "row" }, head(grant), h("span", { class: "muted num" }, `${days} days`),
    state.decides ? h("button", { type: "button", class: "primary", "aria-label": `Approve login ${grant.id}`, onclick: () => act(`approve`, grant, {}) }, "Approve") : null,
    state.decides ? h("button", { type: "button", class: "quiet", "aria-label": `Deny login ${grant.id}`, onclick: () => ask("deny", "Deny this login", "Deny it", grant) }, "Deny") : null);
}

function login(grant) {
  const until = grant.until && grant.state === "active" ? `until ${grant.until.slice(0, 16).replace("T", " ")}` : grant.end_reason;
  return h("li", { class: "row" }, head(grant), chip(grant.state), h("span", { class: "muted" }, until),
    grant.state === "active" ? h("button", { type: "button", class: "quiet", "aria-label": `Revoke login ${grant.id}`, onclick: () => ask("revoke", "End this login and its sessions", "End it", grant) }, "Revoke") : null,
    h("div", { class: "wide muted" }, ...grant.nodes.map(place)));
}

/** How a login stands on one node. */
function place(place) {
  if (place.gone_at) return h("span", {}, `gone from ${place.node} in ${seconds(place.gone_after_s)}`);
  if (place.ssh) return h("span", {}, `${place.node}: `, h("code", {}, place.ssh));
  return h("span", { class: place.problem ? "problem" : "" }, `${place.node}: ${place.problem || "has not answered yet"}`);
}

const isMine = (row) => row.person === state.me.name && row.tenant === state.me.tenant;

function key(row) {
  return h("li", { class: "row" },
    h("span", { class: "grow" }, h("b", {}, `${row.person} ${row.label}`), h("span", { class: "muted" }, `${row.type} ${row.bits} · ${when(row.created_at)}`)),
    h("code", {}, row.fingerprint),
    isMine(row) || state.decides ? h("button", { type: "button", class: "quiet", "aria-label": `Remove key ${row.id}`, onclick: () => sure("Remove this key, and end every login with it", "Remove it", () => forget(row)) }, "Remove") : null);
}

async function forget(row) {
  try {
    await call(`/v1/ssh-keys/${row.id}`, { method: "DELETE" });
    announce(`Key ${row.fingerprint} is removed.`);
  } catch (problem) {
    fail(problem);
  }
  return refresh();
}

async function act(verb, grant, body) {
  try {
    const done = await send("POST", `/v1/grants/${grant.id}/${verb}`, body);
    announce(`Login ${grant.id} is ${done.state}.`);
  } catch (problem) {
    fail(problem);
  }
  return refresh();
}

/** Ask why, then do it. */
const ask = (verb, title, go, grant) => sure(title, go, (reason) => act(verb, grant, { reason }), true);

/** Ask whether to, and `why` if that is to be said, then do it. */
function sure(title, go, then, why = false) {
  setText(byId("ask-title"), title);
  setText(byId("ask-go"), go);
  byId("reason").value = "";
  byId("reason").required = why;
  for (const id of ["reason", "reason-label"]) byId(id).hidden = !why;
  byId("ask-form").onsubmit = (event) => {
    event.preventDefault();
    byId("ask").close();
    then(byId("reason").value);
  };
  byId("ask").showModal();
}
