/** Building and updating the page. Data reaches it as text only: nothing here parses HTML. */

const SVG = "http://www.w3.org/2000/svg";

/** An element: attributes (`class`, `data-…`, `aria-…`), listeners (`onclick: fn`), children (nodes or text). */
export function h(tag, attributes = {}, ...children) {
  return fill(document.createElement(tag), attributes, children);
}

/** The same for SVG. */
export function s(tag, attributes = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), attributes, children);
}

function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : String(value));
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return element;
}

export const byId = (id) => document.getElementById(id);

/** Set an element's text, touching the page only when it differs. */
export function setText(element, text) {
  const value = String(text);
  if (element.textContent !== value) element.textContent = value;
}

/** Set or remove an attribute, touching the page only when it differs. */
export function setAttribute(element, name, value) {
  if (value === null || value === undefined || value === false) element.removeAttribute(name);
  else if (element.getAttribute(name) !== String(value)) element.setAttribute(name, String(value));
}

/**
 * Make `parent`'s children follow `items`: kept by key, so that focus, scrolling and selection survive.
 * `draw(item)` returns a new element; an element is drawn anew only when `item`'s JSON changed.
 */
export function keyed(parent, items, keyOf, draw) {
  const old = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  const children = items.map((item) => {
    const key = String(keyOf(item));
    const stamp = JSON.stringify(item);
    const kept = old.get(key);
    if (kept && kept.stamp === stamp) return kept;
    const fresh = draw(item);
    fresh.dataset.key = key;
    fresh.stamp = stamp;
    return fresh;
  });
  if (children.length === parent.children.length && children.every((c, i) => c === parent.children[i])) return;
  const focus = focusPath(parent);
  parent.replaceChildren(...children);
  restoreFocus(parent, focus);
}

function focusPath(parent) {
  const active = document.activeElement;
  if (!active || active === parent || !parent.contains(active)) return null;
  const row = [...parent.children].find((child) => child.contains(active));
  const focusable = row ? [...row.querySelectorAll("a, button")] : [];
  return { key: row?.dataset.key, index: focusable.indexOf(active) };
}

function restoreFocus(parent, focus) {
  if (!focus) return;
  const row = [...parent.children].find((child) => child.dataset.key === focus.key);
  const target = focus.index < 0 ? row : row?.querySelectorAll("a, button")[focus.index];
  target?.focus({ preventScroll: true });
}

/** Something to show where a list is empty. */
export function empty(title, hint) {
  return h("div", { class: "empty" }, h("p", {}, title), hint ? h("p", { class: "muted" }, hint) : null);
}

/** Say something to screen readers. */
export function announce(text) {
  setText(byId("announce"), text);
}
