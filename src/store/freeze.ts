// Deep freezing, so that every reader of the store can share one object.

/** Freezes plain data all the way down and returns it. What is frozen already is taken as frozen throughout. */
export function deepFreeze<T>(value: T): T {
  if (value === null || typeof value !== "object" || Object.isFrozen(value)) return value;
  Object.freeze(value);
  for (const key in value) deepFreeze((value as Record<string, unknown>)[key]);
  return value;
}
