// Key sets (RFC 7517) that tokens are verified with: given in place, or fetched from a backend, kept, and fetched anew when a
// token names a key that is not there (at most so often). Only public keys: a symmetric one in a set is left out, so that no
// token can be signed with what everybody may read.

import { createLocalJWKSet, type JSONWebKeySet } from "jose";
import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { JwtProvider } from "../../model/filters.ts";
import { publicKeySet } from "../../model/key-set.ts";
import { type CallAnswer, call } from "../call.ts";
import type { Deadlines } from "../deadlines.ts";
import type { Reason } from "../reason.ts";
import type { Backends } from "../upstream/backends.ts";

export type KeyResolver = ReturnType<typeof createLocalJWKSet>;
type Remote = Extract<JwtProvider["keys"], { backend: string }>;

/** Milliseconds between two fetches for keys that are not there, and after a failure. */
const refetchAfter = 10_000;
const retryAfter = 1_000;
const fetchTimeout = 5_000;
const maxBytes = 1024 * 1024;

export interface KeySet {
  /** The keys; undefined when there are none yet and none can be had. */
  keys(): Promise<KeyResolver | undefined>;
  /** Newer keys than those that `keys` gave, if there may be some. */
  newer(): Promise<KeyResolver | undefined>;
}

interface KeySetRuntime {
  readonly clock: Clock;
  readonly deadlines: Deadlines;
  readonly backends: Backends;
  readonly log: Logger;
}

export class KeySets {
  readonly #runtime: KeySetRuntime;
  readonly #fetched = new Map<string, WeakRef<FetchedKeys>>();

  constructor(runtime: KeySetRuntime) {
    this.#runtime = runtime;
  }

  /** Throws an Error for a set in place that is none. */
  get(keys: JwtProvider["keys"]): KeySet {
    if ("inline" in keys) {
      const resolver = Promise.resolve(createLocalJWKSet(publicKeySet(keys.inline) as JSONWebKeySet));
      return { keys: () => resolver, newer: () => Promise.resolve(undefined) };
    }
    const name = JSON.stringify([keys.backend, keys.authority, keys.path, keys.keep]);
    const known = this.#fetched.get(name)?.deref();
    if (known) return known;
    for (const [old, reference] of this.#fetched) if (!reference.deref()) this.#fetched.delete(old);
    const set = new FetchedKeys(keys, this.#runtime);
    this.#fetched.set(name, new WeakRef(set));
    return set;
  }
}

class FetchedKeys implements KeySet {
  readonly #from: Remote;
  readonly #runtime: KeySetRuntime;
  #resolver: KeyResolver | undefined = undefined;
  #fetchedAt = Number.NEGATIVE_INFINITY;
  #failedAt = Number.NEGATIVE_INFINITY;
  #fetching: Promise<KeyResolver | undefined> | undefined = undefined;

  constructor(from: Remote, runtime: KeySetRuntime) {
    this.#from = from;
    this.#runtime = runtime;
  }

  keys(): Promise<KeyResolver | undefined> {
    if (this.#resolver === undefined) return this.#fetch();
    // Old keys serve while new ones are fetched.
    if (this.#runtime.clock.now() - this.#fetchedAt >= this.#from.keep) void this.#fetch();
    return Promise.resolve(this.#resolver);
  }

  newer(): Promise<KeyResolver | undefined> {
    if (this.#runtime.clock.now() - this.#fetchedAt < refetchAfter) return Promise.resolve(undefined);
    return this.#fetch();
  }

  /** Joins a fetch that is under way. Never rejects. */
  #fetch(): Promise<KeyResolver | undefined> {
    if (this.#fetching) return this.#fetching;
    if (this.#runtime.clock.now() - this.#failedAt < retryAfter) return Promise.resolve(undefined);
    this.#fetching = new Promise((resolve) => {
      const request = {
        backend: this.#from.backend,
        method: "GET",
        scheme: "http" as const,
        authority: this.#from.authority,
        path: this.#from.path,
        headers: [{ name: "accept", value: "application/json" }],
        timeout: fetchTimeout,
        maxBytes,
      };
      call(this.#runtime, request, (end) => {
        this.#fetching = undefined;
        resolve(this.#take(end));
      });
    });
    return this.#fetching;
  }

  #take(end: CallAnswer | Reason): KeyResolver | undefined {
    try {
      if (typeof end === "string") throw new Error(end);
      if (end.status !== 200) throw new Error(`status ${end.status}`);
      this.#resolver = createLocalJWKSet(publicKeySet(end.body.toString("utf8")) as JSONWebKeySet);
      this.#fetchedAt = this.#runtime.clock.now();
      return this.#resolver;
    } catch (error) {
      this.#failedAt = this.#runtime.clock.now();
      const { backend, path } = this.#from;
      this.#runtime.log.warn("keys for tokens could not be fetched", { backend, path, problem: messageOf(error) });
      return undefined;
    }
  }
}
