// Token buckets that several processes count in together: a table in a file that all of them map into their memory. A bucket is
// one number, the time at which it will be full again (GCRA, the generic cell rate algorithm of ATM Forum TM 4.0, there called the
// theoretical arrival time), so that taking a token is one compare-and-swap: nobody waits, and a process that dies holds nothing.
//
// The table is of fixed size. A key has a place in one of eight neighbouring slots; where all are others', the one that is next to
// be full is forgotten, which is the one whose client was least limited. Keys are known by 47 bits of a hash with a seed of this
// table's own: by chance a new key of a full table is taken for another one in one of 500 million cases.

import { closeSync, linkSync, lstatSync, openSync, renameSync, rmSync, writeSync } from "node:fs";
import { messageOf } from "../../base/errors.ts";

const ways = 8;
const sets = 32_768;
const slots = sets * ways;
/** Changes with the layout. */
const magic = 0x464c_4231;
/** Bytes: magic, how many slots, the seed, the beginning of time (milliseconds since 1970). */
const headerSize = 64;
const seedAt = 8;
const beginAt = 16;
const fileSize = headerSize + slots * (4 + 8);
/** Nanoseconds of a millisecond. */
const nano = 1_000_000;

/** Where the table is of all processes that have the name of an admin socket one after the other, or are workers behind it. */
export function limitsFile(admin: string): string {
  return `${admin}.limits`;
}

/** What a bucket is asked: all times in whole nanoseconds since the table's beginning. */
export interface Cell {
  /** Between two tokens. */
  readonly interval: number;
  readonly burst: number;
}

export class SharedTable {
  /** What slots are whose: a part of the key's hash; 0: nobody's. */
  readonly #tags: Int32Array;
  /** When the bucket of a slot is full; one in the past is as good as none. */
  readonly #fullAt: BigInt64Array;
  readonly #seed: bigint;
  readonly #begin: number;
  readonly #hash = new BigUint64Array(1);
  readonly #halves = new Uint32Array(this.#hash.buffer);

  private constructor(bytes: Uint8Array) {
    const { buffer, byteOffset } = bytes;
    const header = new DataView(buffer, byteOffset, headerSize);
    this.#seed = header.getBigUint64(seedAt, true);
    this.#begin = header.getFloat64(beginAt, true);
    this.#fullAt = new BigInt64Array(buffer, byteOffset + headerSize, slots);
    this.#tags = new Int32Array(buffer, byteOffset + headerSize + slots * 8, slots);
  }

  /**
   * Opens the table of a file, or makes it (3 MiB) when there is none; one that is not its owner's, or of another layout, is put out of the
   * way. `now` in milliseconds. Throws an Error when it cannot be had.
   */
  static open(path: string, now: number): SharedTable {
    for (let turn = 0; turn < 3; turn++) {
      const found = lstatSync(path, { throwIfNoEntry: false });
      if (!found) {
        make(path, now);
        continue;
      }
      const ours = found.isFile() && found.uid === process.getuid?.() && (found.mode & 0o077) === 0;
      if (ours && found.size === fileSize) {
        const bytes = Bun.mmap(path, { shared: true });
        const header = new DataView(bytes.buffer, bytes.byteOffset, headerSize);
        if (header.getUint32(0, true) === magic && header.getUint32(4, true) === slots) return new SharedTable(bytes);
      }
      renameSync(path, `${path}.old`);
      rmSync(`${path}.old`, { recursive: true, force: true });
    }
    throw new Error(`${path} is another one each time it is opened`);
  }

  /**
   * Takes a token of a key's bucket, if there is one. `now` in milliseconds. Returns whether there was, and how many nanoseconds it
   * takes until the bucket is full. A clock that goes back, or another who had the slot, can at worst leave the bucket empty.
   */
  take(key: string, { interval, burst }: Cell, now: number): { readonly allowed: boolean; readonly full: number } {
    this.#hash[0] = Bun.hash.wyhash(key, this.#seed);
    const first = (this.#halves[0]! % sets) * ways;
    const tag = this.#halves[1]! | 0 || 1;
    const at = Math.round((now - this.#begin) * nano);
    const slot = this.#slotOf(first, tag, at);
    const most = burst * interval;
    for (;;) {
      const before = Atomics.load(this.#fullAt, slot);
      const full = Math.max(Number(before) - at, 0);
      if (full > most) {
        Atomics.compareExchange(this.#fullAt, slot, before, BigInt(at + most));
        continue;
      }
      const next = full + interval;
      if (next > most) return { allowed: false, full };
      if (Atomics.compareExchange(this.#fullAt, slot, before, BigInt(at + next)) === before)
        return { allowed: true, full: next };
    }
  }

  #slotOf(first: number, tag: number, at: number): number {
    for (;;) {
      for (let slot = first; slot < first + ways; slot++) if (Atomics.load(this.#tags, slot) === tag) return slot;
      let [free, fullAt] = [first, Number.POSITIVE_INFINITY];
      for (let slot = first; slot < first + ways && fullAt > at; slot++) {
        const one = Number(Atomics.load(this.#fullAt, slot));
        if (one < fullAt) [free, fullAt] = [slot, one];
      }
      const before = Atomics.load(this.#tags, free);
      if (before === tag || Atomics.compareExchange(this.#tags, free, before, tag) !== before) continue;
      // The former one's debt is not this one's. Found anew, because another process may have put the key into a slot before this.
      if (fullAt > at) Atomics.compareExchange(this.#fullAt, free, BigInt(fullAt), BigInt(at));
    }
  }
}

/** Whole at once, so that no page is missing when it is written to; who is second takes the first one's. */
function make(path: string, now: number): void {
  const beside = `${path}.${process.pid}`;
  rmSync(beside, { force: true });
  const bytes = Buffer.alloc(fileSize);
  bytes.writeUInt32LE(magic, 0);
  bytes.writeUInt32LE(slots, 4);
  crypto.getRandomValues(bytes.subarray(seedAt, seedAt + 8));
  bytes.writeDoubleLE(Math.floor(now), beginAt);
  try {
    const file = openSync(beside, "wx", 0o600);
    try {
      for (let written = 0; written < fileSize; ) written += writeSync(file, bytes, written);
    } finally {
      closeSync(file);
    }
    linkSync(beside, path);
  } catch (error) {
    if ((error as { code?: string }).code !== "EEXIST") throw new Error(`${path} cannot be made: ${messageOf(error)}`);
  } finally {
    rmSync(beside, { force: true });
  }
}
