// The text of `nft list ruleset` (1.0.6) as pieces: enough of the syntax to compare with what kube-proxy wrote.

import { parseDuration } from "../../../base/duration.ts";
import type { Rules } from "../../service-rules.ts";
import { chainPiece, elementPiece, mapPiece, setPiece, tablePiece } from "../pieces.ts";

const priorities: Readonly<Record<string, string>> = {
  "dstnat - 10": "-110",
  dstnat: "-100",
  filter: "0",
  srcnat: "100",
};

/** The pieces of one table (`ip`, `ip6`) of a listing. */
export function parseSample(text: string, family: "ip" | "ip6"): Rules {
  const rules = new Map<string, string[]>();
  const table = text.split(/^table /m).find((part) => part.startsWith(`${family} kube-proxy {`)) ?? "";
  if (table) rules.set(tablePiece, []);
  for (const [, kind, name, body] of table.matchAll(/^\t(set|map|chain) (\S+) \{\n(.*?)^\t\}/gms)) {
    const elements = /elements = \{(.*?)\}\n/s.exec(body!)?.[1];
    const lines = body!
      .replace(/elements = \{.*?\}\n/s, "")
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "" && !/^(comment|size|flags) /.test(line))
      .map(canonical);
    rules.set(kind === "chain" ? chainPiece(name!) : kind === "set" ? setPiece(name!) : mapPiece(name!), lines);
    for (const raw of elements?.split(",") ?? []) {
      const element = raw.trim();
      rules.set(elementPiece(name!, element.replace(/( comment "[^"]*")? : .*/, "")), [element]);
    }
  }
  return rules;
}

function canonical(line: string): string {
  return line
    .replace(/priority ([^;]+);/, (_, name: string) => `priority ${priorities[name] ?? name};`)
    .replace(/dnat (ip6?) to numgen/, "dnat $1 addr . port to numgen")
    .replace(/^timeout (\S+)$/, (_, text: string) => `timeout ${parseDuration(text, "timeout") / 1000}s`);
}
