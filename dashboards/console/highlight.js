/** C source with its words coloured: text in, spans out. A scanner, not a parser. */

import { h } from "/console/dom.js";

const LONGEST = 200_000; // characters; longer source is shown plain
const KEYWORDS = new Set(
  ("break case const continue default do else enum extern for goto if inline register restrict return sizeof static " +
    "struct switch typedef union volatile while __attribute__ __restrict __restrict__").split(" "),
);
const TYPES = new Set(
  ("void char short int long float double signed unsigned bool _Bool size_t int8_t int16_t int32_t int64_t uint8_t " +
    "uint16_t uint32_t uint64_t").split(" "),
);
const VECTOR = /^([fiu]\d+(x\d+)?m?|\w+_t)$/; // f32, i64, f32x16, …
const TOKEN = new RegExp(
  [
    String.raw`(?<comment>//[^\n]*|/\*[\s\S]*?\*/)`,
    String.raw`(?<macro>^[ \t]*#[^\n]*)`,
    String.raw`(?<string>"(?:\\.|[^"\\\n])*"|'(?:\\.|[^'\\\n])*')`,
    String.raw`(?<number>\b(?:0[xX][0-9a-fA-F]+(?:\.[0-9a-fA-F]*)?(?:[pP][+-]?\d+)?|\d+\.?\d*(?:[eE][+-]?\d+)?)[uUlLfF]*)`,
    String.raw`(?<word>[A-Za-z_]\w*)`,
  ].join("|"),
  "gm",
);

/** The nodes of `source`: text, and spans with the classes keyword, type, call, number, string, comment, macro. */
export function highlight(source) {
  if (source.length > LONGEST) return [document.createTextNode(source)];
  const nodes = [];
  let end = 0;
  for (const match of source.matchAll(TOKEN)) {
    if (match.index > end) nodes.push(document.createTextNode(source.slice(end, match.index)));
    end = match.index + match[0].length;
    const kind = kindOf(match, source, end);
    nodes.push(kind ? h("span", { class: kind }, match[0]) : document.createTextNode(match[0]));
  }
  nodes.push(document.createTextNode(source.slice(end)));
  return nodes;
}

function kindOf(match, source, end) {
  const word = match.groups.word;
  if (word === undefined) return Object.keys(match.groups).find((name) => match.groups[name] !== undefined);
  if (KEYWORDS.has(word)) return "keyword";
  if (TYPES.has(word) || VECTOR.test(word)) return "type";
  return source[end] === "(" ? "call" : null;
}
