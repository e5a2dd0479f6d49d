// Token buckets by key: `requests` tokens flow in evenly over each `per` milliseconds, up to `burst` are kept, a request takes
// one. Keys are bounded. Time is given, so that nothing here waits. Buckets are this process's own, or shared by all workers of a
// proxy, and by the process that it hands over to (`shared-table.ts`).

import { type Cell, SharedTable } from "./shared-table.ts";

/** Buckets kept for one limit. A full bucket is as good as none, so only clients above the limit gain by being forgotten. */
const maxKeys = 100_000;
/** A token, but for what sums of fractions lose: who comes when it was told to come is not sent away again. */
const whole = 1 - 1e-9;
/** Nanoseconds of a millisecond. */
const nano = 1_000_000;

export interface BucketShape {
  readonly requests: number;
  /** Milliseconds. */
  readonly per: number;
  readonly burst: number;
}

export interface Taken {
  readonly allowed: boolean;
  /** Whole tokens left. */
  readonly left: number;
  /** Milliseconds until there is a token. */
  readonly wait: number;
  /** Milliseconds until the bucket is full. */
  readonly full: number;
}

export interface Buckets {
  /** Takes a token of a key's bucket, if there is one. `now` in milliseconds; a clock that goes back adds nothing. */
  take(key: string, now: number): Taken;
}

interface Bucket {
  tokens: number;
  at: number;
}

/** `rate`: tokens a millisecond. */
function taken(allowed: boolean, tokens: number, burst: number, rate: number): Taken {
  return {
    allowed,
    left: Math.floor(tokens + 1 - whole),
    wait: tokens >= whole ? 0 : (1 - tokens) / rate,
    full: (burst - tokens) / rate,
  };
}

/** Of this process alone. Of too many keys, the one that was asked longest ago goes first. */
export class TokenBuckets implements Buckets {
  readonly #shape: BucketShape;
  readonly #rate: number;
  readonly #max: number;
  /** The one asked longest ago first. */
  readonly #buckets = new Map<string, Bucket>();

  constructor(shape: BucketShape, max = maxKeys) {
    this.#shape = shape;
    this.#rate = shape.requests / shape.per;
    this.#max = max;
  }

  get size(): number {
    return this.#buckets.size;
  }

  take(key: string, now: number): Taken {
    const { burst } = this.#shape;
    let bucket = this.#buckets.get(key);
    if (bucket) {
      bucket.tokens = Math.min(burst, bucket.tokens + Math.max(0, now - bucket.at) * this.#rate);
      bucket.at = now;
      this.#buckets.delete(key);
    } else {
      bucket = { tokens: burst, at: now };
      if (this.#buckets.size >= this.#max) this.#buckets.delete(this.#buckets.keys().next().value!);
    }
    this.#buckets.set(key, bucket);
    const allowed = bucket.tokens >= whole;
    if (allowed) bucket.tokens = Math.max(0, bucket.tokens - 1);
    return taken(allowed, bucket.tokens, burst, this.#rate);
  }
}

/** Of all processes that have the table open. */
export class SharedBuckets implements Buckets {
  readonly #table: SharedTable;
  readonly #prefix: string;
  readonly #cell: Cell;

  /** `name`: buckets of the same name and shape are the same ones. */
  constructor(table: SharedTable, name: string, { requests, per, burst }: BucketShape) {
    this.#table = table;
    this.#prefix = `${JSON.stringify([name, requests, per, burst])}\0`;
    // Whole, so that nothing is lost by sums; at most a thousandth too short at a million tokens a second.
    this.#cell = { interval: Math.max(1, Math.floor((per * nano) / requests)), burst };
  }

  take(key: string, now: number): Taken {
    const { interval, burst } = this.#cell;
    const { allowed, full } = this.#table.take(this.#prefix + key, this.#cell, now);
    return taken(allowed, burst - full / interval, burst, nano / interval);
  }
}

/** Buckets by the limit's name: rules that name the same share them, also across changes of configuration. */
export class BucketSets {
  readonly #byName = new Map<string, WeakRef<Buckets>>();
  readonly #tableFile: string | undefined;
  #table: SharedTable | undefined;

  /** `tableFile`: where shared ones are counted; made when there is a first one. Without it, none are shared. */
  constructor(tableFile?: string) {
    this.#tableFile = tableFile;
  }

  /** The same for the same name and shape, as long as somebody holds it. Throws an Error when the table cannot be had. */
  get(name: string, shape: BucketShape, shared: boolean, now: number): Buckets {
    const key = JSON.stringify([name, shape.requests, shape.per, shape.burst, shared]);
    const known = this.#byName.get(key)?.deref();
    if (known) return known;
    for (const [old, reference] of this.#byName) if (!reference.deref()) this.#byName.delete(old);
    const buckets =
      shared && this.#tableFile !== undefined
        ? new SharedBuckets(this.#open(this.#tableFile, now), name, shape)
        : new TokenBuckets(shape);
    this.#byName.set(key, new WeakRef(buckets));
    return buckets;
  }

  #open(file: string, now: number): SharedTable {
    this.#table ??= SharedTable.open(file, now);
    return this.#table;
  }
}
