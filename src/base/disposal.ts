// Something with an end: a subscription, a server, a timer. Everything in Fairlead that starts gives one of these back.
// Not the `Symbol.dispose` protocol: ends are often asynchronous here, and are called by name.

/** Ends what it was returned for. Calling it again does nothing. */
export interface Disposable {
  dispose(): void;
}

/** Like {@link Disposable}, for ends that take time (a drain, a child process). Resolves when nothing is left running. */
export interface AsyncDisposable {
  dispose(): Promise<void>;
}

/** A disposable that runs `end` once. */
export function disposable(end: () => void): Disposable {
  let ended = false;
  return {
    dispose() {
      if (ended) return;
      ended = true;
      end();
    },
  };
}

/** One disposable for many, ended in reverse order of their making. */
export function disposeAll(parts: readonly Disposable[]): Disposable {
  return disposable(() => {
    for (const part of [...parts].reverse()) part.dispose();
  });
}
