/** Small pieces that several panels draw: state chips, schedules, figures. */

import { h } from "/console/dom.js";
import { opt, words } from "/console/format.js";
import { tone } from "/console/nouns.js";

const MOVING = new Set(["running", "leased", "cancelling", "draining", "revoking", "measuring"]);

/** A state or an outcome as a coloured chip; the word is always there, colour and shape only repeat it. */
export function chip(state) {
  return h("span", { class: `chip ${tone(state)} is-${state}${MOVING.has(state) ? " moving" : ""}` }, words(state));
}

/** A schedule as a row of chips, one for each opt. */
export function opts(schedule) {
  if (!schedule || schedule.length === 0) return h("p", { class: "muted" }, "as written");
  return h("ol", { class: "opts" }, ...schedule.map((entry) => {
    const { kind, where, amount, type } = opt(entry);
    return h("li", { class: `opt ${kind.toLowerCase()}` },
      h("b", {}, kind), h("span", {}, where), amount ? h("span", {}, amount) : null, type ? h("i", {}, type.toLowerCase()) : null);
  }));
}

/** A bar whose length is `share` (0 to 1) of its track. */
export function bar(share, kind = "") {
  const fill = h("span", {});
  fill.style.transform = `scaleX(${Math.min(1, Math.max(0, share))})`;
  return h("span", { class: `bar-track ${kind}`, "aria-hidden": "true" }, fill);
}

/** A term and its value for a definition list. */
export function fact(term, value, title) {
  return h("div", {}, h("dt", {}, term), h("dd", { title }, value));
}

/** Grey lines in the place of what is still loading. */
export function skeleton(tag, count) {
  return Array.from({ length: count }, () => h(tag, { class: "skeleton", "aria-hidden": "true" }, "\u00a0"));
}
