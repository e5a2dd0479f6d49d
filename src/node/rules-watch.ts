// Whether somebody else changed rules that we wrote, for rules that are few enough to be listed and written as a whole (the load
// balancer's, host ports'). Tools print rules otherwise than they take them: what is listed first after a write, and is whole, is
// how they should look. Service rules are compared piece by piece in `rules-sink.ts`.

import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";

export interface RulesWatchOptions {
  /** Opens a sentence: `host ports`. */
  readonly what: string;
  /** False while there are no rules, or some are being written. */
  readonly settled: () => boolean;
  /** The rules as text that is the same while nobody changes them; undefined when not all of them are there. */
  readonly list: () => Promise<string | undefined>;
  /** Writes all rules anew. */
  readonly repair: () => void;
  /** Tells whether anybody changed rules since it was asked last. With it the rules are read only then, and every 10 s. */
  readonly events?: { changed(): boolean } | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface RulesWatch extends Disposable {
  /** To be called with each write: other rules are right now. */
  wrote(): void;
}

/** Milliseconds between looks whether the rules are still there. */
const checkEvery = 500;

/** How often they are read though no event says so. */
const unaskedEvery = 10_000;

/** A look takes at most one part in so many of the time: few looks are in vain where the kernel tells of changes. */
const share = { told: 2, untold: 20 } as const;

export function watchRules({ what, settled, list, repair, events, clock, log }: RulesWatchOptions): RulesWatch {
  let listed: string | undefined;
  let writes = 0;
  let checking = false;
  let unasked = clock.now() + unaskedEvery;
  let notBefore = 0;
  /** Somebody may have changed rules since they were listed last. */
  let foreign = false;
  /** Repairs after which the rules were not as they should be either. */
  let inVain = 0;
  let disposed = false;

  async function check(): Promise<void> {
    foreign ||= events?.changed() ?? true;
    if (checking || !settled() || clock.now() < notBefore) return;
    if (!foreign && listed !== undefined && clock.now() < unasked) return;
    checking = true;
    foreign = false;
    unasked = clock.now() + unaskedEvery;
    const [before, at] = [listed, writes];
    const began = performance.now();
    try {
      const now = await list();
      // Written meanwhile: the next look is about that.
      if (disposed || writes !== at || !settled()) return;
      if (now !== undefined && (before === undefined || now === before)) {
        listed = now;
        inVain = 0;
        return;
      }
      log.warn(`${what}: rules were changed by somebody else; putting them back`);
      if (inVain++ > 0) notBefore = clock.now() + backoff(inVain, { initial: 500, max: 60_000 });
      repair();
    } catch (error) {
      log.debug(`${what}: rules could not be read`, { error: messageOf(error) });
    } finally {
      checking = false;
      const pause = (performance.now() - began) * (events ? share.told : share.untold);
      notBefore = Math.max(notBefore, clock.now() + pause);
    }
  }

  const timer = clock.every(checkEvery, () => void check());
  return {
    wrote() {
      listed = undefined;
      writes++;
    },
    dispose() {
      disposed = true;
      timer.dispose();
    },
  };
}
