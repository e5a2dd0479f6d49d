// Choosing among weighted things so that every short run is close to the weights. A Weyl sequence (steps of the golden ratio
// around a circle divided by weight) from a random start: after n choices each share is off by a few at most, unlike with
// random numbers (square root of n), and unlike smooth weighted round robin it costs the same for any number of things.

const goldenRatio = 0.6180339887498949;

export class WeightedChoice {
  readonly #upTo: Float64Array;
  #position: number;

  /** Weights are 0 or more, and not all 0. `random` gives the start, in [0, 1). */
  constructor(weights: readonly number[], random: () => number = Math.random) {
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    let sum = 0;
    this.#upTo = Float64Array.from(weights, (weight) => {
      sum += weight;
      return sum / total;
    });
    this.#position = random();
  }

  /** The index of the next choice. One of weight 0 is never chosen. */
  next(): number {
    let position = this.#position + goldenRatio;
    if (position >= 1) position -= 1;
    this.#position = position;
    const upTo = this.#upTo;
    let low = 0;
    let high = upTo.length - 1;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (position < upTo[middle]!) high = middle;
      else low = middle + 1;
    }
    return low;
  }
}
