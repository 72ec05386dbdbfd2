/** Node cards: what each server has, how it is, and what runs there now. */

import { byId, empty, h, keyed, setText } from "/console/dom.js";
import { bytes, kernel } from "/console/format.js";
import { ACTIVE_JOB } from "/console/nouns.js";
import { chip, skeleton } from "/console/parts.js";

/** Draw the cards from the store. */
export function drawNodes(store) {
  const parent = byId("nodes");
  if (store.nodes === null) return parent.replaceChildren(...skeleton("li", 3));
  setText(byId("nodes-count"), store.nodes.length || "");
  if (store.nodes.length === 0) {
    return parent.replaceChildren(h("li", {}, empty("No node has joined yet.", "tinyfleet join-token create, then tinyfleet agent on the server.")));
  }
  const cards = store.nodes.map((node) => ({ node: shown(node), work: work(store, node) }));
  return keyed(parent, cards, (card) => card.node.id, card);
}

/** The node without what changes at every sync, so that cards are not drawn anew for nothing. */
function shown({ last_seen_at: _seen, ...node }) {
  return node;
}

/** What runs on the node now: jobs by their attempts, and the phase of a search that holds a device. */
function work(store, node) {
  const jobs = (store.jobs ?? []).filter((job) => ACTIVE_JOB.has(job.state) && store.attempts.get(job.id)?.node_id === node.id);
  const named = jobs.map((job) => ({ what: `job ${job.id}`, detail: job.name ?? kernelOf(job) }));
  const leases = node.devices.reduce((sum, device) => sum + device.leases, 0);
  const search = (store.searches ?? []).find((s) => s.state === "running" && archFits(s, node));
  if (search && leases > jobs.length) named.push({ what: `search ${search.id}`, detail: search.phase || "running" });
  return named;
}

const kernelOf = (job) => (job.spec.kernel ? kernel(job.spec.kernel) : job.kind);

const archFits = (search, node) => !search.arch || node.devices.some((device) => device.arch === search.arch);

function card({ node, work: running }) {
  return h("li", { class: "card" },
    h("div", { class: "card-head" },
      h("h3", {}, node.name),
      node.cordoned || cordons(node).length > 0 ? chip("cordoned") : null,
      node.state === "ready" ? null : chip(node.state),
      chip(node.contact)),
    h("p", { class: "muted facts", title: node.os }, [`${node.cores} cores`, bytes(node.memory_bytes), node.os.split(/[(,]/)[0].trim()].filter(Boolean).join(" · ")),
    ...cordons(node).map((cordon) => h("p", { class: "problem" }, `${cordon.kind}: ${cordon.reason}`)),
    ...node.devices.map(device),
    now(running));
}

const cordons = (node) => node.cordons ?? [];

/** Why nothing new is given this device: it cannot be used, or it is a GPU that was found at fault. */
const wrong = (device) => device.problem || device.health_reason || "";

function device(device) {
  return h("div", { class: "device" },
    h("span", { class: "tag" }, device.name),
    h("div", {},
      h("p", {}, device.model || device.kind),
      h("p", { class: "mono arch", title: device.arch }, device.arch),
      wrong(device) ? h("p", { class: "problem" }, wrong(device)) : null),
    h("span", { class: `lamp ${lamp(device)}` }, held(device)));
}

function lamp(device) {
  if (wrong(device)) return "bad";
  return device.leases > 0 ? "busy" : "free";
}

function held(device) {
  if (device.problem) return "unusable";
  if (wrong(device)) return device.health;
  if (device.exclusive) return "exclusive";
  return device.leases > 0 ? `${device.leases} of ${device.slots}` : "idle";
}

function now(running) {
  if (running.length === 0) return h("p", { class: "now idle" }, "Nothing runs here now.");
  return h("ul", { class: "now" }, ...running.map(({ what, detail }) =>
    h("li", {}, h("b", {}, what), " ", h("span", { class: "muted" }, detail))));
}
