// Waiting for the user to end a command that serves: Ctrl-C, or a SIGTERM.

/** Resolves at the first of them; the next one ends the process as ever. */
export async function untilInterrupted(): Promise<void> {
  await new Promise<void>((resolve) => {
    // A listener for signals alone does not keep the process alive.
    const alive = setInterval(() => {}, 3_600_000);
    for (const signal of ["SIGINT", "SIGTERM"] as const) {
      process.once(signal, () => {
        clearInterval(alive);
        resolve();
      });
    }
  });
}
