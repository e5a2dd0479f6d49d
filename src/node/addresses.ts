// The pod addresses of one node: taken in turn through the node's range, so that an address that was given back is not
// used again before all others were (connections and caches may still know it).

import { addressAt, type Cidr, offsetOf } from "../base/cidr.ts";

export class AddressPool {
  readonly #range: Cidr;
  readonly #reserved: ReadonlySet<string>;
  readonly #taken = new Map<string, string>();
  #next = 2n;

  /** The first two and the last address of `range` are never given out, nor are `reserved` ones. */
  constructor(range: Cidr, reserved: Iterable<string> = []) {
    this.#range = range;
    this.#reserved = new Set(reserved);
  }

  /** The address of `owner`: the one it has, the one it had (`wanted`) if that is free, or the next one. Undefined: none left. */
  take(owner: string, wanted?: string): string | undefined {
    const own = this.of(owner);
    if (own !== undefined) return own;
    if (wanted !== undefined && this.#isFree(wanted)) {
      this.#advanceBeyond(wanted);
      this.#taken.set(wanted, owner);
      return wanted;
    }
    const last = this.#range.size - 1n;
    for (let tried = 2n; tried < last; tried++) {
      const address = addressAt(this.#range, this.#next);
      this.#next = this.#next + 1n >= last ? 2n : this.#next + 1n;
      if (!this.#isFree(address)) continue;
      this.#taken.set(address, owner);
      return address;
    }
    return undefined;
  }

  /** Whether an address is of this range. */
  has(address: string): boolean {
    return offsetOf(this.#range, address) !== undefined;
  }

  of(owner: string): string | undefined {
    for (const [address, by] of this.#taken) if (by === owner) return address;
    return undefined;
  }

  release(owner: string): void {
    const address = this.of(owner);
    if (address !== undefined) this.#taken.delete(address);
  }

  #isFree(address: string): boolean {
    const offset = offsetOf(this.#range, address);
    if (offset === undefined || offset < 2n || offset >= this.#range.size - 1n) return false;
    return !this.#taken.has(address) && !this.#reserved.has(address);
  }

  /** After a restart the turn goes on behind the addresses in use. */
  #advanceBeyond(address: string): void {
    const offset = offsetOf(this.#range, address)!;
    if (offset >= this.#next) this.#next = offset + 1n >= this.#range.size - 1n ? 2n : offset + 1n;
  }
}
