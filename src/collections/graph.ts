// The graph of collections and the batches that run through it. A batch takes the writes that wait at the sources, computes
// node after node in the order of their rank, and commits all of them in one step; then subscribers are told. A long batch
// gives the event loop a turn now and then: until it commits, everybody outside of it sees the state before.

import type { ComputeError } from "./collection.ts";

/** Something with a staged state. */
export interface Staged {
  /** Makes the staged state the committed one; returns what tells the subscribers. */
  commit(): readonly (() => void)[];
}

/** What the graph knows of a collection. */
export interface GraphNode extends Staged {
  readonly name: string;
  /** Sources are 0; a derived collection ranks above all that existed when it was made, and may read only those. */
  readonly rank: number;
  /** Computes what is stale, one step a value, and stages what differs. */
  process(): Iterator<void>;
  errors(): Iterable<ComputeError>;
  metrics(): CollectionMetrics;
}

export interface CollectionMetrics {
  readonly name: string;
  readonly rank: number;
  readonly size: number;
  /** Calls of the compute function since the start. */
  readonly computations: number;
  /** Batches that found something stale here. */
  readonly batches: number;
  /** Spent in computations. */
  readonly milliseconds: number;
  readonly errors: number;
}

export interface GraphOptions {
  /** How long a batch computes before it gives the event loop a turn. */
  readonly sliceMilliseconds?: number;
  /** A slice has at least so many computations; a batch below it is always done when the write returns. */
  readonly sliceComputations?: number;
  /** Runs `then` in a later turn of the event loop. */
  readonly later?: (then: () => void) => void;
}

/** Batches in a row (subscribers that write) before the event loop gets a turn. */
const batchesInARow = 100;

export class Graph {
  readonly #options: Required<GraphOptions>;
  readonly #nodes = new Set<GraphNode>();
  readonly #stale = new Map<number, Set<GraphNode>>();
  readonly #changed = new Set<Staged>();
  readonly #failed: ComputeError[] = [];
  readonly #waiting: (() => void)[] = [];
  readonly #soon: (() => void)[] = [];
  readonly #settled: (() => void)[] = [];
  #ranks = 0;
  #depth = 0;
  #batch: Iterator<void> | undefined;
  #busy = false;
  #processing = -1;
  #sliceUsed = 0;
  #yielded = false;
  /** Batches committed since the start. */
  batches = 0;
  /** Hears of each value that could not be computed (first, and when its message changes), after the batch has committed. */
  onComputeError: (error: ComputeError) => void = () => {};
  /** A subscriber's mistake is nobody else's: the others are told, and the error goes here; unless set, it is uncaught. */
  onSubscriberError: (error: unknown) => void = (error) => {
    queueMicrotask(() => {
      throw error;
    });
  };
  /** Set while a compute function runs, when collections may only be read through `fetch`. */
  computing = false;

