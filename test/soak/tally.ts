// What a soak counts: requests that should succeed by kind, and the failures among them.

export class Tally {
  readonly done = new Map<string, number>();
  readonly failures = new Map<string, number>();

  count(kind: string, times = 1): void {
    this.done.set(kind, (this.done.get(kind) ?? 0) + times);
  }

  fail(kind: string, error: unknown): void {
    // Numbers differ from time to time; what kind of failure it is does not.
    const what = `${kind}: ${String(error)
      .slice(0, 200)
      .replaceAll(/\d{3,}/g, "N")}`;
    if (!this.failures.has(what))
      console.log(`${new Date().toISOString()} FAILED ${kind}: ${String(error).slice(0, 300)}`);
    this.failures.set(what, (this.failures.get(what) ?? 0) + 1);
  }

  get succeeded(): number {
    return sum(this.done.values());
  }

  get failed(): number {
    return sum(this.failures.values());
  }
}

function sum(numbers: Iterable<number>): number {
  let all = 0;
  for (const number of numbers) all += number;
  return all;
}
