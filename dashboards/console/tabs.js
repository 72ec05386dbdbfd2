/** Tabs as the ARIA practices have them: arrow keys move, only the chosen one is in the tab order. */

import { h, setAttribute, setText } from "/console/dom.js";

export class Tabs {
  /** `panels`: [[id, title, element]]; the first one is shown. */
  constructor(label, panels) {
    this.buttons = panels.map(([id, title]) => h("button", {
      type: "button", role: "tab", id: `tab-${id}`, "aria-controls": `panel-${id}`, onclick: () => this.select(id), onkeydown: (event) => this.move(event),
    }, h("span", {}, title), h("span", { class: "count" })));
    this.panels = panels.map(([id, , element]) => h("div", { role: "tabpanel", id: `panel-${id}`, "aria-labelledby": `tab-${id}`, tabindex: "-1" }, element));
    this.ids = panels.map(([id]) => id);
    this.element = h("div", { class: "tabs" }, h("div", { role: "tablist", "aria-label": label }, ...this.buttons), ...this.panels);
    this.select(this.ids[0]);
  }

  select(id) {
    this.ids.forEach((one, i) => {
      setAttribute(this.buttons[i], "aria-selected", one === id ? "true" : "false");
      setAttribute(this.buttons[i], "tabindex", one === id ? "0" : "-1");
      this.panels[i].hidden = one !== id;
    });
  }

  count(id, number) {
    setText(this.buttons[this.ids.indexOf(id)].lastElementChild, number || "");
  }

  move(event) {
    const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
    if (!step) return;
    const at = this.buttons.indexOf(event.currentTarget);
    const next = (at + step + this.buttons.length) % this.buttons.length;
    this.select(this.ids[next]);
    this.buttons[next].focus();
  }
}
