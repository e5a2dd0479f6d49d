// Rules of one host, found by path without trying each. The order of the rules is kept exactly: every lookup that the path
// allows gives an ordered list of rule numbers, and the lowest one whose other conditions hold wins. Exact paths, segment
// prefixes and string prefixes are lookups by hash in one pass over the path; only regular expressions, and rules without a path, are tried one by one.

import { lowerAscii } from "../../model/ascii.ts";
import type { Match } from "../../model/model.ts";
import { Beginnings, hashOn, hashSeed } from "./beginnings.ts";

const slash = 47;

/** Rule numbers, ascending. */
type Numbers = number[];

/** Lookups for paths as they are, or folded to lower case. */
interface Maps {
  readonly exact: Beginnings<Numbers>;
  /** By the prefix without its trailing slash. */
  readonly segments: Beginnings<Numbers>;
  readonly prefixes: Beginnings<Numbers>;
  /** Lengths that occur among `prefixes`, ascending. */
  readonly prefixLengths: number[];
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
  const { exact, segments, prefixes, prefixLengths, depths } = maps;
  const { length } = path;
  let best = before;
  let hash = hashSeed;
  let depth = 0;
  let nextLength = 0;
  for (let at = 0; at < length; at++) {
    const code = path.charCodeAt(at);
    if (prefixLengths[nextLength] === at) {
      best = lowest(prefixes.get(path, at, hash), holds, of, best);
      nextLength++;
    }
    if (code === slash) {
      if ((depths & bit(depth)) !== 0) best = lowest(segments.get(path, at, hash), holds, of, best);
      depth++;
    }
    hash = hashOn(hash, code);
  }
  if (prefixLengths[nextLength] === length) best = lowest(prefixes.get(path, length, hash), holds, of, best);
  if (length > 0 && (depths & bit(depth)) !== 0) best = lowest(segments.get(path, length, hash), holds, of, best);
  return exact.size > 0 ? lowest(exact.get(path, length, hash), holds, of, best) : best;
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
  return {
    exact: new Beginnings(),
    segments: new Beginnings(),
    prefixes: new Beginnings(),
    prefixLengths: [],
    depths: 0,
  };
}

function addLength(lengths: number[], length: number): void {
  if (lengths.includes(length)) return;
  lengths.push(length);
  lengths.sort((a, b) => a - b);
}

function put(map: Beginnings<Numbers>, key: string, number: number): void {
  map.take(key, () => []).push(number);
}

function slashes(text: string): number {
  let count = 0;
  for (let at = text.indexOf("/"); at >= 0; at = text.indexOf("/", at + 1)) count++;
  return count;
}

function bit(depth: number): number {
  return 1 << Math.min(depth, 31);
}
