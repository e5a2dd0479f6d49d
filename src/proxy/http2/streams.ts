// The open streams of a connection by number. Numbers only ascend and few streams are open at a time, so that a short list in their
// order, searched from its end, costs less than a map, whose table is made anew again and again as numbers come and go.

import type { Http2Stream } from "./stream.ts";

/** Where a search from one end takes longer than halving. */
const shortList = 16;

export class Streams {
  #list: Http2Stream[] = [];

  get size(): number {
    return this.#list.length;
  }

  get(id: number): Http2Stream | undefined {
    const index = this.#find(id);
    return index < 0 ? undefined : this.#list[index];
  }

  #find(id: number): number {
    const list = this.#list;
    let low = 0;
    let high = list.length - 1;
    if (high < 0 || list[high]!.id < id) return -1;
    while (high - low >= shortList) {
      const middle = (low + high) >> 1;
      if (list[middle]!.id > id) high = middle - 1;
      else low = middle;
    }
    for (; high >= low; high--) {
      const found = list[high]!.id;
      if (found <= id) return found === id ? high : -1;
    }
    return -1;
  }

  /** Its number is above all others. */
  add(stream: Http2Stream): void {
    this.#list.push(stream);
  }

  delete(id: number): void {
    const index = this.#find(id);
    if (index < 0) return;
    const list = this.#list;
    for (let at = index + 1; at < list.length; at++) list[at - 1] = list[at]!;
    list.pop();
  }

  /** Takes all of them out. */
  clear(): Http2Stream[] {
    const list = this.#list;
    this.#list = [];
    return list;
  }

  /** Those that are there now: others may come and go meanwhile. */
  all(): readonly Http2Stream[] {
    return this.#list.slice();
  }
}
