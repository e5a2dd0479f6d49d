// The loop that all controllers share: keys of objects that may need work, each handled by at most one `reconcile` at a time,
// again when it failed (with growing pauses) and again when it changed meanwhile. The counterpart of client-go's workqueue.
// Nothing polls: a key gets here from a change of a collection, or from a time that `reconcile` itself asked for.

import { StatusError } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";

/** Milliseconds after which the key is to be looked at again; undefined when only a change matters. */
export type Again = number | undefined | void;

export interface ControllerOptions {
  readonly name: string;
  readonly clock: Clock;
  readonly log: Logger;
  /** Brings the world of one key closer to what is wanted. May be called when there is nothing to do. */
  readonly reconcile: (key: string) => Promise<Again>;
  /**
   * Milliseconds in which a key that was just handled is left alone, so that many changes of a big object cost one look at it
   * and not one each. Without it a key is handled again at once.
   */
  readonly rest?: (key: string) => number;
  /** Keys handled at once. */
  readonly concurrency?: number;
}

export interface Controller extends Disposable {
  /** Asks for `key` to be looked at soon. */
  enqueue(key: string): void;
}

/** The longest pause after failures, in milliseconds. */
const longestPause = 30_000;
/** What a timer can wait, in milliseconds (25 days); a key that waits longer is looked at in between. */
const longestTimer = 2 ** 31 - 1;

export function startController(options: ControllerOptions): Controller {
  const { clock, log, name } = options;
  const concurrency = options.concurrency ?? 16;
  const waiting = new Set<string>();
  const running = new Set<string>();
  const timers = new Map<string, Disposable>();
  const failures = new Map<string, number>();
  /** Handled, and not to be handled again yet; these are in `running` too, but take no place of others. */
  const resting = new Map<string, Disposable>();
  let scheduled = false;
  let disposed = false;

  const schedule = () => {
    if (scheduled || disposed) return;
    scheduled = true;
    queueMicrotask(() => {
      scheduled = false;
      for (const key of waiting) {
        if (disposed || running.size - resting.size >= concurrency) return;
        if (running.has(key)) continue;
        waiting.delete(key);
        running.add(key);
        void run(key);
      }
    });
  };

  const later = (key: string, milliseconds: number) => {
    timers.get(key)?.dispose();
    const timer = clock.after(Math.min(milliseconds, longestTimer), () => {
      timers.delete(key);
      controller.enqueue(key);
    });
    timers.set(key, timer);
  };

  const release = (key: string) => {
    resting.delete(key);
    running.delete(key);
    if (waiting.size > 0) schedule();
  };

  const run = async (key: string) => {
    try {
      const again = await options.reconcile(key);
      failures.delete(key);
      if (typeof again === "number" && !disposed) later(key, again);
    } catch (error) {
      if (disposed) return;
      const count = failures.get(key) ?? 0;
      failures.set(key, count + 1);
      const pause = backoff(count, { initial: isRace(error) ? 5 : 50, max: longestPause });
      const level = isRace(error) ? "debug" : "warn";
      log[level]("could not reconcile, trying again", { controller: name, key, pause, error: messageOf(error) });
      later(key, pause);
    } finally {
      const rest = disposed ? 0 : (options.rest?.(key) ?? 0);
      if (rest >= 1)
        resting.set(
          key,
          clock.after(rest, () => release(key)),
        );
      else release(key);
    }
  };

  const controller: Controller = {
    enqueue(key) {
      if (disposed) return;
      timers.get(key)?.dispose();
      timers.delete(key);
      waiting.add(key);
      schedule();
    },
    dispose() {
      disposed = true;
      waiting.clear();
      for (const timer of [...timers.values(), ...resting.values()]) timer.dispose();
      timers.clear();
      resting.clear();
    },
  };
  return controller;
}

/** Somebody else wrote in between, or the namespace is going: no fault, only to be looked at anew. */
function isRace(error: unknown): boolean {
  if (!(error instanceof StatusError)) return false;
  if (error.details?.causes?.some((cause) => cause.reason === "NamespaceTerminating")) return true;
  return ["Conflict", "NotFound", "AlreadyExists"].includes(error.reason);
}
