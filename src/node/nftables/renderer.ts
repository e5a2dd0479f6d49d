// The pieces that rows ask for, kept up to date row by row. Where several rows ask for one piece (the ports of a Service share
// their ClusterIP; two Services may claim one external address), the row with the smallest key decides, so that the outcome
// depends only on the rows that are there and not on the order they came in.

import type { Batch } from "../../collections/collection.ts";
import type { ServicePort, ServiceTable } from "../../services/service-table.ts";
import { sameLines } from "../iptables/renderer.ts";
import type { Renderer, Rules } from "../service-rules.ts";
import { fixedPieces, type NftablesOptions } from "./fixed.ts";
import { type Draw, type Fragment, renderPort } from "./render.ts";

/** With more rows than these, endpoints are drawn by rules. */
const mostDrawnByMaps = 1000;

/** All pieces of a table; rows of the other family are left out. Pure. */
export function render(table: ServiceTable, options: NftablesOptions): Rules {
  const renderer = new NftablesRenderer(options);
  renderer.apply([...table.values()].map((row) => ({ key: row.key, before: undefined, after: row })));
  return renderer.rules;
}

interface Claim {
  readonly row: string;
  readonly lines: readonly string[];
}

export class NftablesRenderer implements Renderer {
  #options: NftablesOptions;
  readonly #rules: Map<string, readonly string[]>;
  readonly #rows = new Map<string, ServicePort>();
  readonly #fragments = new Map<string, Fragment>();
  /** Who asks for a piece, sorted by row. */
  readonly #claims = new Map<string, readonly Claim[]>();

  #draw: Draw = "maps";

  constructor(options: NftablesOptions) {
    this.#options = options;
    this.#rules = new Map(fixedPieces(options));
  }

  get rules(): Rules {
    return this.#rules;
  }

  apply(batch: Batch<ServicePort>): ReadonlySet<string> {
    const touched = new Set<string>();
    const changed = new Map<string, ServicePort | undefined>();
    for (const { key, after } of batch) {
      const row = after?.family === this.#options.family ? after : undefined;
      changed.set(key, row);
      if (row) this.#rows.set(key, row);
      else this.#rows.delete(key);
    }
    const draw: Draw = this.#rows.size > mostDrawnByMaps ? "rules" : "maps";
    if (draw !== this.#draw) {
      this.#draw = draw;
      for (const [key, row] of this.#rows) changed.set(key, row);
    }
    for (const [key, row] of changed) this.#replace(key, row && renderPort(row, this.#options, draw), touched);
    return touched;
  }

  serviceCidrs(ranges: readonly string[]): ReadonlySet<string> {
    this.#options = { ...this.#options, serviceCidrs: ranges };
    const touched = new Set<string>();
    for (const [piece, lines] of fixedPieces(this.#options)) {
      if (sameLines(this.#rules.get(piece) ?? [], lines)) continue;
      this.#rules.set(piece, lines);
      touched.add(piece);
    }
    return touched;
  }

  #replace(row: string, after: Fragment | undefined, touched: Set<string>): void {
    const before = this.#fragments.get(row);
    if (after) this.#fragments.set(row, after);
    else this.#fragments.delete(row);
    for (const piece of before?.keys() ?? []) if (!after?.has(piece)) this.#claim(piece, row, undefined, touched);
    for (const [piece, lines] of after ?? []) {
      const known = before?.get(piece);
      if (!known || !sameLines(known, lines)) this.#claim(piece, row, lines, touched);
    }
  }

  #claim(piece: string, row: string, lines: readonly string[] | undefined, touched: Set<string>): void {
    const others = (this.#claims.get(piece) ?? []).filter((one) => one.row !== row);
    const claims = lines ? [...others, { row, lines }].sort((a, b) => (a.row < b.row ? -1 : 1)) : others;
    const now = this.#rules.get(piece);
    const [first] = claims;
    if (first) {
      this.#claims.set(piece, claims);
      if (now && sameLines(now, first.lines)) return;
      this.#rules.set(piece, first.lines);
    } else {
      this.#claims.delete(piece);
      this.#rules.delete(piece);
    }
    touched.add(piece);
  }
}
