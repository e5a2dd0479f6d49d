// Texts, and what belongs to each, found by a hash that grows with the text: so that all beginnings of a path are looked up in one
// pass over it, and none of them becomes a string of its own.

/** Another in each process: whoever chooses texts cannot choose which of them share a place. */
export const hashSeed = crypto.getRandomValues(new Int32Array(1))[0]!;
const prime = 0x01000193;

/** The hash of a text and one more code of a character (FNV-1a); that of no text is {@link hashSeed}. */
export function hashOn(hash: number, code: number): number {
  return Math.imul(hash ^ code, prime);
}

export class Beginnings<T> {
  readonly #texts: string[] = [];
  readonly #hashes: number[] = [];
  readonly #values: T[] = [];
  /** Open addressing; an index from 1, or 0. */
  #places = new Int32Array(16);

  get size(): number {
    return this.#texts.length;
  }

  /** What belongs to the first `length` characters of `path`, whose hash is `hash`. */
  get(path: string, length: number, hash: number): T | undefined {
    const places = this.#places;
    const mask = places.length - 1;
    next: for (let place = spread(hash) & mask; ; place = (place + 1) & mask) {
      const index = places[place]! - 1;
      if (index < 0) return undefined;
      if (this.#hashes[index] !== hash) continue;
      const text = this.#texts[index]!;
      if (text.length !== length) continue;
      for (let at = 0; at < length; at++) if (text.charCodeAt(at) !== path.charCodeAt(at)) continue next;
      return this.#values[index];
    }
  }

  /** What belongs to a whole text; `make` makes it the first time. */
  take(text: string, make: () => T): T {
    let hash = hashSeed;
    for (let at = 0; at < text.length; at++) hash = hashOn(hash, text.charCodeAt(at));
    const known = this.get(text, text.length, hash);
    if (known !== undefined) return known;
    const value = make();
    this.#texts.push(text);
    this.#hashes.push(hash);
    this.#values.push(value);
    if (2 * this.#texts.length > this.#places.length) {
      this.#places = new Int32Array(2 * this.#places.length);
      for (let index = 0; index < this.#texts.length; index++) this.#put(index);
    } else this.#put(this.#texts.length - 1);
    return value;
  }

  #put(index: number): void {
    const mask = this.#places.length - 1;
    let place = spread(this.#hashes[index]!) & mask;
    while (this.#places[place] !== 0) place = (place + 1) & mask;
    this.#places[place] = index + 1;
  }
}

function spread(hash: number): number {
  return hash ^ (hash >>> 15);
}
