// Rules of one host, found by path without trying each. The order of the rules is kept exactly: every lookup that the path
// allows gives an ordered list of rule numbers, and the lowest one whose other conditions hold wins. Exact paths, segment
// prefixes and string prefixes are map lookups; only regular expressions, and rules without a path, are tried one by one.

import { lowerAscii } from "../../model/ascii.ts";
import type { Match } from "../../model/model.ts";

/** Rule numbers, ascending. */
type Numbers = number[];

/** Lookups for paths as they are, or folded to lower case. */
interface Maps {
  exact: Map<string, Numbers>;
  /** By the prefix without its trailing slash. */
  segments: Map<string, Numbers>;
  prefixes: Map<string, Numbers>;
  /** Lengths that occur among `prefixes`, ascending. */
  prefixLengths: number[];
  /** Which numbers of segments occur in `segments`, one bit each (31: that many or more). */
  depths: number;
}

export class PathIndex {
  readonly #asIs: Maps = emptyMaps();
  readonly #folded: Maps = emptyMaps();
  #anyFolded = false;
  readonly #rest: Numbers = [];

  /** Adds the match of the next rule; numbers ascend. */
  add(match: Match, number: number): void {
    if (!this.#add(match, number)) this.#rest.push(number);
  }

  /** Whether the index answers a match's path condition by itself. */
  static answers(match: Match): boolean {
    return match.path !== undefined && match.path.kind !== "regex";
  }

  #add(match: Match, number: number): boolean {
    const path = match.path;
    if (!path || path.kind === "regex") return false;
    const maps = path.ignoreCase ? this.#folded : this.#asIs;
    if (path.ignoreCase) this.#anyFolded = true;
    const value = path.ignoreCase ? lowerAscii(path.value) : path.value;
    if (path.kind === "exact") put(maps.exact, value, number);
    else if (path.kind === "prefix") {
      addLength(maps.prefixLengths, value.length);
      put(maps.prefixes, value, number);
    } else {
      const prefix = value.endsWith("/") ? value.slice(0, -1) : value;
      maps.depths |= bit(slashes(prefix));
      put(maps.segments, prefix, number);
    }
    return true;
  }

  /** The lowest rule number that takes the path and for which `holds` says yes; -1 when there is none. */
  find<T>(path: string, holds: (number: number, of: T) => boolean, of: T): number {
    let best = search(this.#asIs, path, holds, of, Number.MAX_SAFE_INTEGER);
    if (this.#anyFolded) best = search(this.#folded, lowerAscii(path), holds, of, best);
    best = lowest(this.#rest, holds, of, best);
    return best === Number.MAX_SAFE_INTEGER ? -1 : best;
  }
}

function search<T>(maps: Maps, path: string, holds: (number: number, of: T) => boolean, of: T, before: number): number {
  let best = before;
  if (maps.exact.size > 0) best = lowest(maps.exact.get(path), holds, of, best);
  if (maps.depths !== 0) {
    let depth = 0;
    for (let slash = path.indexOf("/"); slash >= 0; slash = path.indexOf("/", slash + 1)) {
      if ((maps.depths & bit(depth)) !== 0) best = lowest(maps.segments.get(path.slice(0, slash)), holds, of, best);
      depth++;
    }
    if (path !== "" && (maps.depths & bit(depth)) !== 0) best = lowest(maps.segments.get(path), holds, of, best);
  }
  for (let index = 0; index < maps.prefixLengths.length; index++) {
    const length = maps.prefixLengths[index]!;
    if (length > path.length) break;
    best = lowest(maps.prefixes.get(path.slice(0, length)), holds, of, best);
  }
  return best;
}

function lowest<T>(
  numbers: Numbers | undefined,
  holds: (number: number, of: T) => boolean,
  of: T,
  before: number,
): number {
  if (numbers === undefined) return before;
  for (let index = 0; index < numbers.length; index++) {
    const number = numbers[index]!;
    if (number >= before) return before;
    if (holds(number, of)) return number;
  }
  return before;
}

function emptyMaps(): Maps {
  return { exact: new Map(), segments: new Map(), prefixes: new Map(), prefixLengths: [], depths: 0 };
}

function addLength(lengths: number[], length: number): void {
  if (lengths.includes(length)) return;
  lengths.push(length);
  lengths.sort((a, b) => a - b);
}

function put(map: Map<string, Numbers>, key: string, number: number): void {
  const list = map.get(key);
  if (list) list.push(number);
  else map.set(key, [number]);
}

function slashes(text: string): number {
  let count = 0;
  for (let at = text.indexOf("/"); at >= 0; at = text.indexOf("/", at + 1)) count++;
  return count;
}

function bit(depth: number): number {
  return 1 << Math.min(depth, 31);
}
