// What `nft -f` does with the transactions of this backend, on plain data: it refuses what the kernel would refuse (a name that
// is not there, a thing that is still in use, an element that is there already). For tests of `difference.ts`.

import type { Rules } from "../../service-rules.ts";
import { chainPiece, elementPiece, isHook, mapPiece, setPiece, tablePiece } from "../pieces.ts";

/** The state after a transaction; throws where the kernel would refuse a line. */
export function applyTransaction(now: Rules, text: string): Rules {
  const state = new Map<string, string[]>([...now].map(([name, lines]) => [name, [...lines]]));
  for (const line of text.split("\n")) {
    if (line === "") continue;
    const refuse = (why: string): never => {
      throw new Error(`${why}: ${line}`);
    };
    const [verb = "", kind = "", , table = "", name = ""] = line.split(" ");
    const rest = line.split(" ").slice(5).join(" ");
    if (kind === "table") {
      if (verb === "delete") {
        if (!state.has(tablePiece)) refuse("no such table");
        state.clear();
      } else state.set(tablePiece, []);
      continue;
    }
    if (table !== "kube-proxy") refuse("another table");
    if (!state.has(tablePiece)) refuse("no table");
    const piece = kind === "set" ? setPiece(name) : kind === "map" ? mapPiece(name) : chainPiece(name);
    switch (`${verb} ${kind}`) {
      case "add set":
      case "add map":
        if (state.has(piece)) refuse("already there");
        state.set(
          piece,
          statements(rest).filter((one) => !one.startsWith("flags ") && !one.startsWith("comment ")),
        );
        break;
      case "add chain": {
        if (state.has(piece)) refuse("already there");
        const hook = /\{ (type .*? policy accept;)/.exec(rest)?.[1];
        state.set(piece, hook ? [hook] : []);
        break;
      }
      case "flush chain": {
        const lines = state.get(piece) ?? refuse("no such chain");
        state.set(piece, isHook(lines[0]) ? [lines[0]!] : []);
        break;
      }
      case "add rule": {
        const lines = state.get(piece) ?? refuse("no such chain");
        for (const chain of namedChains(rest)) if (!state.has(chainPiece(chain))) refuse(`no chain ${chain}`);
        for (const set of namedSets(rest)) {
          if (!state.has(setPiece(set)) && !state.has(mapPiece(set))) refuse(`no set ${set}`);
        }
        lines.push(rest);
        break;
      }
      case "add element":
      case "delete element": {
        if (!state.has(setPiece(name)) && !state.has(mapPiece(name))) refuse("no such set");
        for (const element of rest.slice(2, -2).split(", ")) {
          const key = elementPiece(name, element.replace(/( comment "[^"]*")? : .*/, ""));
          if (verb === "delete") {
            if (!state.delete(key)) refuse(`no element ${element}`);
            continue;
          }
          if (state.has(key)) refuse(`already there: ${element}`);
          for (const chain of namedChains(element)) if (!state.has(chainPiece(chain))) refuse(`no chain ${chain}`);
          state.set(key, [element]);
        }
        break;
      }
      case "delete chain":
      case "delete set":
      case "delete map": {
        if (!state.has(piece)) refuse("not there");
        const named = kind === "chain" ? namedChains : namedSets;
        for (const lines of state.values()) {
          if (lines.some((one) => named(one).includes(name))) refuse("resource busy");
        }
        state.delete(piece);
        for (const other of [...state.keys()]) if (other.startsWith(elementPiece(name, ""))) state.delete(other);
        break;
      }
      default:
        refuse("unknown");
    }
  }
  return state;
}

function statements(braced: string): string[] {
  return [...braced.matchAll(/(type [^;]*|timeout [^;]*|flags [^;]*|comment "[^"]*");/g)].map(([, one]) => one!);
}

function namedChains(text: string): string[] {
  return [...text.matchAll(/(?:goto|jump) ([^\s,]+)/g)].map(([, name]) => name!);
}

function namedSets(text: string): string[] {
  return [...text.matchAll(/@([^\s,]+)/g)].map(([, name]) => name!);
}
