/** The page of one node, or of one of its GPUs: what it does now, what is wrong, and its last hour. */

import { h } from "/console/dom.js";
import { bytes } from "/console/format.js";
import { lines } from "/console/lines.js";
import { chip, fact } from "/console/parts.js";
import { percent, told } from "/console/racks.js";

const watts = (value) => `${Math.round(value)} W`;
const degrees = (value) => `${Math.round(value)} °C`;
// What is drawn, in this order: the utilization that is true comes first.
const VALUES = [
  ["sm_active_ratio", "SM active", percent, 1],
  ["tensor_active_ratio", "Tensor active", percent, 1],
  ["memory_bandwidth_ratio", "Memory bandwidth", percent, 1],
  ["power_watts", "Power", watts, null],
  ["temperature_celsius", "Hottest sensor", degrees, null],
  ["memory_used_bytes", "Memory used", bytes, null],
  ["busy_ratio", "Busy (any kernel at all)", percent, 1],
];
const OF_A_NODE = ["sm_active_ratio", "power_watts", "temperature_celsius", "memory_used_bytes", "busy_ratio"];

/** The elements of the page; `gpu` is a name, or null for the whole node. */
export function machine(history, gpu) {
  const { latest } = history;
  const one = gpu === null ? null : latest.gpus.find((each) => each.gpu === gpu);
  const wrong = latest.findings.filter((each) => gpu === null || each.device === gpu);
  return [
    h("p", {}, h("a", { href: gpu === null ? "#" : `#node=${latest.node_id}` }, gpu === null ? "← All racks" : `← ${latest.node}`)),
    h("header", { class: "racks-head" },
      h("h1", {}, gpu === null ? latest.node : `${latest.node} ${gpu}`),
      chip(latest.contact),
      latest.stale ? chip("stale") : null,
      h("p", { class: "muted" }, [latest.site, latest.rack].filter(Boolean).join(" · "))),
    h("dl", { class: "facts-grid" }, ...(one ? gpuFacts(one) : nodeFacts(latest))),
    wrong.length ? h("ul", { class: "findings" }, ...wrong.map((each) => h("li", { class: each.verdict }, told(each)))) : null,
    gpu === null ? gpus(latest) : null,
    ...charts(history, gpu),
  ].filter(Boolean);
}

function nodeFacts(latest) {
  const power = latest.power_watts === null ? "not measured" : `${watts(latest.power_watts)} by ${latest.power_source}`;
  return [fact("GPUs", String(latest.gpus.length)), fact("Power", power), fact("Measured", latest.measured_at ?? "never")];
}

function gpuFacts(gpu) {
  return VALUES.filter(([name]) => gpu[name] !== null).map(([name, title, text]) => fact(title, text(gpu[name])));
}

function gpus(latest) {
  return h("nav", { class: "gpu-links", "aria-label": "GPUs" }, ...latest.gpus.map((each, i) =>
    h("a", { href: `#node=${latest.node_id}&gpu=${encodeURIComponent(each.gpu)}` }, h("span", { class: `key line-${i % 8}` }), each.gpu)));
}

function charts(history, gpu) {
  const names = Object.keys(history.gpus).sort((a, b) => a.localeCompare(b, "en", { numeric: true })).filter((name) => gpu === null || name === gpu);
  const wanted = VALUES.filter(([name]) => gpu !== null || OF_A_NODE.includes(name));
  const drawn = wanted.flatMap(([name, title, text, most]) => {
    const series = names.filter((each) => history.gpus[each][name]).map((each) => ({ name: each, values: history.gpus[each][name] }));
    return series.length ? [lines({ title, at: history.at, series, text, most })] : [];
  });
  if (gpu === null && history.power_watts.some((value) => value !== null)) {
    drawn.push(lines({ title: "Node power", at: history.at, series: [{ name: history.latest.node, values: history.power_watts }], text: watts, most: null }));
  }
  if (drawn.length === 0) return [h("p", { class: "muted" }, "Nothing was measured within the last hour.")];
  return [h("h2", {}, "The last hour"), h("div", { class: "charts" }, ...drawn)];
}
