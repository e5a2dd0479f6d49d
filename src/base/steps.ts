// Long work in small steps: a generator that yields wherever somebody else may have a turn, and what drives it: to its end at once,
// or in slices between which the event loop serves. The work itself does not know which. Steps are short (some µs), because
// only between them can be stopped.

/** Work that yields between its steps and returns what came of it. */
export type Steps<T> = Generator<undefined, T>;

/** Does all of it now. */
export function atOnce<T>(steps: Steps<T>): T {
  for (;;) {
    const step = steps.next();
    if (step.done) return step.value;
  }
}

/**
 * Milliseconds of work between two turns of the event loop. A request through a proxy takes some turns (its head, the
 * backend's answer), so that each of them may wait for a slice.
 */
const slice = 1;

/**
 * Does it in slices of about a millisecond; in between the event loop takes what has come. Throws what the work throws, and the
 * signal's reason when it is aborted before the work has ended.
 */
export async function inSlices<T>(steps: Steps<T>, signal?: AbortSignal): Promise<T> {
  for (;;) {
    await otherTurn();
    signal?.throwIfAborted();
    const end = performance.now() + slice;
    do {
      const step = steps.next();
      if (step.done) return step.value;
    } while (performance.now() < end);
  }
}

/** Resolves after the event loop has looked at its sockets (docs/decisions/0009: of what Bun has only this one does that in time). */
export function otherTurn(): Promise<void> {
  return new Promise((resolve) => void setImmediate(resolve));
}
