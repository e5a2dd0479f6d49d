// The objects of one resource in memory, in the order that the API lists them: by `namespace/name`, bytewise, as etcd's
// keys are. Lookup by name costs one hash; a namespace is a range of the order.

import type { KubeObject, ObjectName } from "../../api/object.ts";

export class SortedObjects {
  readonly #objects = new Map<ObjectName, KubeObject>();
  #keys: ObjectName[] = [];

  get size(): number {
    return this.#objects.size;
  }

  get(key: ObjectName): KubeObject | undefined {
    return this.#objects.get(key);
  }

  set(key: ObjectName, object: KubeObject): void {
    if (!this.#objects.has(key)) {
      const last = this.#keys.at(-1);
      if (last === undefined || last < key) this.#keys.push(key);
      else this.#keys.splice(this.#position(key), 0, key);
    }
    this.#objects.set(key, object);
  }

  delete(key: ObjectName): void {
    if (!this.#objects.delete(key)) return;
    this.#keys.splice(this.#position(key), 1);
  }

  /** All objects, or those of a namespace, in order. */
  list(namespace?: string): KubeObject[] {
    const prefix = namespace === undefined ? "" : `${namespace}/`;
    const result: KubeObject[] = [];
    for (let at = prefix === "" ? 0 : this.#position(prefix); at < this.#keys.length; at++) {
      const key = this.#keys[at]!;
      if (!key.startsWith(prefix)) break;
      result.push(this.#objects.get(key)!);
    }
    return result;
  }

  copy(): SortedObjects {
    const copy = new SortedObjects();
    copy.#keys = [...this.#keys];
    for (const [key, object] of this.#objects) copy.#objects.set(key, object);
    return copy;
  }

  /** Where the key is, or would be. */
  #position(key: ObjectName): number {
    let low = 0;
    let high = this.#keys.length;
    while (low < high) {
      const middle = (low + high) >>> 1;
      if (this.#keys[middle]! < key) low = middle + 1;
      else high = middle;
    }
    return low;
  }
}
