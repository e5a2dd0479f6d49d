// Answers of other servers, kept for as long as they allow (the part of CoreDNS's `cache` that forwarded names need): one part for
// answers, one for denials (RFC 2308), both capped, and a note of which names are asked so often that they are worth
// fetching before they expire. It keeps bytes and times; it asks nobody.

import type { CacheConfig } from "./config.ts";

export interface CachedAnswer {
  readonly bytes: Uint8Array;
  readonly ttlOffsets: readonly number[];
  /** Milliseconds since the epoch. */
  readonly storedAt: number;
  readonly expiresAt: number;
}

interface Entry extends CachedAnswer {
  /** Askers so far, each less than the prefetch duration after the one before. */
  hits: number;
  lastHit: number;
  prefetching: boolean;
}

export interface Found {
  readonly answer: CachedAnswer;
  readonly kind: "success" | "denial";
  /** True once for an entry that should be fetched anew now. */
  readonly prefetch: boolean;
}

export class ForwardCache {
  readonly #config: CacheConfig;
  readonly #success = new Map<string, Entry>();
  readonly #denial = new Map<string, Entry>();

  constructor(config: CacheConfig) {
    this.#config = config;
  }

  get sizes(): { readonly success: number; readonly denial: number } {
    return { success: this.#success.size, denial: this.#denial.size };
  }

  find(key: string, now: number): Found | undefined {
    const success = this.#success.get(key);
    const entry = success ?? this.#denial.get(key);
    if (!entry) return undefined;
    const part = success ? this.#success : this.#denial;
    // A map keeps the order of insertion: what was asked for goes to its end, what nobody asks for is dropped first.
    part.delete(key);
    if (entry.expiresAt <= now) return undefined;
    part.set(key, entry);
    const { amount, duration, percentage } = this.#config.prefetch;
    entry.hits = now - entry.lastHit <= duration * 1000 ? entry.hits + 1 : 1;
    entry.lastHit = now;
    const left = (entry.expiresAt - now) / (entry.expiresAt - entry.storedAt);
    const prefetch = !entry.prefetching && amount > 0 && entry.hits >= amount && left * 100 <= percentage;
    if (prefetch) entry.prefetching = true;
    return { answer: entry, kind: success ? "success" : "denial", prefetch };
  }

  /** `ttl` in seconds, as the answer allows; what is kept no time at all, or has no room, is not kept. */
  store(
    key: string,
    kind: "success" | "denial",
    bytes: Uint8Array,
    ttlOffsets: readonly number[],
    ttl: number,
    now: number,
  ): CachedAnswer {
    const limits = this.#config[kind];
    const seconds = Math.min(ttl, limits.ttl);
    const before = this.#success.get(key) ?? this.#denial.get(key);
    const entry: Entry = {
      bytes,
      ttlOffsets,
      storedAt: now,
      expiresAt: now + seconds * 1000,
      hits: before?.hits ?? 0,
      lastHit: before?.lastHit ?? now,
      prefetching: false,
    };
    this.#success.delete(key);
    this.#denial.delete(key);
    if (seconds <= 0 || limits.capacity === 0) return entry;
    const part = kind === "success" ? this.#success : this.#denial;
    if (part.size >= limits.capacity) part.delete(part.keys().next().value!);
    part.set(key, entry);
    return entry;
  }

  clear(): void {
    this.#success.clear();
    this.#denial.clear();
  }
}
