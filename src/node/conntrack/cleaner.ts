// Deletes stale UDP entries of connection tracking on one node, after the rules of a change are in the kernel: before, a client's
// next packet would make the same entry again. Reads and deletes with `conntrack` (conntrack-tools); which, `stale.ts` says.

import { backoff } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { IpFamily } from "../../base/ip.ts";
import type { Logger } from "../../base/log.ts";
import type { Change, Collection } from "../../collections/collection.ts";
import type { RulesMeasures } from "../rules-measures.ts";
import type { Run } from "../service-rules.ts";
import { deleteArguments, parseEntries } from "./entries.ts";
import { mayLeaveStale, staleEntries } from "./stale.ts";
import type { UdpService } from "./udp-services.ts";

export interface ConntrackCleanerOptions {
  readonly services: Collection<UdpService>;
  /** Whose entries are looked at. */
  readonly family: IpFamily;
  /** Resolves when the rules are as the objects say now. */
  readonly settled: () => Promise<void>;
  /** Runs programs in the node's network namespace. */
  readonly run: Run;
  readonly nodeAddresses: readonly string[];
  readonly measures: RulesMeasures;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface ConntrackCleaner extends Disposable {
  /** Resolves when the entries that changes up to now made stale are gone. */
  settled(): Promise<void>;
}

/** Milliseconds until what failed is tried again: at first, and at most. */
const retryAfter = { initial: 1_000, max: 60_000 };

/** Starts with all Services there are: what became stale while nobody looked goes, too. */
export function startConntrackCleaner(options: ConntrackCleanerOptions): ConntrackCleaner {
  const { services, family, run, nodeAddresses, measures, clock, log } = options;
  const waiting = new Map<string, Change<UdpService>>();
  let working: Promise<void> | undefined;
  let retry: Disposable | undefined;
  let disposed = false;
  let complaint: string | undefined;
  let attempt = 0;

  async function work(): Promise<void> {
    await Promise.resolve();
    while (waiting.size > 0 && !disposed) {
      await options.settled();
      const changes = [...waiting.values()];
      waiting.clear();
      try {
        await clean(changes);
        complaint = undefined;
        attempt = 0;
      } catch (error) {
        for (const change of changes) add(change, waiting.get(change.key));
        const message = messageOf(error);
        if (message !== complaint) {
          const remedy = "is conntrack installed (Debian: apt-get install conntrack)?";
          log.warn("stale UDP entries were not deleted; trying again", { error: message, remedy });
        }
        complaint = message;
        if (!disposed) retry = clock.after(backoff(attempt++, retryAfter), start);
        return;
      }
    }
  }

  async function clean(changes: readonly Change<UdpService>[]): Promise<void> {
    const begun = performance.now();
    const listed = await run(["conntrack", "-L", "-f", `ipv${family}`, "-p", "udp"]);
    if (listed.code !== 0) throw new Error(`conntrack -L: ${listed.stderr.trim().split("\n")[0]}`);
    const stale = staleEntries(parseEntries(listed.stdout), changes, services.values(), nodeAddresses);
    for (const entry of stale) {
      const { code, stderr } = await run(["conntrack", ...deleteArguments(entry)]);
      const count = /(\d+) flow entries have been deleted/.exec(stderr)?.[1];
      // It says 1 where there was nothing to delete any more.
      if (code !== 0 && count === undefined) throw new Error(`conntrack -D: ${stderr.trim().split("\n")[0]}`);
      measures.conntrackDeleted += Number(count ?? 0);
    }
    measures.conntrack.observe((performance.now() - begun) / 1000);
    if (stale.length > 0) log.info("stale UDP entries deleted", { destinations: stale.length });
  }

  function add(earlier: Change<UdpService>, later: Change<UdpService> | undefined): void {
    waiting.set(earlier.key, { ...earlier, after: later ? later.after : earlier.after });
  }

  function start(): void {
    if (disposed || working) return;
    working = work().finally(() => {
      working = undefined;
      if (waiting.size > 0 && !retryPending()) start();
    });
  }
  const retryPending = () => complaint !== undefined;

  const subscription = services.subscribe(
    (batch) => {
      for (const change of batch) {
        const earlier = waiting.get(change.key);
        if (earlier) add(earlier, change);
        else if (mayLeaveStale(change)) waiting.set(change.key, change);
      }
      if (waiting.size > 0) start();
    },
    { replay: true },
  );
  return {
    async settled() {
      while (working) await working;
    },
    dispose() {
      disposed = true;
      subscription.dispose();
      retry?.dispose();
    },
  };
}
