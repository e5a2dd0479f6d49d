// metav1.Condition lists: set one condition and keep when it last changed (apimachinery meta.SetStatusCondition).

import { formatTime } from "./strategy.ts";

export interface Condition {
  readonly type: string;
  readonly status: "True" | "False" | "Unknown";
  readonly reason: string;
  readonly message: string;
  readonly lastTransitionTime: string;
  readonly observedGeneration?: number;
}

export type WantedCondition = Omit<Condition, "lastTransitionTime">;

/**
 * The list with `wanted` in it. lastTransitionTime moves only when the status changes; a list in which nothing differs is
 * returned as it is (the same reference), so that callers can tell that there is nothing to write. `now` in milliseconds.
 */
export function setCondition(
  conditions: readonly Condition[] | undefined,
  wanted: WantedCondition,
  now: number,
): readonly Condition[] {
  const list = conditions ?? [];
  const index = list.findIndex((one) => one.type === wanted.type);
  const old = list[index];
  if (!old) return [...list, order(wanted, formatTime(now))];
  if (
    old.status === wanted.status &&
    old.reason === wanted.reason &&
    old.message === wanted.message &&
    old.observedGeneration === wanted.observedGeneration
  ) {
    return list;
  }
  const since = old.status === wanted.status ? old.lastTransitionTime : formatTime(now);
  return list.map((one, at) => (at === index ? order(wanted, since) : one));
}

/** Sets several, in their order. */
export function setConditions(
  conditions: readonly Condition[] | undefined,
  wanted: readonly WantedCondition[],
  now: number,
): readonly Condition[] {
  return wanted.reduce<readonly Condition[]>((list, one) => setCondition(list, one, now), conditions ?? []);
}

function order(wanted: WantedCondition, lastTransitionTime: string): Condition {
  return {
    type: wanted.type,
    status: wanted.status,
    ...(wanted.observedGeneration === undefined ? {} : { observedGeneration: wanted.observedGeneration }),
    lastTransitionTime,
    reason: wanted.reason,
    message: wanted.message,
  };
}
