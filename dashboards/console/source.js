/** The C source of a search's winner, coloured, with line numbers and a copy button. */

import { text } from "/console/api.js";
import { announce, empty, h, setText } from "/console/dom.js";
import { highlight } from "/console/highlight.js";

const COPIED_MS = 1600;

/** `show(kernelId)`: null while there is no winner. */
export class SourceView {
  constructor() {
    this.copy = h("button", { type: "button", class: "quiet copy", onclick: () => this.toClipboard() }, "Copy");
    this.code = h("code", {});
    this.lines = h("span", { class: "lines", "aria-hidden": "true" });
    this.viewer = h("div", { class: "source", hidden: true }, this.copy,
      h("pre", { tabindex: "0", role: "region", "aria-label": "C source" }, this.lines, this.code));
    this.note = h("div", {}, empty("The winner's C source appears here when the search is done."));
    this.element = h("div", {}, this.note, this.viewer);
    this.kernel = null;
    this.source = "";
  }

  async show(kernel) {
    if (kernel === this.kernel) return;
    this.kernel = kernel;
    this.viewer.hidden = true;
    this.note.hidden = false;
    if (kernel === null) return this.say("The winner's C source appears here when the search is done.");
    this.say("Reading the source…");
    try {
      const source = await text(`/v1/kernels/${kernel}/source`);
      if (this.kernel === kernel) this.draw(source);
    } catch (problem) {
      this.kernel = undefined; // asked again at the next change
      this.say(problem.message);
    }
  }

  say(message) {
    this.note.replaceChildren(empty(message));
  }

  draw(source) {
    this.source = source;
    this.code.replaceChildren(...highlight(source));
    setText(this.lines, source.split("\n").map((_, i) => i + 1).join("\n"));
    this.note.hidden = true;
    this.viewer.hidden = false;
  }

  async toClipboard() {
    try {
      await navigator.clipboard.writeText(this.source);
      this.saidCopied("Copied");
    } catch {
      getSelection().selectAllChildren(this.code); // no clipboard without https: select, so that Ctrl-C does it
      this.saidCopied("Selected");
    }
  }

  saidCopied(word) {
    setText(this.copy, word);
    announce(`${word} the C source`);
    setTimeout(() => setText(this.copy, "Copy"), COPIED_MS);
  }
}
