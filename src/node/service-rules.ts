// How a node makes the kernel serve Services: five calls that each backend (iptables, nftables, ipvs) answers in its own
// folder, and what they need of the node. `rules-sink.ts` drives them; nothing here knows a tool.

import type { IpFamily } from "../base/ip.ts";
import type { Batch } from "../collections/collection.ts";
import type { ServicePort, ServiceTable } from "../services/service-table.ts";

/** Runs a command where the rules belong (inside the node's network namespace). Resolves with its exit code, never throws for one. */
export type Run = (
  argv: readonly string[],
  stdin?: string,
) => Promise<{ readonly code: number; readonly stdout: string; readonly stderr: string }>;

/**
 * A backend's rules as named pieces that are replaced as a whole (for iptables: chains), each with its lines in order, as the
 * kernel's own listing shows them. Plain data: two states are equal when their pieces are.
 */
export type Rules = ReadonlyMap<string, readonly string[]>;

/** One atomic change of the kernel's rules. */
export interface Transaction {
  /** What the tool is given on its standard input; empty when nothing is to do. */
  readonly text: string;
  /** Pieces that are written or removed. */
  readonly pieces: number;
}

/** Renders changes: the work is that of the rows that changed, and the outcome that of rendering all rows anew. */
export interface Renderer {
  readonly rules: Rules;
  /** Takes changed rows in; gives the names of the pieces that may differ now. */
  apply(batch: Batch<ServicePort>): ReadonlySet<string>;
  /** Takes other ranges of Service addresses, likewise. Only a backend that drops what goes to none of its Services has any. */
  serviceCidrs?(ranges: readonly string[]): ReadonlySet<string>;
}

export interface ServiceRules {
  /** `iptables`, …: shown in `status` and messages. */
  readonly mode: string;
  /** Rows of the other family are none of its. */
  readonly family: IpFamily;
  /** All rules of a table. Pure. */
  render(table: ServiceTable): Rules;
  /** An empty table's rules, ready to take rows in. Pure. */
  renderer(): Renderer;
  /** What turns `now` into `wanted`, looking only at the pieces in `names` when given. Pure. */
  difference(now: Rules, wanted: Rules, names?: Iterable<string>): Transaction;
  /** The rules of ours that are in the kernel now. */
  read(): Promise<Rules>;
  /** All of it or nothing. Rejects with the tool's words when the kernel refuses. */
  commit(transaction: Transaction): Promise<void>;
  /** Takes everything of ours out of the kernel. */
  remove(): Promise<void>;
  /** A cheap look whether the rules are still there (somebody flushed a table): false means read again. */
  intact(): Promise<boolean>;
}
