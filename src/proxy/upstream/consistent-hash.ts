// Consistent hashing: the same key goes to the same endpoint, and when one of n endpoints leaves only about 1/n of the keys move.
// Ring hash (Karger et al., 1997; sizes as Envoy's ring_hash) and Maglev (Eisenbud et al., NSDI 2016, §3.4, with weights as
// Envoy's). Tables are made when endpoints change; looking up allocates nothing.

/** An endpoint as a table sees it. `key` is its address and port, so that all proxies agree. */
export interface Hashed {
  readonly key: string;
  readonly weight: number;
}

/** 32 bits. */
export function hashOf(text: string, seed = 0): number {
  return Bun.hash.xxHash32(text, seed);
}

export interface Ring {
  /** Sorted places on the circle, and whose each is. */
  readonly places: Uint32Array;
  readonly owners: Uint32Array;
}

/** Envoy's bounds: at least 1,024 places, at most 8 Mi. */
const defaultMinSize = 1024;
const defaultMaxSize = 8 * 1024 * 1024;

/** Each endpoint has places by its weight; the lightest one has at least one, as long as `maxSize` lets it. */
export function ring(endpoints: readonly Hashed[], minSize = defaultMinSize, maxSize = defaultMaxSize): Ring {
  const total = endpoints.reduce((sum, { weight }) => sum + weight, 0);
  const least = Math.min(...endpoints.map(({ weight }) => weight)) / total;
  const size = Math.min(Math.ceil(least * minSize) / least, maxSize);
  const entries: { place: number; owner: number }[] = [];
  let due = 0;
  endpoints.forEach(({ key, weight }, owner) => {
    due += (weight / total) * size;
    for (let copy = 0; entries.length < Math.round(due); copy++)
      entries.push({ place: hashOf(`${key}_${copy}`), owner });
  });
  entries.sort((a, b) => a.place - b.place || a.owner - b.owner);
  return {
    places: Uint32Array.from(entries, ({ place }) => place),
    owners: Uint32Array.from(entries, ({ owner }) => owner),
  };
}

/** The endpoint whose place is the first at or behind the hash, going round. */
export function onRing({ places, owners }: Ring, hash: number): number {
  let low = 0;
  let high = places.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (places[middle]! < hash) low = middle + 1;
    else high = middle;
  }
  return owners[low === places.length ? 0 : low]!;
}

/** A prime, and large beside the number of endpoints, as the paper wants it. */
export const defaultTableSize = 65_537;

/** The lookup table: `table[hash % size]` is the endpoint. `size` must be a prime above the number of endpoints. */
export function maglev(endpoints: readonly Hashed[], size = defaultTableSize): Uint32Array {
  const most = Math.max(...endpoints.map(({ weight }) => weight));
  const seats = endpoints.map(({ key, weight }) => ({
    offset: hashOf(key) % size,
    skip: (hashOf(key, 1) % (size - 1)) + 1,
    next: 0,
    weight: weight / most,
    due: 0,
  }));
  const table = new Uint32Array(size);
  const taken = new Uint8Array(size);
  let filled = 0;
  for (let round = 1; filled < size; round++) {
    for (let owner = 0; owner < seats.length && filled < size; owner++) {
      const seat = seats[owner]!;
      // A lighter one takes its turn only in some of the rounds.
      if (seat.weight * round < seat.due) continue;
      seat.due++;
      let place = (seat.offset + seat.next * seat.skip) % size;
      while (taken[place]) {
        seat.next++;
        place = (seat.offset + seat.next * seat.skip) % size;
      }
      seat.next++;
      taken[place] = 1;
      table[place] = owner;
      filled++;
    }
  }
  return table;
}
