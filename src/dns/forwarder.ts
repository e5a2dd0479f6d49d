// Questions about names outside of the cluster, asked of other servers: bounded in number and time, each question asked once
// however many wait for it (the part of CoreDNS's `forward` that a cluster needs). Upstream answers are passed on as they came;
// only their id, their TTLs, their EDNS and the case of the question are rewritten.

import { type Clock, systemClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { UserError } from "../base/errors.ts";
import { type CacheConfig, defaultConfig } from "./config.ts";
import { type CachedAnswer, ForwardCache } from "./forward-cache.ts";
import { optRecord, type Query, udpLimit } from "./message.ts";
import { readTtls, withoutOpt } from "./ttls.ts";
import { askOverTcp, askOverUdp, type Exchange } from "./upstream.ts";
import { formatUpstream, parseUpstream, type Upstream } from "./upstreams.ts";

export interface ForwarderOptions {
  /** Tried in this order; texts as `1.1.1.1`, `1.1.1.1:5353`, `[2606:4700::1111]:53`, or what they are at the moment. */
  readonly upstreams: readonly (string | Upstream)[] | (() => readonly Upstream[]);
  readonly clock?: Clock;
  /** Milliseconds for one server; 2000 unless given. */
  readonly timeout?: number;
  readonly cache?: CacheConfig;
  /** Questions under way; more are not asked. 1000 unless given. */
  readonly maxInFlight?: number;
  readonly udp?: Exchange;
  readonly tcp?: Exchange;
  readonly observe?: ForwardObserver;
}

/** Told of what happens, for metrics. */
export interface ForwardObserver {
  cached(kind: "success" | "denial" | "miss" | "prefetch"): void;
  asked(to: string, rcode: number | undefined, seconds: number): void;
  rejected(): void;
}

export interface Forwarder extends Disposable {
  /** Whether there is a server for this name: without one it is refused. */
  handles(name: string): boolean;
  /** The answer's bytes with the query's id, or undefined when no server answered. Never rejects. */
  ask(query: Query, over: "udp" | "tcp"): Promise<Uint8Array | undefined>;
  /** Answers kept now. */
  sizes(): { readonly success: number; readonly denial: number };
}

/** Seconds, for a denial without an SOA that would say (CoreDNS's least TTL). */
const unsaidTtl = 5;
/** A server that did not answer is asked last for this long, in milliseconds. */
const avoided = 5_000;
const nobody: ForwardObserver = { cached() {}, asked() {}, rejected() {} };

export function createForwarder(options: ForwarderOptions): Forwarder {
  const { clock = systemClock, timeout = 2000, maxInFlight = 1000, observe = nobody } = options;
  const { udp = askOverUdp, tcp = askOverTcp } = options;
  const upstreams = upstreamsOf(options.upstreams);
  const cache = new ForwardCache(options.cache ?? defaultConfig.cache);
  const underWay = new Map<string, Promise<CachedAnswer | undefined>>();
  const failedAt = new Map<string, number>();
  let disposed = false;

  async function askAll(query: Query): Promise<Uint8Array | undefined> {
    const message = plainQuery(query);
    for (const upstream of inOrder(upstreams(), failedAt, clock.now())) {
      if (disposed) return undefined;
      const to = formatUpstream(upstream);
      const began = performance.now();
      let rcode: number | undefined;
      try {
        let answer = await udp(upstream, message, timeout);
        if (fits(answer, message) && isTruncated(answer)) answer = await tcp(upstream, message, timeout);
        if (!fits(answer, message)) continue;
        rcode = answer[3]! & 15;
        failedAt.delete(to);
        // SERVFAIL and REFUSED: the next server may know better.
        if (rcode === 2 || rcode === 5) continue;
        return answer;
      } catch {
        failedAt.set(to, clock.now()); // No answer in time, or nobody there: the next one.
      } finally {
        observe.asked(to, rcode, (performance.now() - began) / 1000);
      }
    }
    return undefined;
  }

  async function fetchAnswer(key: string, query: Query): Promise<CachedAnswer | undefined> {
    const bytes = await askAll(query);
    const ttls = bytes && readTtls(bytes);
    if (!bytes || !ttls || disposed) return undefined;
    const denial = (bytes[3]! & 15) !== 0 || (bytes[6] === 0 && bytes[7] === 0);
    const ttl = Math.min(ttls.shortest ?? unsaidTtl, denial ? (ttls.minimum ?? unsaidTtl) : Number.POSITIVE_INFINITY);
    return cache.store(key, denial ? "denial" : "success", withoutOpt(bytes, ttls), ttls.offsets, ttl, clock.now());
  }

  /** Joins who asks the same already; undefined when too many are under way. */
  function once(key: string, query: Query): Promise<CachedAnswer | undefined> | undefined {
    const joined = underWay.get(key);
    if (joined) return joined;
    if (disposed) return undefined;
    if (underWay.size >= maxInFlight) {
      observe.rejected();
      return undefined;
    }
    const asking = fetchAnswer(key, query).finally(() => underWay.delete(key));
    underWay.set(key, asking);
    return asking;
  }

  return {
    handles: () => upstreams().length > 0,
    sizes: () => cache.sizes,
    async ask(query, over) {
      const key = `${query.question.name.toLowerCase()} ${query.question.type}`;
      const now = clock.now();
      const known = cache.find(key, now);
      observe.cached(known?.kind ?? "miss");
      if (known) {
        if (known.prefetch) {
          observe.cached("prefetch");
          void once(key, query);
        }
        return adapt(known.answer, query, over, Math.floor((now - known.answer.storedAt) / 1000));
      }
      const answer = await once(key, query);
      return answer && adapt(answer, query, over, 0);
    },
    dispose() {
      disposed = true;
      cache.clear();
    },
  };
}

function upstreamsOf(given: ForwarderOptions["upstreams"]): () => readonly Upstream[] {
  if (typeof given === "function") return given;
  const fixed = given.map((one) => (typeof one === "string" ? parseUpstream(one) : one));
  if (fixed.length === 0) throw new UserError("DNS forwarding needs at least one server to ask");
  return () => fixed;
}

/** Those that failed a moment ago after those that did not. */
function inOrder(upstreams: readonly Upstream[], failedAt: ReadonlyMap<string, number>, now: number): Upstream[] {
  const failed = (one: Upstream) => now - (failedAt.get(formatUpstream(one)) ?? Number.NEGATIVE_INFINITY) < avoided;
  return [...upstreams.filter((one) => !failed(one)), ...upstreams.filter(failed)];
}

/** Names below `domain` go to its own forwarder (a stub domain), the longest domain first; others to `otherwise`, if any. */
export function routedForwarder(
  stubs: readonly { readonly domain: string; readonly forwarder: Forwarder }[],
  otherwise: Forwarder | undefined,
): Forwarder {
  const longestFirst = [...stubs].sort((a, b) => b.domain.length - a.domain.length);
  const all = [...stubs.map((stub) => stub.forwarder), ...(otherwise ? [otherwise] : [])];
  const route = (asked: string) => {
    const name = asked.toLowerCase();
    const stub = longestFirst.find(({ domain }) => name === domain || name.endsWith(`.${domain}`));
    return stub?.forwarder ?? otherwise;
  };
  return {
    handles: (name) => route(name)?.handles(name) ?? false,
    ask: (query, over) => route(query.question.name)?.ask(query, over) ?? Promise.resolve(undefined),
    sizes: () => ({
      success: all.reduce((sum, one) => sum + one.sizes().success, 0),
      denial: all.reduce((sum, one) => sum + one.sizes().denial, 0),
    }),
    dispose() {
      for (const one of all) one.dispose();
    },
  };
}

/** The question with an id of our own, asking for recursion, with room for larger answers. */
function plainQuery(query: Query): Uint8Array {
  const out = Buffer.alloc(12 + query.questionBytes.length + 11);
  out.writeUInt16BE(crypto.getRandomValues(new Uint16Array(1))[0]!, 0);
  out.writeUInt16BE(0x0100, 2);
  out.writeUInt16BE(1, 4);
  out.writeUInt16BE(1, 10);
  out.set(query.questionBytes, 12);
  const opt = 12 + query.questionBytes.length;
  out.writeUInt16BE(41, opt + 1);
  out.writeUInt16BE(1232, opt + 3);
  return out;
}

/** Whether an answer belongs to the question: anything else is noise, or somebody who guesses. */
function fits(answer: Uint8Array, message: Uint8Array): boolean {
  const question = message.length - 11 - 12;
  if (answer.length < 12 + question) return false;
  if (answer[0] !== message[0] || answer[1] !== message[1] || (answer[2]! & 0x80) === 0) return false;
  const text = (bytes: Uint8Array) =>
    Buffer.from(bytes.subarray(12, 12 + question))
      .toString("latin1")
      .toLowerCase();
  return text(answer) === text(message);
}

function isTruncated(answer: Uint8Array): boolean {
  return (answer[2]! & 0x02) !== 0;
}

/** An answer for this asker: id, question and TTLs replaced, EDNS as it speaks it, and cut to what a UDP asker takes. */
function adapt(answer: CachedAnswer, query: Query, over: "udp" | "tcp", age: number): Uint8Array {
  const opt = query.edns ? optRecord("NOERROR") : new Uint8Array();
  const limit = over === "tcp" ? 65_535 : udpLimit(query);
  const cut = answer.bytes.length + opt.length > limit;
  const kept = cut ? answer.bytes.subarray(0, 12 + query.questionBytes.length) : answer.bytes;
  const out = Buffer.concat([kept, opt]);
  out.writeUInt16BE(query.id, 0);
  out.set(query.questionBytes, 12);
  // RA is the upstream's; AA is nobody's here, nor is what it said of DNSSEC.
  out[2] = (out[2]! & ~0x05) | (query.recursionDesired ? 0x01 : 0);
  if (cut) {
    out[2] |= 0x02;
    out.fill(0, 6, 12);
  } else for (const offset of answer.ttlOffsets) out.writeUInt32BE(Math.max(0, out.readUInt32BE(offset) - age), offset);
  if (opt.length > 0) out.writeUInt16BE(out.readUInt16BE(10) + 1, 10);
  return out;
}
