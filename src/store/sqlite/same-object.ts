// When two states of an object are one: a write that changes nothing is not stored and gets no new resourceVersion.

import type { KubeObject, ManagedFieldsEntry } from "../../api/object.ts";

/**
 * Equal by value but for metadata.resourceVersion and the times in managedFields (a manager that writes what it wrote
 * before does not change the object). Absent and undefined fields are the same.
 */
export function sameObject(a: KubeObject, b: KubeObject): boolean {
  if (a === b) return true;
  const keys = new Set([...Object.keys(a), ...Object.keys(b)]);
  for (const key of keys) {
    if (key === "metadata") {
      const { resourceVersion: _a, managedFields: managersOfA, ...left } = a.metadata;
      const { resourceVersion: _b, managedFields: managersOfB, ...right } = b.metadata;
      if (!sameValue(left, right) || !sameValue(untimed(managersOfA), untimed(managersOfB))) return false;
    } else if (!sameValue(a[key], b[key])) return false;
  }
  return true;
}

const untimed = (managers: readonly ManagedFieldsEntry[] = []) => managers.map(({ time: _, ...entry }) => entry);

/** Deep equality of JSON values. */
export function sameValue(a: unknown, b: unknown): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) !== Array.isArray(b)) return false;
  if (Array.isArray(a) && Array.isArray(b)) {
    if (a.length !== b.length) return false;
    for (let i = 0; i < a.length; i++) if (!sameValue(a[i], b[i])) return false;
    return true;
  }
  const left = a as Record<string, unknown>;
  const right = b as Record<string, unknown>;
  for (const key in left) if (!sameValue(left[key], right[key])) return false;
  for (const key in right) if (right[key] !== undefined && left[key] === undefined) return false;
  return true;
}
