/** The tuned-kernel cache. */

import { byId, empty, h, keyed, setText } from "/console/dom.js";
import { briefly, gflops, seconds } from "/console/format.js";
import { skeleton } from "/console/parts.js";

/** Draw the tuned kernels, the fastest first. */
export function drawKernels(store) {
  const parent = byId("kernels");
  if (store.kernels === null) return parent.replaceChildren(...skeleton("li", 2));
  setText(byId("kernels-count"), store.kernels.length || "");
  if (store.kernels.length === 0) return parent.replaceChildren(h("li", {}, empty("No kernel was tuned yet.", "tinyfleet searches run gemm 512,512,512")));
  const fastest = [...store.kernels].sort((a, b) => b.gflops - a.gflops);
  return keyed(parent, fastest, (tuned) => tuned.id, tunedRow);
}

function tunedRow(tuned) {
  const name = briefly(tuned.kernel);
  const title = tuned.search_id ? h("a", { href: `#search=${tuned.search_id}` }, name) : name;
  return h("li", { class: "row" },
    h("span", { class: "grow" }, title, h("span", { class: "muted" }, `${tuned.threads} thread${tuned.threads === 1 ? "" : "s"} · ${seconds(tuned.time_s)}`)),
    h("b", { class: "num" }, `${gflops(tuned.gflops)}`, h("span", { class: "unit" }, " GFLOP/s")));
}
