// One scenario of `side-by-side-policies.test.ts`: rules, what is asked through them, and what may differ; and what stands behind them
// in all scenarios.

import type { Filter } from "../../src/model/filters.ts";
import type { Action, Rule } from "../../src/model/model.ts";
import type { Difference } from "./beside.ts";
import { Origin, type Seen } from "./policy-peers.ts";
import { forwardTo } from "./proxy-harness.ts";

export interface Ask {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | ReadableStream | Uint8Array;
}

export interface Answer {
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: string;
  /** What backends, mirrors and services saw of it. */
  readonly seen: readonly string[];
}

/** One of the two proxies in one scenario. */
export interface Side {
  ask(one?: Ask): Promise<Answer>;
  /** The key of the request that is asked next: what the origin keeps its doings under. */
  nextKey(): string;
  /** Asks until the answers hold, for things that come about in time; of these nothing is compared but the last. */
  until(one: Ask, holds: (answer: Answer) => boolean): Promise<Answer>;
  raw(one: Ask): Promise<Response>;
  /** Asks and goes away when a backend has it. */
  leave(one: Ask): Promise<void>;
}

export interface Scenario {
  readonly name: string;
  readonly rules: readonly Partial<Rule>[];
  /** What is compared. */
  readonly run: (side: Side) => Promise<unknown>;
  readonly differs?: Difference;
  /** Of the flags in the access log. */
  readonly flags?: Difference;
}

export const seen: Seen = new Map();
export const well = { a: true, b: true, c: true, d: true };
export const origins = {
  one: new Origin("one", seen),
  two: new Origin("two", seen),
  auth: new Origin("auth", seen),
  a: new Origin("a", seen, () => well.a),
  b: new Origin("b", seen, () => well.b),
  c: new Origin("c", seen, () => well.c),
  d: new Origin("d", seen, () => well.d),
};
export type Checked = keyof typeof well;
export const allWell = () => Object.assign(well, { a: true, b: true, c: true, d: true });

export const forward = (name: string): Action => ({ kind: "forward", to: [forwardTo(name)] });
export const each =
  (...asks: readonly Ask[]) =>
  async (side: Side) => {
    const answers: Answer[] = [];
    for (const one of asks) answers.push(await side.ask(one));
    return answers;
  };
export const filtered = (name: string, filters: readonly Filter[], ...asks: readonly Ask[]): Scenario => ({
  name,
  rules: [{ filters }],
  run: each(...asks),
});
