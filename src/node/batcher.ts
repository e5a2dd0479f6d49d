// Joins what is asked for one by one into few calls: what comes while a call is under way goes into the next one.

interface Waiting<T> {
  readonly item: T;
  readonly resolve: () => void;
  readonly reject: (error: unknown) => void;
}

export class Batcher<T> {
  readonly #run: (items: readonly T[]) => Promise<void>;
  #waiting: Waiting<T>[] = [];
  #running = false;

  constructor(run: (items: readonly T[]) => Promise<void>) {
    this.#run = run;
  }

  /** Resolves when the call that did `item` is done. When a call of several fails, each is tried alone. */
  add(item: T): Promise<void> {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ item, resolve, reject });
      if (this.#running) return;
      this.#running = true;
      queueMicrotask(() => void this.#drain());
    });
  }

  async #drain(): Promise<void> {
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        await this.#run(batch.map(({ item }) => item));
        for (const { resolve } of batch) resolve();
      } catch (error) {
        if (batch.length === 1) batch[0]!.reject(error);
        else for (const one of batch) await this.#run([one.item]).then(one.resolve, one.reject);
      }
    }
    this.#running = false;
  }
}
