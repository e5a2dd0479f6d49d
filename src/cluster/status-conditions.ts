// The times of conditions (apimachinery meta/v1 Condition): `lastTransitionTime` stays while a condition's `status` does, and
// is stamped when it changes or is new. Works on any status, wherever its conditions are: at the top, in
// `listeners[]`, in `parents[]`. Pure.

import { deepEqual } from "../collections/equal.ts";

type Fields = Readonly<Record<string, unknown>>;

/** What tells the entries of a list apart: a Gateway's listeners, a route's parents, a policy's ancestors. */
const identities = ["name", "parentRef", "ancestorRef", "controllerName", "parentName"] as const;

/** `wanted` with the times of its conditions, from `stored` or `now` (RFC 3339). Fields that are undefined are left out. */
export function withTransitionTimes(stored: unknown, wanted: Fields, now: string): Fields {
  const before = isFields(stored) ? stored : {};
  const result: Record<string, unknown> = {};
  for (const [field, value] of Object.entries(wanted)) {
    if (value === undefined) continue;
    result[field] = field === "conditions" ? conditions(before[field], value, now) : inside(before[field], value, now);
  }
  return result;
}

function inside(stored: unknown, wanted: unknown, now: string): unknown {
  if (Array.isArray(wanted)) {
    const before = Array.isArray(stored) ? stored : [];
    return wanted.map((one) => {
      if (!isFields(one)) return one;
      return withTransitionTimes(
        before.find((other) => isFields(other) && sameEntry(one, other)),
        one,
        now,
      );
    });
  }
  return isFields(wanted) ? withTransitionTimes(stored, wanted, now) : wanted;
}

function conditions(stored: unknown, wanted: unknown, now: string): unknown {
  if (!Array.isArray(wanted)) return wanted;
  const before = Array.isArray(stored) ? stored.filter(isFields) : [];
  return wanted.map((one: Fields) => {
    const old = before.find((other) => other["type"] === one["type"]);
    const kept = old?.["status"] === one["status"] ? old?.["lastTransitionTime"] : undefined;
    return { ...one, lastTransitionTime: kept ?? now };
  });
}

function sameEntry(a: Fields, b: Fields): boolean {
  const told = identities.filter((field) => a[field] !== undefined);
  return told.length > 0 && told.every((field) => deepEqual(a[field], b[field]));
}

function isFields(value: unknown): value is Fields {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
