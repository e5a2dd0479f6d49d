// Which endpoint of a group takes the next request. One function a policy, made when the group changes; none of them looks at
// anything but weights, what is under way, response times, and for the consistent ones the request's hash.

import type { Balance } from "../../model/upstream-policies.ts";
import { WeightedChoice } from "./choice.ts";
import { maglev, onRing, ring } from "./consistent-hash.ts";

/** What a policy may know of an endpoint. */
export interface Candidate {
  /** Address and port. */
  readonly key: string;
  readonly weight: number;
  /** Requests under way. */
  readonly active: number;
  /** What one request more would cost, for `peakEwma`. */
  load(now: number): number;
}

/** Gives the next of the candidates it was made for. `hash` is what the rule says to hash, when the request has it. */
export type Pick = (now: number, hash: number | undefined) => number;

/** `candidates` is not empty and its weights are above 0. */
export function balance(config: Balance, candidates: readonly Candidate[], random: () => number = Math.random): Pick {
  if (candidates.length === 1) return () => 0;
  switch (config.kind) {
    case "roundRobin":
      return roundRobin(candidates, random);
    case "random":
      return weightedRandom(candidates, random);
    case "leastRequest":
      return leastRequest(candidates, config.choices ?? 2, random);
    case "peakEwma":
      return peakEwma(candidates, random);
    case "ringHash": {
      const made = ring(candidates, config.minSize, config.maxSize);
      return byHash((hash) => onRing(made, hash), candidates, random);
    }
    case "maglev": {
      const table = maglev(candidates, config.tableSize);
      return byHash((hash) => table[hash % table.length]!, candidates, random);
    }
  }
}

/** In turn when the weights are equal, else evenly by weight; the start is random so that proxies do not march in step. */
function roundRobin(candidates: readonly Candidate[], random: () => number): Pick {
  const weights = candidates.map((candidate) => candidate.weight);
  if (equal(weights)) {
    let next = Math.floor(random() * candidates.length);
    return () => {
      next = next + 1 < candidates.length ? next + 1 : 0;
      return next;
    };
  }
  const choice = new WeightedChoice(weights, random);
  return () => choice.next();
}

function weightedRandom(candidates: readonly Candidate[], random: () => number): () => number {
  let sum = 0;
  const upTo = candidates.map((candidate) => {
    sum += candidate.weight;
    return sum;
  });
  return () => {
    const at = random() * sum;
    let index = 0;
    while (index < upTo.length - 1 && at >= upTo[index]!) index++;
    return index;
  };
}

/**
 * The less busy of some drawn at random (power of two choices; Mitzenmacher, 2001). With unequal weights an endpoint's share is
 * weight / (active + 1), as Envoy's.
 */
function leastRequest(candidates: readonly Candidate[], choices: number, random: () => number): Pick {
  if (!equal(candidates.map(({ weight }) => weight))) {
    return () => {
      let sum = 0;
      for (let index = 0; index < candidates.length; index++) sum += share(candidates[index]!);
      let at = random() * sum;
      for (let index = 0; index < candidates.length; index++) {
        at -= share(candidates[index]!);
        if (at < 0) return index;
      }
      return candidates.length - 1;
    };
  }
  return () => {
    let best = Math.floor(random() * candidates.length);
    for (let drawn = 1; drawn < choices; drawn++) {
      const other = Math.floor(random() * candidates.length);
      if (candidates[other]!.active < candidates[best]!.active) best = other;
    }
    return best;
  };
}

function share({ weight, active }: Candidate): number {
  return weight / (active + 1);
}

/** The cheaper of two different ones drawn by weight. */
function peakEwma(candidates: readonly Candidate[], random: () => number): Pick {
  const draw = weightedRandom(candidates, random);
  return (now) => {
    const one = draw();
    let other = draw();
    if (other === one) other = (one + 1 + Math.floor(random() * (candidates.length - 1))) % candidates.length;
    return candidates[other]!.load(now) < candidates[one]!.load(now) ? other : one;
  };
}

/** A request that has nothing to hash goes anywhere. */
function byHash(of: (hash: number) => number, candidates: readonly Candidate[], random: () => number): Pick {
  const anywhere = weightedRandom(candidates, random);
  return (_, hash) => (hash === undefined ? anywhere() : of(hash));
}

function equal(weights: readonly number[]): boolean {
  return weights.every((weight) => weight === weights[0]);
}
