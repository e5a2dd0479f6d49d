// Equality by value for plain data: what decides whether a change travels further. Identity is tried first, at every level,
// so that comparing two objects which share most of their parts is cheap.

interface Comparable {
  equals(other: unknown): boolean;
}

/**
 * Plain objects, arrays, Maps, Sets, Dates and byte arrays are compared by content, instances of other classes by their
 * own `equals(other)` method or else by identity. A field that is `undefined` differs from one that is absent.
 */
export function deepEqual(a: unknown, b: unknown): boolean {
  if (Object.is(a, b)) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  const prototype = Object.getPrototypeOf(a);
  if (prototype !== Object.getPrototypeOf(b)) return false;
  if (Array.isArray(a)) return equalLists(a, b as readonly unknown[]);
  if (prototype === Object.prototype || prototype === null) {
    return equalRecords(a as Readonly<Record<string, unknown>>, b as Readonly<Record<string, unknown>>);
  }
  if (typeof (a as Partial<Comparable>).equals === "function") return (a as Comparable).equals(b);
  if (a instanceof Map) return equalMaps(a, b as ReadonlyMap<unknown, unknown>);
  if (a instanceof Set)
    return a.size === (b as ReadonlySet<unknown>).size && [...a].every((one) => (b as Set<unknown>).has(one));
  if (a instanceof Date) return a.getTime() === (b as Date).getTime();
  if (a instanceof Uint8Array) return equalLists(a, b as Uint8Array);
  return false;
}

function equalLists(a: ArrayLike<unknown>, b: ArrayLike<unknown>): boolean {
  if (a.length !== b.length) return false;
  for (let at = 0; at < a.length; at++) if (!deepEqual(a[at], b[at])) return false;
  return true;
}

function equalRecords(a: Readonly<Record<string, unknown>>, b: Readonly<Record<string, unknown>>): boolean {
  const keys = Object.keys(a);
  if (keys.length !== Object.keys(b).length) return false;
  for (const key of keys) {
    const left = a[key];
    const right = b[key];
    if (left === right && (left !== undefined || Object.hasOwn(b, key))) continue;
    if (!Object.hasOwn(b, key) || !deepEqual(left, right)) return false;
  }
  return true;
}

function equalMaps(a: ReadonlyMap<unknown, unknown>, b: ReadonlyMap<unknown, unknown>): boolean {
  if (a.size !== b.size) return false;
  for (const [key, value] of a) if (!b.has(key) || !deepEqual(value, b.get(key))) return false;
  return true;
}
