// Sizes of bodies as histograms at a bounded cost: a series is a row of a typed array, a bucket is found by counting leading zeros,
// so that a request adds two numbers. Bounds are powers of four.

/** Upper bounds in bytes: 1, 4, 16 … 1 GiB; the last bucket is open. Bodies of no bytes are in the first. */
export const sizeBounds: readonly number[] = Array.from({ length: 16 }, (_, power) => 4 ** power);
const width = sizeBounds.length + 1;

export class Sizes {
  #buckets = new Float64Array(64 * width);
  #sums = new Float64Array(64);

  /** Makes room for the series of this place. */
  reserve(slot: number): void {
    while (slot >= this.#sums.length) {
      this.#buckets = grown(this.#buckets);
      this.#sums = grown(this.#sums);
    }
  }

  record(slot: number, bytes: number): void {
    const bucket = bytes <= 1 ? 0 : bytes > 0x40000000 ? width - 1 : (33 - Math.clz32(bytes - 1)) >> 1;
    this.#buckets[slot * width + bucket]! += 1;
    this.#sums[slot]! += bytes;
  }

  bucket(slot: number, bucket: number): number {
    return this.#buckets[slot * width + bucket]!;
  }

  /** Bytes. */
  sum(slot: number): number {
    return this.#sums[slot]!;
  }
}

/** The same numbers with room for as many more. */
export function grown(array: Float64Array<ArrayBuffer>): Float64Array<ArrayBuffer> {
  const larger = new Float64Array(array.length * 2);
  larger.set(array);
  return larger;
}
