// Token buckets by key: `requests` tokens flow in evenly over each `per` milliseconds, up to `burst` are kept, a request takes
// one. Keys are bounded: the one that was asked longest ago goes first. Time is given, so that nothing here waits.

/** Buckets kept for one limit. A full bucket is as good as none, so only clients above the limit gain by being forgotten. */
const maxKeys = 100_000;
/** A token, but for what sums of fractions lose: who comes when it was told to come is not sent away again. */
const whole = 1 - 1e-9;

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

interface Bucket {
  tokens: number;
  at: number;
}

export class TokenBuckets {
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

  /** Takes a token of a key's bucket, if there is one. `now` in milliseconds; a clock that goes back adds nothing. */
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
    return {
      allowed,
      left: Math.floor(bucket.tokens + 1 - whole),
      wait: bucket.tokens >= whole ? 0 : (1 - bucket.tokens) / this.#rate,
      full: (burst - bucket.tokens) / this.#rate,
    };
  }
}

/** Buckets by the limit's name: rules that name the same share them, also across changes of configuration. */
export class BucketSets {
  readonly #byName = new Map<string, WeakRef<TokenBuckets>>();

  /** The same for the same name and shape, as long as somebody holds it. */
  get(name: string, shape: BucketShape): TokenBuckets {
    const key = JSON.stringify([name, shape.requests, shape.per, shape.burst]);
    const known = this.#byName.get(key)?.deref();
    if (known) return known;
    for (const [old, reference] of this.#byName) if (!reference.deref()) this.#byName.delete(old);
    const buckets = new TokenBuckets(shape);
    this.#byName.set(key, new WeakRef(buckets));
    return buckets;
  }
}
