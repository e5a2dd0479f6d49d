// Mutations of byte strings for fuzzers: reproducible from a seed, made of what breaks parsers (cuts, doubles, flips, numbers at
// their edges, pieces of other inputs). How many inputs a target gets is FUZZ_INPUTS (for long runs), where it begins FUZZ_SEED;
// without one each run begins elsewhere, and says where.

import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Numbers in [0, n), from a seed (mulberry32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  below(n: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return Math.floor((((t ^ (t >>> 14)) >>> 0) / 2 ** 32) * n);
  }

  of<T>(list: readonly T[]): T {
    return list[this.below(list.length)]!;
  }
}

const tokens = [
  "\r\n",
  "\r",
  "\n",
  "\r\n\r\n",
  "\0",
  ":",
  " ",
  "\t",
  ";",
  ",",
  "0",
  "ffffffffffffffff",
  "\x7f",
  "\xff",
  "chunked",
  "-1",
  "%00",
  "[::]",
].map((text) => Buffer.from(text, "latin1"));
const edges = [0, 1, 9, 10, 13, 32, 58, 127, 128, 254, 255];

/** One to four changes to a seed. */
export function mutate(random: Random, seeds: readonly Buffer[]): Buffer {
  let bytes = Buffer.from(random.of(seeds));
  for (let change = random.below(4); change >= 0; change--) {
    const at = random.below(bytes.length + 1);
    const length = random.below(Math.min(40, bytes.length - at + 1));
    const before = bytes.subarray(0, at);
    const behind = bytes.subarray(at + length);
    switch (random.below(8)) {
      case 0:
        bytes = Buffer.concat([before, behind]);
        break;
      case 1:
        bytes = Buffer.from(before);
        break;
      case 2:
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      case 3:
        bytes = Buffer.concat([before, random.of(tokens), bytes.subarray(at)]);
        break;
      case 4: {
        const other = random.of(seeds);
        bytes = Buffer.concat([before, other.subarray(random.below(other.length + 1))]);
        break;
      }
      default:
        if (at < bytes.length)
          bytes[at] = random.below(2) === 0 ? random.of(edges) : bytes[at]! ^ (1 << random.below(8));
    }
  }
  return bytes.length > 70_000 ? bytes.subarray(0, 70_000) : bytes;
}

/** Inputs that once broke something, by target; a fuzzer that finds one says the line to add. */
const kept = JSON.parse(readFileSync(join(import.meta.dir, "regressions.json"), "utf8")) as Record<
  string,
  readonly string[]
>;

const seed = Number(process.env["FUZZ_SEED"] ?? crypto.getRandomValues(new Uint32Array(1))[0]);
console.log(`fuzz: FUZZ_SEED=${seed}`);

/** How many inputs a target gets. */
export const inputsOf = (inCi: number) => Number(process.env["FUZZ_INPUTS"] ?? inCi);

/** A target's own numbers, the same for the same FUZZ_SEED. */
export const randomOf = (target: string) => new Random(seed ^ Number(Bun.hash.crc32(target)));

/**
 * Gives a check what was kept for the target, the seeds, and changes of them (`mutate` unless given). `inputs`: how many in CI,
 * unless FUZZ_INPUTS says otherwise. An input for which the check throws, or takes longer than a second, is an error that says how to keep it.
 */
export async function fuzz(
  target: string,
  inputs: number,
  seeds: readonly Buffer[],
  check: (bytes: Buffer, random: Random) => void | Promise<void>,
  change: (random: Random, seeds: readonly Buffer[]) => Buffer = mutate,
): Promise<void> {
  const random = randomOf(target);
  const one = async (bytes: Buffer, why: string) => {
    const began = performance.now();
    try {
      const waits = check(bytes, random);
      if (waits) await waits;
      // Twice: the first time it may only have waited for its turn on a busy machine.
      else if (performance.now() - began > 1000) {
        const again = performance.now();
        check(bytes, random);
        if (performance.now() - again > 1000) throw new Error("it took longer than a second");
      }
    } catch (error) {
      throw new Error(
        `${target}, ${why}: ${String(error)}\nkeep it in test/fuzz/regressions.json: "${bytes.toString("hex")}"`,
      );
    }
  };
  // Often, because some checks also cut their input somewhere.
  for (const hex of kept[target] ?? []) {
    for (let time = 0; time < 200; time++) await one(Buffer.from(hex, "hex"), "a kept input");
  }
  for (const bytes of seeds) await one(Buffer.from(bytes), "a seed");
  const count = inputsOf(inputs);
  for (let index = 0; index < count; index++) await one(change(random, seeds), `input ${index} of seed ${seed}`);
}
