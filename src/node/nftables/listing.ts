// A table as `nft list table` shows it, for people to read; `nft -f` takes it, too. Rules stand as they are written.

import type { IpFamily } from "../../base/ip.ts";
import type { Rules } from "../service-rules.ts";
import { fixedComments, ipWord, tableName } from "./fixed.ts";
import { parsePiece, tablePiece } from "./pieces.ts";

/** Sets and maps with their elements (each sorted), then chains, in the order that the rules have them. */
export function listing(family: IpFamily, rules: Rules): string {
  const elements = new Map<string, string[]>();
  for (const [name, lines] of rules) {
    const piece = parsePiece(name);
    if (piece.kind !== "element") continue;
    const list = elements.get(piece.set);
    if (list) list.push(lines[0]!);
    else elements.set(piece.set, [lines[0]!]);
  }
  const sets: string[] = [];
  const chains: string[] = [];
  for (const [name, lines] of rules) {
    const piece = parsePiece(name);
    if (piece.kind === "table" || piece.kind === "element") continue;
    const block = piece.kind === "chain" ? chains : sets;
    const body = piece.kind === "chain" ? lines : setBody(lines, elements.get(piece.name) ?? []);
    const comment = fixedComments[name];
    const all = comment === undefined ? body : insertComment(piece.kind, body, comment);
    block.push(`\t${piece.kind} ${piece.name} {`, ...all.map((line) => `\t\t${line}`), "\t}", "");
  }
  const body = [...sets, ...chains].slice(0, -1);
  const comment = `\tcomment "${fixedComments[tablePiece]}"`;
  return `${[`table ${ipWord(family)} ${tableName} {`, comment, ...body, "}"].join("\n")}\n`;
}

function setBody(lines: readonly string[], elements: readonly string[]): readonly string[] {
  const timed = lines.some((line) => line.startsWith("timeout "));
  const body = timed ? [lines[0]!, "flags dynamic,timeout", ...lines.slice(1)] : [...lines];
  if (elements.length === 0) return body;
  const sorted = [...elements].sort();
  const listed = sorted.map((element, at) => `${at === 0 ? "elements = { " : "\t     "}${element}`);
  return [...body, `${listed.join(",\n\t\t")} }`];
}

/** A set's comment follows its type; a chain's stands first. */
function insertComment(kind: string, body: readonly string[], comment: string): readonly string[] {
  const line = `comment "${comment}"`;
  return kind === "chain" ? [line, ...body] : [body[0]!, line, ...body.slice(1)];
}
