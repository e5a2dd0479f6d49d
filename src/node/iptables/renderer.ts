// Fragments of rows put together into whole chains, and kept up to date row by row. The outcome depends only on the rows that
// are there, not on the order they came in: rows stand in the shared chains sorted by key.

import type { Batch } from "../../collections/collection.ts";
import type { ServicePort, ServiceTable } from "../../services/service-table.ts";
import type { Renderer, Rules } from "../service-rules.ts";
import { fixedChains, type IptablesOptions, jumps, sharedChains } from "./fixed-chains.ts";
import { type Fragment, renderPort } from "./render.ts";

/** All rules of a table; rows of the other family are left out. Pure. */
export function render(table: ServiceTable, options: IptablesOptions): Rules {
  const renderer = new IptablesRenderer(options);
  const batch = [...table.values()].map((row) => ({ key: row.key, before: undefined, after: row }));
  renderer.apply(batch);
  return renderer.rules;
}

/** Above so many endpoints kube-proxy leaves comments out (pkg/proxy/iptables largeClusterEndpointsThreshold). */
export const largeCluster = 1000;

function endpointCount({ clusterEndpoints, localEndpoints }: ServicePort): number {
  // Local ones are mostly among those of the cluster.
  return clusterEndpoints.length > 0 ? clusterEndpoints.length : localEndpoints.length;
}

export class IptablesRenderer implements Renderer {
  readonly #options: IptablesOptions;
  readonly #rules: Map<string, readonly string[]>;
  readonly #fragments = new Map<string, Fragment>();
  /** Lines of the shared chains by row key. */
  readonly #shared = new Map<string, SortedLines>();
  /** Rows that want a chain of their own: two rows never share one, but a port may change hands within a batch. */
  readonly #owners = new Map<string, string>();
  readonly #rows = new Map<string, ServicePort>();
  #endpoints = 0;
  #large = false;

  constructor(options: IptablesOptions) {
    this.#options = options;
    this.#rules = new Map([...jumps(), ...fixedChains(options)]);
    for (const [chain, { tail }] of sharedChains(options)) {
      const lines = new SortedLines(tail);
      this.#shared.set(chain, lines);
      this.#rules.set(chain, lines.all());
    }
  }

  get rules(): Rules {
    return this.#rules;
  }

  apply(batch: Batch<ServicePort>): ReadonlySet<string> {
    const touched = new Set<string>();
    for (const { key, after } of batch) this.#count(key, after?.family === this.#options.family ? after : undefined);
    const large = this.#endpoints > largeCluster;
    // At the threshold all rules about endpoints change their form, so that what stands there depends on the rows alone.
    const keys =
      large === this.#large
        ? batch.map(({ key }) => key)
        : new Set([...batch.map(({ key }) => key), ...this.#rows.keys()]);
    this.#large = large;
    for (const key of keys) {
      const row = this.#rows.get(key);
      this.#replace(key, row && renderPort(row, this.#options, large, this.#fragments.get(key)), touched);
    }
    for (const chain of touched) {
      const lines = this.#shared.get(chain);
      if (lines) this.#rules.set(chain, lines.all());
    }
    return touched;
  }

  #count(key: string, after: ServicePort | undefined): void {
    const before = this.#rows.get(key);
    this.#endpoints += (after ? endpointCount(after) : 0) - (before ? endpointCount(before) : 0);
    if (after) this.#rows.set(key, after);
    else this.#rows.delete(key);
  }

  #replace(key: string, after: Fragment | undefined, touched: Set<string>): void {
    const before = this.#fragments.get(key);
    if (after) this.#fragments.set(key, after);
    else this.#fragments.delete(key);
    const [old, wanted] = [before?.endpoints, after?.endpoints];
    for (const chain of before?.chains.keys() ?? []) if (!after?.chains.has(chain)) this.#drop(key, chain, touched);
    for (const [text, end] of old ?? []) {
      if (wanted?.get(text)?.piece !== end.piece) this.#drop(key, end.piece, touched);
    }
    for (const [chain, lines] of after?.chains ?? []) this.#write(key, chain, lines, touched);
    for (const [text, end] of wanted ?? []) {
      // One that was taken over stands there already.
      if (old?.get(text) !== end) this.#write(key, end.piece, end.lines, touched);
    }
    for (const [chain, sorted] of this.#shared) {
      const lines = after?.shared.get(chain);
      if (sameLines(before?.shared.get(chain) ?? [], lines ?? [])) continue;
      sorted.set(key, lines);
      touched.add(chain);
    }
  }

  #drop(key: string, chain: string, touched: Set<string>): void {
    if (this.#owners.get(chain) !== key) return;
    this.#rules.delete(chain);
    this.#owners.delete(chain);
    touched.add(chain);
  }

  #write(key: string, chain: string, lines: readonly string[], touched: Set<string>): void {
    const now = this.#rules.get(chain);
    this.#owners.set(chain, key);
    if (now && sameLines(now, lines)) return;
    this.#rules.set(chain, lines);
    touched.add(chain);
  }
}

/** Lines by key, in the order of the keys, with fixed ones at the end. */
class SortedLines {
  readonly #keys: string[] = [];
  readonly #lines = new Map<string, readonly string[]>();
  readonly #tail: readonly string[];

  constructor(tail: readonly string[]) {
    this.#tail = tail;
  }

  set(key: string, lines: readonly string[] | undefined): void {
    const known = this.#lines.has(key);
    if (lines && lines.length > 0) {
      this.#lines.set(key, lines);
      if (!known) this.#keys.splice(this.#place(key), 0, key);
    } else if (known) {
      this.#lines.delete(key);
      this.#keys.splice(this.#place(key), 1);
    }
  }

  all(): readonly string[] {
    const out: string[] = [];
    for (const key of this.#keys) out.push(...this.#lines.get(key)!);
    out.push(...this.#tail);
    return out;
  }

  #place(key: string): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}

export function sameLines(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((line, at) => line === b[at]));
}
