// Slow start: a new endpoint gets its share little by little, because caches are cold and code is not compiled yet. The factor is
// Envoy's (SlowStartConfig): max(minimum, (t / window) ^ (1 / aggression)).

import type { SlowStart } from "../../model/upstream-policies.ts";

/** The factor of an endpoint's weight, `age` milliseconds after it was first seen healthy; 1 when the window is over. */
export function slowStartFactor({ window, minPercent = 10, aggression = 1 }: SlowStart, age: number): number {
  if (age >= window) return 1;
  return Math.max(minPercent / 100, (Math.max(age, 0) / window) ** (1 / aggression));
}
