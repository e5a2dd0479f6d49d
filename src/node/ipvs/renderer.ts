// Fragments of rows put together into all pieces, and kept up to date row by row. The outcome depends only on the rows that are
// there: of two rows that want one virtual server (a conflict of external addresses), the one whose key sorts first has it.

import type { Batch } from "../../collections/collection.ts";
import type { ServicePort, ServiceTable } from "../../services/service-table.ts";
import { sameLines } from "../iptables/renderer.ts";
import type { Renderer, Rules } from "../service-rules.ts";
import { chains, type IpvsOptions, jumps } from "./fixed-chains.ts";
import { device, type SetId, setHeader, setIds, setName } from "./names.ts";
import { type Fragment, renderPort } from "./render.ts";

/** All rules of a table; rows of the other family are left out. Pure. */
export function render(table: ServiceTable, options: IpvsOptions): Rules {
  const renderer = new IpvsRenderer(options);
  renderer.apply([...table.values()].map((row) => ({ key: row.key, before: undefined, after: row })));
  return renderer.rules;
}

export class IpvsRenderer implements Renderer {
  readonly #options: IpvsOptions;
  readonly #rules: Map<string, readonly string[]>;
  readonly #fragments = new Map<string, Fragment>();
  /** The rows that want a piece: one key, or several in order. */
  readonly #owners = new Map<string, string | readonly string[]>();
  /** How many entries each set has. */
  readonly #entries = new Map<SetId, number>();
  /** Rows with lines in KUBE-IPVS-OUT-FILTER. */
  readonly #outFilter = new Set<string>();

  constructor(options: IpvsOptions) {
    this.#options = options;
    this.#rules = new Map<string, readonly string[]>([[`device/${device}`, ["type dummy"]], ...jumps()]);
    for (const id of setIds) this.#rules.set(`set/${setName(id, options.family)}`, [setHeader(id, options.family)]);
    this.#renderChains(new Set());
  }

  get rules(): Rules {
    return this.#rules;
  }

  apply(batch: Batch<ServicePort>): ReadonlySet<string> {
    const touched = new Set<string>();
    const before = this.#chainInputs();
    let outFilter = false;
    for (const { key, after } of batch) {
      const row = after?.family === this.#options.family ? after : undefined;
      outFilter = this.#replace(key, row && renderPort(row, this.#options), touched) || outFilter;
    }
    if (outFilter || before !== this.#chainInputs()) this.#renderChains(touched);
    return touched;
  }

  /** Whether lines of KUBE-IPVS-OUT-FILTER changed. */
  #replace(key: string, after: Fragment | undefined, touched: Set<string>): boolean {
    const before = this.#fragments.get(key);
    if (after) this.#fragments.set(key, after);
    else this.#fragments.delete(key);
    for (const piece of before?.pieces.keys() ?? []) {
      if (after?.pieces.has(piece)) continue;
      this.#disown(piece, key);
      this.#settle(piece, before?.sets.get(piece), touched);
    }
    for (const piece of after?.pieces.keys() ?? []) {
      if (!before?.pieces.has(piece)) this.#own(piece, key);
      this.#settle(piece, after?.sets.get(piece), touched);
    }
    if (after && after.outFilter.length > 0) this.#outFilter.add(key);
    else this.#outFilter.delete(key);
    return !sameLines(before?.outFilter ?? [], after?.outFilter ?? []);
  }

  #own(piece: string, key: string): void {
    const owners = this.#owners.get(piece);
    if (owners === undefined) this.#owners.set(piece, key);
    else this.#owners.set(piece, [...(typeof owners === "string" ? [owners] : owners), key].sort());
  }

  #disown(piece: string, key: string): void {
    const owners = this.#owners.get(piece);
    const left = typeof owners === "string" ? [] : (owners ?? []).filter((one) => one !== key);
    if (left.length === 0) this.#owners.delete(piece);
    else this.#owners.set(piece, left.length === 1 ? left[0]! : left);
  }

  /** Gives a piece the lines of its first owner, or takes it away. */
  #settle(piece: string, set: SetId | undefined, touched: Set<string>): void {
    const owners = this.#owners.get(piece);
    const owner = typeof owners === "string" ? owners : owners?.[0];
    const lines = owner === undefined ? undefined : this.#fragments.get(owner)?.pieces.get(piece);
    const now = this.#rules.get(piece);
    if (now && lines && sameLines(now, lines)) return;
    if (lines) this.#rules.set(piece, lines);
    else if (!this.#rules.delete(piece)) return;
    touched.add(piece);
    if (set === undefined || (now && lines)) return;
    this.#entries.set(set, (this.#entries.get(set) ?? 0) + (lines ? 1 : -1));
  }

  /** What the fixed chains depend on besides the lines of KUBE-IPVS-OUT-FILTER: which sets have entries. */
  #chainInputs(): string {
    return setIds.map((id) => ((this.#entries.get(id) ?? 0) > 0 ? "1" : "0")).join("");
  }

  #renderChains(touched: Set<string>): void {
    const outFilter = [...this.#outFilter].sort().flatMap((key) => this.#fragments.get(key)?.outFilter ?? []);
    const all = chains(this.#options, (id) => (this.#entries.get(id) ?? 0) > 0, outFilter);
    for (const [chain, lines] of all) {
      const now = this.#rules.get(chain);
      if (now && sameLines(now, lines)) continue;
      this.#rules.set(chain, lines);
      touched.add(chain);
    }
  }
}
