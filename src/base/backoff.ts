// Exponential backoff with full jitter, for things that are tried again.

export interface BackoffOptions {
  /** The first delay in milliseconds. */
  initial?: number;
  /** The longest delay in milliseconds. */
  max?: number;
  /** Growth per attempt. */
  factor?: number;
  /** A number in [0, 1); replaced in tests. */
  random?: () => number;
}

/** The delay in milliseconds before attempt `attempt` (0 is the first retry): between half and all of the bound. */
export function backoff(attempt: number, options: BackoffOptions = {}): number {
  const { initial = 100, max = 10_000, factor = 2, random = Math.random } = options;
  const bound = Math.min(max, initial * factor ** attempt);
  return bound / 2 + (bound / 2) * random();
}