  constructor(options: GraphOptions = {}) {
    this.#options = {
      sliceMilliseconds: options.sliceMilliseconds ?? 10,
      sliceComputations: options.sliceComputations ?? 256,
      later: options.later ?? ((then) => void setImmediate(then)),
    };
  }

  /** Runs `write`; all writes to sources inside of it, of whatever collections, become one batch. */
  batch<T>(write: () => T): T {
    this.#depth++;
    try {
      return write();
    } finally {
      this.#depth--;
      this.#run();
    }
  }

  /** Resolves when nothing is stale and no write waits (events of a store that came in this turn included). */
  settled(): Promise<void> {
    if (this.#idle()) return Promise.resolve();
    return new Promise((resolve) => this.#settled.push(resolve));
  }

  errors(): readonly ComputeError[] {
    return [...this.#nodes].flatMap((node) => [...node.errors()]);
  }

  metrics(): readonly CollectionMetrics[] {
    return [...this.#nodes].map((node) => node.metrics());
  }

  // ------------------------------------------------------------------------------------------- for collections only

  nextRank(): number {
    return ++this.#ranks;
  }

  add(node: GraphNode): void {
    this.#nodes.add(node);
  }

  remove(node: GraphNode): void {
    this.#nodes.delete(node);
    this.#stale.get(node.rank)?.delete(node);
    this.#changed.delete(node);
  }

  /** Takes a write: `apply` runs at the start of the next batch, which is now unless one is running or being gathered. */
  write(apply: () => void): void {
    if (this.computing) throw new Error("a compute function must not write to a collection");
    this.#waiting.push(apply);
    this.#run();
  }

  /** As {@link write}, at the end of this turn and together with all others of the turn: how events of a store arrive. */
  writeSoon(apply: () => void): void {
    if (this.#soon.length === 0) {
      queueMicrotask(() => {
        const writes = this.#soon.splice(0);
        this.batch(() => {
          for (const write of writes) write();
        });
      });
    }
    this.#soon.push(apply);
  }

  /** A node has something to compute in this batch. */
  markStale(node: GraphNode): void {
    if (node.rank <= this.#processing) throw new Error(`${node.name} became stale after it was computed`);
    let nodes = this.#stale.get(node.rank);
    if (!nodes) {
      nodes = new Set();
      this.#stale.set(node.rank, nodes);
    }
    nodes.add(node);
  }

  /** Something could not be computed in this batch. */
  markFailed(error: ComputeError): void {
    this.#failed.push(error);
  }

  /** Something was staged in this batch, and is to be committed with it. */
  markChanged(staged: Staged): void {
    this.#changed.add(staged);
  }

  // ---------------------------------------------------------------------------------------------------------- batches

  #idle(): boolean {
    return !this.#batch && !this.#busy && this.#waiting.length === 0 && this.#soon.length === 0;
  }

  #run(): void {
    if (this.#busy || this.#yielded || this.#depth > 0) return;
    this.#busy = true;
    let row = 0;
    try {
      for (;;) {
        if (!this.#batch) {
          if (this.#waiting.length === 0) break;
          if (row++ >= batchesInARow) {
            this.#continueLater();
            return;
          }
          this.#batch = this.#compute(this.#waiting.splice(0));
        }
        if (!this.#slice(this.#batch)) {
          this.#continueLater();
          return;
        }
        this.#batch = undefined;
        this.#commit();
      }
    } finally {
      this.#busy = false;
    }
    if (this.#idle()) for (const resolve of this.#settled.splice(0)) resolve();
  }

  #continueLater(): void {
    this.#yielded = true;
    this.#options.later(() => {
      this.#yielded = false;
      this.#run();
    });
  }

  /** Whether the batch came to its end. */
  #slice(batch: Iterator<void>): boolean {
    const { sliceMilliseconds, sliceComputations } = this.#options;
    const start = performance.now();
    for (this.#sliceUsed = 0; !batch.next().done; this.#sliceUsed++) {
      if (this.#sliceUsed >= sliceComputations && performance.now() - start >= sliceMilliseconds) return false;
    }
    return true;
  }

  *#compute(writes: readonly (() => void)[]): Generator<void> {
    for (const write of writes) write();
    while (this.#stale.size > 0) {
      let rank = Number.POSITIVE_INFINITY;
      for (const one of this.#stale.keys()) if (one < rank) rank = one;
      const nodes = this.#stale.get(rank)!;
      this.#stale.delete(rank);
      this.#processing = rank;
      for (const node of nodes) {
        const steps = node.process();
        while (!steps.next().done) yield;
      }
    }
  }

  #commit(): void {
    this.#processing = -1;
    this.batches++;
    const tell: (() => void)[] = [];
    const changed = [...this.#changed];
    this.#changed.clear();
    for (const node of changed) tell.push(...node.commit());
    for (const error of this.#failed.splice(0)) tell.push(() => this.onComputeError(error));
    for (const one of tell) {
      try {
        one();
      } catch (error) {
        this.onSubscriberError(error);
      }
    }
  }
}

/** A graph of its own, for tests that count or slice. */
export function createGraph(options: GraphOptions = {}): Graph {
  return new Graph(options);
}

/** The process's graph: what sources belong to unless told otherwise. */
export const defaultGraph: Graph = createGraph();
