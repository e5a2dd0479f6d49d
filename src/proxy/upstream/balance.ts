// Which endpoint of a backend takes the next request. One function a policy, chosen when endpoints change; none of them looks
// at anything but the endpoints' weights and what is under way to each.

import type { Balance } from "../../model/upstream-policies.ts";
import { WeightedChoice } from "./choice.ts";

/** What a policy may know of an endpoint. */
export interface Candidate {
  readonly weight: number;
  /** Requests under way. */
  readonly active: number;
}

/** Gives the next of the candidates it was made for. */
export type Pick = () => number;

/** `candidates` is not empty and its weights are above 0. */
export function balance(
  kind: Balance["kind"],
  candidates: readonly Candidate[],
  random: () => number = Math.random,
): Pick {
  if (candidates.length === 1) return () => 0;
  switch (kind) {
    case "roundRobin":
      return roundRobin(candidates, random);
    case "random":
      return weightedRandom(candidates, random);
    case "leastRequest":
      return leastRequest(candidates, random);
    default:
      throw new Error(`balance ${kind} is not supported by this proxy yet`);
  }
}

/** In turn when the weights are equal, else evenly by weight; the start is random so that proxies do not march in step. */
function roundRobin(candidates: readonly Candidate[], random: () => number): Pick {
  const weights = candidates.map((candidate) => candidate.weight);
  if (weights.every((weight) => weight === weights[0])) {
    let next = Math.floor(random() * candidates.length);
    return () => {
      next = next + 1 < candidates.length ? next + 1 : 0;
      return next;
    };
  }
  const choice = new WeightedChoice(weights, random);
  return () => choice.next();
}

function weightedRandom(candidates: readonly Candidate[], random: () => number): Pick {
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

/** The less busy of two drawn by weight (power of two choices; Mitzenmacher, 2001). */
function leastRequest(candidates: readonly Candidate[], random: () => number): Pick {
  const draw = weightedRandom(candidates, random);
  return () => {
    const one = draw();
    const other = draw();
    return candidates[other]!.active < candidates[one]!.active ? other : one;
  };
}
