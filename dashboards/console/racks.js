/** The map of racks: a row for each node, a cell for each GPU, coloured by what was chosen. */

import { byId, empty, h, keyed, setText } from "/console/dom.js";
import { words } from "/console/format.js";

const BAD = ["warned", "suspect", "failed"];

/** What the colours can show. `share(gpu, node)`: 0 to 1, null where it is not known; `text` says it in words. */
export const METRICS = [
  {
    id: "work", title: "SM active", low: "idle", high: "busy",
    share: (gpu) => gpu.sm_active_ratio,
    text: (gpu) => (gpu.sm_active_ratio === null ? "its source has no SM active" : `SM active ${percent(gpu.sm_active_ratio)}`),
  },
  {
    id: "power", title: "Power", low: "0 W", high: "limit",
    share: (gpu) => (gpu.power_watts === null || !gpu.power_limit_watts ? null : gpu.power_watts / gpu.power_limit_watts),
    text: (gpu) => (gpu.power_watts === null ? "power not known" : `${Math.round(gpu.power_watts)} W of ${Math.round(gpu.power_limit_watts ?? 0)} W`),
  },
  {
    id: "faults", title: "Faults", low: "well", high: "failed",
    share: (gpu, node) => (BAD.indexOf(finding(gpu, node)?.verdict) + 1) / BAD.length,
    text: (gpu, node) => (finding(gpu, node) ? told(finding(gpu, node)) : "well"),
  },
  {
    id: "stale", title: "Stale", low: "fresh", high: "stale",
    share: (_gpu, node) => (node.stale ? 1 : 0),
    text: (_gpu, node) => (node.stale ? "its measurement is stale" : "measured just now"),
  },
];

export const percent = (ratio) => `${Math.round(ratio * 100)} %`;

/** A finding as a sentence. */
export const told = (one) => `${one.device} is ${one.verdict}: ${one.reason}; ${one.action}`;

const finding = (gpu, node) => node.findings.find((one) => one.device === gpu.gpu);

/** The choice of what is shown; `choose(id)` on a change. */
export function drawMetrics(current, choose) {
  byId("metrics").append(...METRICS.map((metric) => h("label", {},
    h("input", { type: "radio", name: "metric", value: metric.id, checked: metric.id === current, onchange: () => choose(metric.id) }),
    h("span", {}, metric.title))));
}

/** Draw the map from what the API said. */
export function drawMap(nodes, racks, chosen) {
  const metric = METRICS.find((one) => one.id === chosen);
  byId("scale").replaceChildren(metric.low, h("span", { class: `ramp ${metric.id}` }), metric.high);
  setText(byId("told"), summary(nodes));
  if (nodes.length === 0) {
    return byId("racks").replaceChildren(h("li", {}, empty("No node has joined yet.", "tinyfleet simulate --nodes 50 makes a fleet to look at.")));
  }
  const groups = grouped(nodes, racks).map((group) => ({ ...group, metric: chosen }));
  return keyed(byId("racks"), groups, (group) => group.key, (group) => rack(group, metric));
}

function summary(nodes) {
  const gpus = nodes.flatMap((node) => (node.stale ? [] : node.gpus));
  const active = gpus.map((gpu) => gpu.sm_active_ratio).filter((ratio) => ratio !== null);
  const mean = active.length ? ` · SM active ${percent(active.reduce((sum, ratio) => sum + ratio, 0) / active.length)}` : "";
  const stale = nodes.filter((node) => node.stale).length;
  return `${nodes.length} nodes · ${gpus.length} GPUs${mean}${stale ? ` · ${stale} stale` : ""}`;
}

/** Racks in the order of site and name, with their nodes; nodes of no rack come last. */
function grouped(nodes, racks) {
  const budgets = new Map(racks.map((one) => [`${one.site}/${one.name}`, one.power_budget_watts]));
  const found = new Map();
  for (const node of nodes) {
    const key = node.rack ? `${node.site}/${node.rack}` : "";
    if (!found.has(key)) found.set(key, { key, site: node.site, name: node.rack, budget: budgets.get(key) ?? null, nodes: [] });
    found.get(key).nodes.push(shown(node));
  }
  for (const group of found.values()) group.nodes.sort((a, b) => a.node.localeCompare(b.node, "en", { numeric: true }));
  return [...found.values()].sort((a, b) => (a.key === "") - (b.key === "") || a.key.localeCompare(b.key, "en", { numeric: true }));
}

/** The node without what changes at every push although nothing that is drawn does. */
function shown({ measured_at: _at, ...node }) {
  return node;
}

function rack(group, metric) {
  const reporting = group.nodes.filter((node) => !node.stale);
  const watts = reporting.reduce((sum, node) => sum + (node.power_watts ?? 0), 0);
  const budget = group.budget === null ? "" : ` of ${(group.budget / 1000).toFixed(1)} kW`;
  return h("li", { class: "panel rack" },
    h("header", { class: "panel-head" },
      h("h2", {}, group.name || "No rack"),
      h("span", { class: "muted" }, group.site),
      h("span", { class: "rack-power" }, `${(watts / 1000).toFixed(1)} kW${budget}`)),
    h("p", { class: "muted reporting" }, reporting.length === group.nodes.length ? "" : `${reporting.length} of ${group.nodes.length} report`),
    h("ol", { class: "rows-of-cells" }, ...group.nodes.map((node) => row(node, metric))));
}

function row(node, metric) {
  const wrong = [...node.findings].sort((a, b) => BAD.indexOf(b.verdict) - BAD.indexOf(a.verdict));
  const cells = node.gpus.map((gpu) => cell(gpu, node, metric));
  return h("li", { class: `node-row${node.stale ? " stale" : ""}` },
    h("a", { href: `#node=${node.node_id}`, title: `${node.node}, ${words(node.contact)}` }, node.node),
    h("span", { class: "cells" }, ...(cells.length ? cells : [h("span", { class: "muted" }, "no GPU measured")])),
    wrong.length ? h("span", { class: `wrong ${wrong[0].verdict}`, title: wrong.map(told).join("\n") }, String(wrong.length)) : null);
}

function cell(gpu, node, metric) {
  const share = metric.share(gpu, node);
  const label = `${node.node} ${gpu.gpu}: ${metric.text(gpu, node)}`;
  const made = h("a", {
    href: `#node=${node.node_id}&gpu=${encodeURIComponent(gpu.gpu)}`, class: `cell ${metric.id}${share === null ? " unknown" : ""}`, title: label, "aria-label": label,
  });
  made.style.setProperty("--share", String(Math.min(1, Math.max(0, share ?? 0))));
  return made;
}
