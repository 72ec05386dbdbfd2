/** Numbers, times and kernels as people read them. */

/** 0.00042 → "420 µs"; seconds in, three significant digits out. */
export function seconds(value) {
  if (value === null || value === undefined) return "–";
  if (value < 1e-6) return `${(value * 1e9).toFixed(0)} ns`;
  if (value < 1e-3) return `${significant(value * 1e6)} µs`;
  if (value < 1) return `${significant(value * 1e3)} ms`;
  return clock(value);
}

/** Durations of a second and more: "4.2 s", "1 m 12 s", "3 h 05 m". */
export function clock(value) {
  if (value < 60) return `${value.toFixed(1)} s`;
  const whole = Math.floor(value);
  if (whole < 3600) return `${Math.floor(whole / 60)} m ${String(whole % 60).padStart(2, "0")} s`;
  return `${Math.floor(whole / 3600)} h ${String(Math.floor((whole % 3600) / 60)).padStart(2, "0")} m`;
}

/** How long ago, coarsely: "now", "12 s", "5 m", "3 h", "2 d". */
export function ago(then, now) {
  const age = Math.max(0, now - then);
  if (age < 2) return "now";
  if (age < 60) return `${Math.floor(age)} s ago`;
  if (age < 3600) return `${Math.floor(age / 60)} m ago`;
  if (age < 86400) return `${Math.floor(age / 3600)} h ago`;
  return `${Math.floor(age / 86400)} d ago`;
}

export function significant(value, digits = 3) {
  if (value === null || value === undefined) return "–";
  if (value >= 10 ** digits) return Math.round(value).toLocaleString("en");
  return Number(value.toPrecision(digits)).toString();
}

/** GFLOP/s with one decimal, so that a column of them lines up. */
export function gflops(value) {
  if (value === null || value === undefined) return "–";
  return value >= 1000 ? Math.round(value).toLocaleString("en") : value.toFixed(1);
}

export function bytes(value) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let scaled = value;
  let unit = 0;
  while (scaled >= 1024 && unit < units.length - 1) {
    scaled /= 1024;
    unit += 1;
  }
  return `${scaled >= 100 || unit === 0 ? Math.round(scaled) : Number(scaled.toFixed(1))} ${units[unit]}`;
}

/** Errors and tolerances: "2.4e-6". */
export function error(value) {
  if (value === null || value === undefined) return "–";
  return value === 0 ? "0" : value.toExponential(1).replace("e+0", "").replace("e+", "e");
}

/** A kernel reference as one line: "gemm 512×512×512 float32", or the start of its hash. */
export function kernel(reference) {
  if (!reference) return "kernel";
  if (reference.program) {
    return [reference.program, (reference.shape ?? []).join("×"), reference.dtype].filter(Boolean).join(" ");
  }
  return reference.hash ? `kernel ${reference.hash.slice(0, 10)}` : "serialized kernel";
}

/** The same without the dtype that is nearly everybody's. */
export const briefly = (reference) => kernel(reference).replace(/ float32$/, "");

/** "out_of_bounds" → "out of bounds". */
export const words = (name) => String(name ?? "").replaceAll("_", " ");

/** One opt: [kind, target, axis, amount, type] → { kind, where, amount }. */
export function opt([kind, target, axis, amount, type]) {
  const where = kind === "REORDER" ? `${axis} ↔ ${amount}` : `${target}.${axis}`;
  return { kind: String(kind), where, amount: kind === "REORDER" ? "" : `×${amount}`, type: type ?? "" };
}

/** A whole schedule as one line. */
export function schedule(opts) {
  if (!opts || opts.length === 0) return "as written";
  return opts.map(opt).map((o) => `${o.kind} ${o.where}${o.amount}${o.type ? ` ${o.type.toLowerCase()}` : ""}`).join(" · ");
}
