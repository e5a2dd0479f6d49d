// The end of a start: waits until all nodes' Service rules are in force, but not for ever on a tool or a kernel that refuses them.

import type { Clock } from "../base/clock.ts";
import { UserError } from "../base/errors.ts";

/** Milliseconds; a lock that somebody holds for a moment, or a busy machine, is waited for. */
const patience = 20_000;

export interface WrittenRules {
  /** Resolves when everything is written. */
  settled(): Promise<void>;
  /** What is refused now, in words. */
  problems(): readonly string[];
}

/** Rejects with a UserError when rules are refused {@link patience} after the start, or at a later look: slow is no reason. */
export async function rulesInTime(rules: WrittenRules, clock: Clock): Promise<void> {
  const { promise, reject } = Promise.withResolvers<never>();
  const timer = clock.every(patience, () => {
    const [problem] = rules.problems();
    if (problem === undefined) return;
    reject(
      new UserError(`the Service rules cannot be written: ${problem}`, {
        remedy: "Mend what it names and start again, or choose another --proxy-mode.",
      }),
    );
  });
  try {
    await Promise.race([rules.settled(), promise]);
  } finally {
    timer.dispose();
  }
}
