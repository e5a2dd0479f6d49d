// A range of numbers of which some are taken: picks a free one at random, from the upper part while that lasts, so that the
// lower band stays for those who ask for a number of their own (KEP-3070 for ClusterIPs, KEP-3668 for NodePorts).
// What is taken is remembered only as a hint; whether it is so decides the caller, inside of its transaction.

export class RandomRange {
  /** Offsets 0 to size - 1. */
  readonly size: number;
  /** Offsets below it are given out last. */
  readonly band: number;
  readonly #hints = new Set<number>();
  readonly #random: () => number;

  constructor(size: number, band: number, random: () => number = Math.random) {
    this.size = size;
    this.band = Math.min(band, size);
    this.#random = random;
  }

  /** Remembers an offset as probably taken. */
  hint(offset: number): void {
    this.#hints.add(offset);
  }

  /** A free offset, or undefined when all are taken. The expected work is constant until the range is nearly full. */
  pick(isFree: (offset: number) => boolean): number | undefined {
    const found =
      this.#scan(this.band, this.size, isFree, false) ??
      this.#scan(0, this.band, isFree, false) ??
      // Hints of writes that were refused later, and of what was released since, are looked at last.
      this.#scan(this.band, this.size, isFree, true) ??
      this.#scan(0, this.band, isFree, true);
    if (found !== undefined) this.#hints.add(found);
    return found;
  }

  #scan(from: number, to: number, isFree: (offset: number) => boolean, hinted: boolean): number | undefined {
    const count = to - from;
    if (count <= 0) return undefined;
    if (hinted && this.#hints.size === 0) return undefined;
    const start = Math.floor(this.#random() * count);
    for (let step = 0; step < count; step++) {
      const offset = from + ((start + step) % count);
      if (this.#hints.has(offset) !== hinted) continue;
      if (isFree(offset)) return offset;
      this.#hints.add(offset);
    }
    return undefined;
  }
}

/** The static band of a range: a sixteenth (addresses) or a thirty-second (ports) of it, within bounds; none of a small one. */
export function staticBand(size: number, share: 16 | 32, most: 256 | 128): number {
  if (size <= 16) return 0;
  return Math.min(Math.max(16, Math.floor(size / share)), most);
}
