// A rule as `nft -j` gives it (libnftables-json(5)), as the text that `render.ts` writes. nft prints one rule in several ways,
// and differently from version to version; the JSON of it is stable, and this is the one spelling that is compared. What this
// backend never writes becomes a text that equals nothing, so that such a rule counts as changed by somebody else.

import { hostLiteral } from "../../base/ip.ts";
import { hex } from "./fixed.ts";

type Json = unknown;
type JsonObject = Readonly<Record<string, Json>>;

/** `ip daddr @cluster-ips reject comment "…"`. */
export function ruleText(statements: readonly Json[], comment: string | undefined): string {
  const text = statements.map(statement).join(" ");
  return comment === undefined ? text : `${text} comment "${comment}"`;
}

/** `goto service-…`, `drop`. */
export function verdictText(verdict: Json): string {
  const [kind, value] = only(verdict);
  if (kind === "goto" || kind === "jump") return `${kind} ${String((value as JsonObject)["target"])}`;
  if (value === null) return kind;
  return unknown(verdict);
}

/** A value or a key of a set: `10.96.0.1 . tcp . 80`. */
export function valueText(value: Json): string {
  if (typeof value === "string") return value;
  if (typeof value === "number") return String(value);
  if (Array.isArray(value)) return value.map(valueText).join(",");
  const [kind, of] = only(value);
  switch (kind) {
    case "concat":
      return (of as Json[]).map((one) => expression(one)).join(" . ");
    case "prefix":
      return `${String((of as JsonObject)["addr"])}/${String((of as JsonObject)["len"])}`;
    case "range":
      return (of as Json[]).map(valueText).join("-");
    default:
      return unknown(value);
  }
}

function statement(json: Json): string {
  const [kind, value] = only(json);
  const of = (value ?? {}) as JsonObject;
  switch (kind) {
    case "match":
      return match(of);
    case "vmap":
      return `${expression(of["key"])} vmap ${mapData(of["data"], verdictText)}`;
    case "mangle":
      return `${expression(of["key"])} set ${expression(of["value"])}`;
    case "masquerade":
      return `masquerade${of["flags"] === undefined ? "" : ` ${valueText(of["flags"])}`}`;
    case "dnat":
      return dnat(of);
    case "set":
      return `${String(of["op"])} ${String(of["set"])} { ${expression(of["elem"])} }`;
    case "reject":
      // Only the default is written, and shown as what it means in this family.
      return value === null || (String(of["type"]).startsWith("icmp") && of["expr"] === "port-unreachable")
        ? "reject"
        : unknown(json);
    default:
      return verdictText(json);
  }
}

function match(of: JsonObject): string {
  const { left, right, op } = of as { left: Json; right: Json; op: string };
  const sign = op === "==" || op === "in" ? "" : `${op} `;
  const isMark = typeof right === "number" && typeof left === "object" && left !== null && "&" in left;
  // Interfaces are names in quotes.
  const isName = expression(left) === "iifname" && typeof right === "string";
  return `${expression(left)} ${sign}${isMark ? hex(right) : isName ? `"${right}"` : rightText(right)}`;
}

function rightText(right: Json): string {
  if (typeof right === "object" && right !== null && "set" in right) {
    const values = (right as { set: Json }).set;
    return `{ ${(Array.isArray(values) ? values : [values]).map(valueText).join(", ")} }`;
  }
  return valueText(right);
}

function dnat(of: JsonObject): string {
  const { addr, port, family } = of as { addr: Json; port?: Json; family?: string };
  if (typeof addr === "object" && addr !== null && "map" in addr) {
    const map = (addr as { map: JsonObject }).map;
    return `dnat ${family ?? ""} addr . port to ${expression(map["key"])} map ${mapData(map["data"], valueText)}`;
  }
  const text = valueText(addr);
  return `dnat to ${hostLiteral(text)}:${valueText(port ?? "")}`;
}

/** `@service-ips`, or `{ 0 : goto a, 1 : goto b }` in the order of its keys. */
function mapData(data: Json, print: (value: Json) => string): string {
  if (typeof data === "string") return data;
  const entries = (data as { set?: [number, Json][] } | undefined)?.set;
  if (!Array.isArray(entries)) return unknown(data);
  const sorted = [...entries].sort(([a], [b]) => a - b);
  return `{ ${sorted.map(([key, value]) => `${String(key)} : ${print(value)}`).join(", ")} }`;
}

function expression(json: Json): string {
  if (typeof json !== "object" || json === null) return valueText(json);
  const [kind, value] = only(json);
  const of = (value ?? {}) as JsonObject;
  switch (kind) {
    case "payload":
      return `${String(of["protocol"])} ${String(of["field"])}`;
    case "meta":
      return of["key"] === "iifname" ? "iifname" : `meta ${String(of["key"])}`;
    case "ct":
      return `ct ${String(of["key"])}`;
    case "fib":
      return `fib ${valueText(of["flags"])} ${String(of["result"])}`;
    case "numgen":
      return of["offset"] === 0 || of["offset"] === undefined
        ? `numgen ${String(of["mode"])} mod ${String(of["mod"])}`
        : unknown(json);
    case "|":
    case "&":
    case "^": {
      const [left, right] = value as Json[];
      return `${expression(left)} ${kind} ${typeof right === "number" ? hex(right) : expression(right)}`;
    }
    default:
      return valueText(json);
  }
}

function only(json: Json): readonly [string, Json] {
  const entries = typeof json === "object" && json !== null ? Object.entries(json) : [];
  return entries.length === 1 ? entries[0]! : ["", undefined];
}

function unknown(json: Json): string {
  return `unknown ${JSON.stringify(json)}`;
}
