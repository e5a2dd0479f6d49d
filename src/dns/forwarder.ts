// Questions about names outside of the cluster, asked of other servers: bounded in number and time, with a cache that keeps no
// answer longer than its TTL or half a minute (the part of CoreDNS's `forward` and `cache` that a laptop needs). Upstream
// answers are passed on as they came; only their id, their TTLs and the case of the question are rewritten.

import { type Clock, systemClock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { UserError } from "../base/errors.ts";
import { ipFamily } from "../base/ip.ts";
import type { Query } from "./message.ts";
import { askOverTcp, askOverUdp, type Exchange } from "./upstream.ts";

export interface ForwarderOptions {
  /** `1.1.1.1`, `1.1.1.1:5353`, `[2606:4700::1111]:53`: tried in this order. */
  readonly upstreams: readonly string[];
  readonly clock?: Clock;
  /** Milliseconds for one server; 2000 unless given. */
  readonly timeout?: number;
  /** Answers kept; 10,000 unless given. */
  readonly cacheSize?: number;
  /** Questions under way; more are not asked. 1000 unless given. */
  readonly maxInFlight?: number;
  readonly udp?: Exchange;
  readonly tcp?: Exchange;
}

export interface Forwarder extends Disposable {
  /** The answer's bytes with the query's id, or undefined when no server answered. Never rejects. */
  ask(query: Query, over: "udp" | "tcp"): Promise<Uint8Array | undefined>;
}

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

/** Seconds; CoreDNS's kubeadm default (`cache 30`). */
const longestTtl = 30;
/** For what does not exist, and for answers without any record. */
const negativeTtl = 5;

interface Cached {
  readonly bytes: Uint8Array;
  readonly ttlOffsets: readonly number[];
  readonly storedAt: number;
  readonly expiresAt: number;
}

export function createForwarder(options: ForwarderOptions): Forwarder {
  const { clock = systemClock, timeout = 2000, cacheSize = 10_000, maxInFlight = 1000 } = options;
  const { udp = askOverUdp, tcp = askOverTcp } = options;
  const upstreams = options.upstreams.map(parseUpstream);
  if (upstreams.length === 0) throw new UserError("DNS forwarding needs at least one server to ask");
  const cache = new Map<string, Cached>();
  let inFlight = 0;
  let disposed = false;

  async function askAll(query: Query): Promise<Uint8Array | undefined> {
    const message = plainQuery(query);
    for (const upstream of upstreams) {
      if (disposed) return undefined;
      try {
        let answer = await udp(upstream, message, timeout);
        if (!fits(answer, message)) continue;
        if (isTruncated(answer)) {
          answer = await tcp(upstream, message, timeout);
          if (!fits(answer, message)) continue;
        }
        const rcode = answer[3]! & 15;
        // SERVFAIL and REFUSED: the next server may know better.
        if (rcode === 2 || rcode === 5) continue;
        return answer;
      } catch {
        // No answer in time, or nobody there: the next one.
      }
    }
    return undefined;
  }

  return {
    async ask(query, over) {
      const key = `${query.question.name.toLowerCase()} ${query.question.type}`;
      const now = clock.now();
      const known = cache.get(key);
      if (known && known.expiresAt > now) {
        return adapt(known, query, over, Math.floor((now - known.storedAt) / 1000));
      }
      cache.delete(key);
      if (inFlight >= maxInFlight || disposed) return undefined;
      inFlight++;
      try {
        const bytes = await askAll(query);
        if (!bytes) return undefined;
        const ttls = ttlsOf(bytes);
        if (!ttls) return undefined;
        const shortest = Math.min(
          longestTtl,
          ttls.shortest ?? negativeTtl,
          (bytes[3]! & 15) === 0 ? longestTtl : negativeTtl,
        );
        const entry = { bytes, ttlOffsets: ttls.offsets, storedAt: now, expiresAt: now + shortest * 1000 };
        if (shortest > 0) {
          if (cache.size >= cacheSize) cache.delete(cache.keys().next().value!);
          cache.set(key, entry);
        }
        return adapt(entry, query, over, 0);
      } finally {
        inFlight--;
      }
    },
    dispose() {
      disposed = true;
      cache.clear();
    },
  };
}

/** `1.1.1.1`, `1.1.1.1:53`, `2606:4700::1111`, `[2606:4700::1111]:53`. Throws a UserError. */
export function parseUpstream(text: string): Upstream {
  const match =
    /^\[([^\]]+)\](?::([0-9]+))?$/.exec(text) ?? (ipFamily(text) ? undefined : /^([^:]+):([0-9]+)$/.exec(text));
  const address = match?.[1] ?? text;
  const port = match?.[2] === undefined ? 53 : Number(match[2]);
  if (ipFamily(address) === undefined || port < 1 || port > 65_535) {
    throw new UserError(`DNS server ${text}: not an address`, {
      remedy: "write an IP address, with :port if it is not 53",
    });
  }
  return { address, port };
}

/** The question with an id of our own, asking for recursion, with room for larger answers. */
function plainQuery(query: Query): Uint8Array {
  const out = Buffer.alloc(12 + query.questionBytes.length + 11);
  out.writeUInt16BE(Math.floor(Math.random() * 65_536), 0);
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

/** Where TTLs stand in a message, and the shortest of them; undefined for a message that does not parse. OPT has none. */
export function ttlsOf(bytes: Uint8Array): { offsets: number[]; shortest: number | undefined } | undefined {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const offsets: number[] = [];
  let shortest: number | undefined;
  let at = 12;
  const skipName = (): boolean => {
    for (;;) {
      const length = view[at];
      if (length === undefined) return false;
      if (length >= 0xc0) {
        at += 2;
        return true;
      }
      at += length + 1;
      if (length === 0) return true;
    }
  };
  for (let n = view.readUInt16BE(4); n > 0; n--) {
    if (!skipName()) return undefined;
    at += 4;
  }
  const records = view.readUInt16BE(6) + view.readUInt16BE(8) + view.readUInt16BE(10);
  for (let n = 0; n < records; n++) {
    if (!skipName() || at + 10 > view.length) return undefined;
    if (view.readUInt16BE(at) !== 41) {
      offsets.push(at + 4);
      const ttl = view.readUInt32BE(at + 4);
      shortest = Math.min(shortest ?? ttl, ttl);
    }
    at += 10 + view.readUInt16BE(at + 8);
  }
  return at > view.length ? undefined : { offsets, shortest };
}

/** An answer for this asker: id, question and TTLs replaced, and cut to what a UDP asker takes. */
function adapt(entry: Cached, query: Query, over: "udp" | "tcp", age: number): Uint8Array {
  const out = Buffer.from(entry.bytes);
  out.writeUInt16BE(query.id, 0);
  out.set(query.questionBytes, 12);
  // RA is the upstream's; AA is nobody's here.
  out[2] = (out[2]! & ~0x05) | (query.recursionDesired ? 0x01 : 0);
  for (const offset of entry.ttlOffsets) out.writeUInt32BE(Math.max(0, out.readUInt32BE(offset) - age), offset);
  const limit = query.edns ? Math.min(query.edns.payload, 1232) : 512;
  if (over === "tcp" || out.length <= limit) return out;
  const short = Buffer.from(out.subarray(0, 12 + query.questionBytes.length));
  short[2]! |= 0x02;
  short.fill(0, 6, 12);
  return short;
}
