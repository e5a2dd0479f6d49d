// Streams of a connection that we reset lately. Frames of them may still be under way, which are no error (RFC 9113 §5.1, "closed").

const remembered = 128;

export class RecentResets {
  readonly #ids: number[] = [];
  #count = 0;

  add(id: number): void {
    this.#ids[this.#count++ % remembered] = id;
  }

  has(id: number): boolean {
    return this.#ids.includes(id);
  }
}
