// Keeps the kernel's rules equal to a node's service table: takes batches of changed rows, writes what differs in one
// transaction at a time, and starts from what is there. A refused transaction or rules that somebody else took away lead to the
// same place: read, compare, write the difference. Which tool does it is `service-rules.ts`'.

import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { type Disposable, disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import type { ServicePort } from "../services/service-table.ts";
import { RulesMeasures } from "./rules-measures.ts";
import type { Rules, ServiceRules } from "./service-rules.ts";

export interface RulesSinkOptions {
  /** Rows of other families than that of `rules` are not looked at. */
  readonly table: Collection<ServicePort>;
  readonly rules: ServiceRules;
  readonly clock: Clock;
  readonly log: Logger;
  /** Milliseconds between looks whether the rules are still there; 500 unless given. */
  readonly checkEvery?: number;
  /** Tells whether anybody changed rules since it was asked last. With it the kernel is read only then, and every 10 s. */
  readonly events?: { changed(): boolean } | undefined;
  /** Up to this many lines a look reads everything back and so finds any change; above, only whether our tables were emptied. */
  readonly fullCheckUpTo?: number;
  /** When the endpoints of a row changed at their source, RFC 3339: what the latency of changes is measured from. */
  readonly changedAt?: (row: ServicePort) => string | undefined;
}

export interface RulesSinkState {
  /** False until the first transaction, and while one fails. */
  readonly inSync: boolean;
  readonly transactions: number;
  readonly failures: number;
  /** Times that rules had to be put back which somebody else had changed. */
  readonly repairs: number;
  readonly lastError: string | undefined;
  /** For metrics and health. */
  readonly measures: RulesMeasures;
}

export interface RulesSink extends Disposable {
  readonly state: RulesSinkState;
  /** The rules as they should be now. */
  readonly rules: Rules;
  /** Resolves when everything that the table says now is in the kernel. */
  settled(): Promise<void>;
  /** Other ranges than those that the backend was made with; all of them, of either family. */
  serviceCidrs(ranges: readonly string[]): void;
}

/** A look takes at most one part in so many of the time: with many rules the tools are slow even where nothing changed. */
const checkShare = 20;

/** How often the kernel is read though no event says so, in milliseconds: what changed while we wrote is told by none. */
const unaskedEvery = 10_000;

/** Starts at once; `dispose` stops it and leaves the rules as they are (`ServiceRules.remove` takes them out). */
export function startRulesSink(options: RulesSinkOptions): RulesSink {
  const { table, rules, clock, log, events, checkEvery = 500, fullCheckUpTo = 4000 } = options;
  const renderer = rules.renderer();
  /** What the kernel has, as far as we know; undefined: it must be read. */
  let kernel: Map<string, readonly string[]> | undefined;
  const dirty = new Set<string>();
  /** Pieces that this tool's version prints otherwise than it was given them. */
  const printed = new Map<string, { readonly wanted: readonly string[]; readonly shown: readonly string[] }>();
  let busy = false;
  /** Somebody may have changed rules since the last look. */
  let foreign = false;
  let unasked = clock.now() + unaskedEvery;
  let disposed = false;
  let attempt = 0;
  let retry: Disposable | undefined;
  let waiters: (() => void)[] = [];
  let nextCheck = 0;
  const measures = new RulesMeasures(clock.now());
  const state = {
    ...{ inSync: false, transactions: 0, failures: 0, repairs: 0, lastError: undefined as string | undefined },
    measures,
  };

  async function work(): Promise<void> {
    if (busy || disposed) return;
    busy = true;
    retry?.dispose();
    retry = undefined;
    try {
      while (!disposed && (kernel === undefined || dirty.size > 0)) await writeOnce();
      // What changed no rule of this family is in force as well.
      if (measures.pendingSince !== undefined) measures.begin()(clock.now());
      attempt = 0;
      state.inSync = true;
      state.lastError = undefined;
      for (const done of waiters.splice(0)) done();
    } catch (error) {
      state.inSync = false;
      state.failures++;
      state.lastError = messageOf(error);
      kernel = undefined;
      const wait = backoff(attempt++, { initial: 100, max: 5_000 });
      log.warn("service rules were not written; trying again", { mode: rules.mode, error: state.lastError, wait });
      if (!disposed) retry = clock.after(wait, () => void work());
    } finally {
      busy = false;
    }
  }

  async function writeOnce(): Promise<void> {
    const known = kernel;
    const begun = performance.now();
    const now = known ?? new Map(await rules.read());
    // Rows may change while the transaction runs: what it writes is taken now, and the rest waits for the next one.
    const applied = measures.begin();
    try {
      await write(now, known ? [...dirty] : [...new Set([...now.keys(), ...renderer.rules.keys()])]);
    } catch (error) {
      measures.refused(known === undefined);
      throw error;
    }
    measures.took((performance.now() - begun) / 1000, known === undefined);
    applied(clock.now());
  }

  async function write(now: Map<string, readonly string[]>, names: readonly string[]): Promise<void> {
    dirty.clear();
    const wanted = new Map(names.map((name) => [name, renderer.rules.get(name)] as const));
    const transaction = rules.difference(now, renderer.rules, names);
    if (transaction.text !== "") {
      await rules.commit(transaction);
      events?.changed(); // that was us
      state.transactions++;
    }
    for (const [name, lines] of wanted) {
      if (lines) now.set(name, lines);
      else now.delete(name);
    }
    kernel = now;
  }

  async function check(): Promise<void> {
    if (busy || disposed || kernel === undefined || clock.now() < nextCheck) return;
    busy = true;
    foreign = false;
    unasked = clock.now() + unaskedEvery;
    const begun = performance.now();
    const repaired = new Map<string, readonly string[] | undefined>();
    try {
      let lines = 0;
      for (const piece of kernel.values()) lines += piece.length;
      if (lines <= fullCheckUpTo) {
        const found = await rules.read();
        for (const name of differing(found, kernel)) {
          const now = found.get(name);
          repaired.set(name, now);
          if (now) kernel.set(name, now);
          else kernel.delete(name);
          dirty.add(name);
        }
        if (repaired.size === 0) return;
      } else {
        if (await rules.intact()) return;
        kernel = undefined;
      }
      state.repairs++;
      const pieces = [...repaired.keys()].slice(0, 5);
      log.warn("service rules were changed by somebody else; putting them back", { mode: rules.mode, pieces });
    } catch (error) {
      log.warn("service rules could not be read", { mode: rules.mode, error: messageOf(error) });
      kernel = undefined;
    } finally {
      busy = false;
      nextCheck = clock.now() + (performance.now() - begun) * checkShare;
      if (kernel === undefined || dirty.size > 0 || measures.pendingSince !== undefined || waiters.length > 0)
        await work();
    }
    if (repaired.size > 0) await learn(repaired);
  }

  /** What reads as before right after it was put back was not changed by anybody: this tool prints it in its own way. */
  async function learn(repaired: ReadonlyMap<string, readonly string[] | undefined>): Promise<void> {
    if (busy || disposed || kernel === undefined || dirty.size > 0) return;
    busy = true;
    try {
      const found = await rules.read();
      for (const name of differing(found, kernel)) {
        const [shown, wanted] = [found.get(name), kernel.get(name)];
        const before = repaired.get(name);
        if (!shown || !wanted || !before || !sameLines(shown, before)) continue;
        printed.set(name, { wanted, shown });
        const line = shown.findIndex((one, at) => one !== wanted[at]);
        const detail = { piece: name, written: wanted[line], read: shown[line] };
        log.warn("the tool prints a service rule otherwise than it was written; taking it as right", detail);
      }
    } catch (error) {
      log.debug("service rules could not be read", { mode: rules.mode, error: messageOf(error) });
    } finally {
      busy = false;
      if (dirty.size > 0 || measures.pendingSince !== undefined || waiters.length > 0) void work();
    }
  }

  function differing(found: Rules, expected: Rules): readonly string[] {
    const names: string[] = [];
    for (const name of new Set([...found.keys(), ...expected.keys()])) {
      const [shown, wanted] = [found.get(name), expected.get(name)];
      if (shown && wanted) {
        if (sameLines(shown, wanted)) continue;
        const known = printed.get(name);
        if (known && sameLines(known.wanted, wanted) && sameLines(known.shown, shown)) continue;
      }
      names.push(name);
    }
    return names;
  }

  const subscription = table.subscribe(
    (all) => {
      const batch = all.filter(({ before, after }) => (after ?? before)?.family === rules.family);
      if (batch.length === 0) return;
      for (const name of renderer.apply(batch)) dirty.add(name);
      measures.queued(batch, clock.now(), options.changedAt);
      // All batches of one turn of the event loop go into one transaction.
      queueMicrotask(() => void work());
    },
    { replay: true },
  );
  queueMicrotask(() => void work());
  const timer = clock.every(checkEvery, () => {
    foreign ||= events?.changed() ?? true;
    if (foreign || clock.now() >= unasked) void check();
  });

  const end = disposable(() => {
    disposed = true;
    subscription.dispose();
    timer.dispose();
    retry?.dispose();
    for (const done of waiters.splice(0)) done();
    waiters = [];
  });
  return {
    state,
    rules: renderer.rules,
    serviceCidrs(ranges) {
      for (const name of renderer.serviceCidrs?.(ranges) ?? []) dirty.add(name);
      if (dirty.size > 0) queueMicrotask(() => void work());
    },
    settled() {
      if (disposed || (state.inSync && !busy && dirty.size === 0 && kernel !== undefined)) return Promise.resolve();
      return new Promise((resolve) => {
        waiters.push(resolve);
        queueMicrotask(() => void work());
      });
    },
    dispose: end.dispose,
  };
}

function sameLines(a: readonly string[], b: readonly string[]): boolean {
  return a === b || (a.length === b.length && a.every((line, at) => line === b[at]));
}
