// Whether what was counted can be what was drawn: four standard deviations of the binomial distribution.

/** Says of a number of hits whether it may be the share of so many draws; 6 times in 100,000 it says no to what is right. */
export function withinShare(draws: number, share: number): (hits: number) => boolean {
  const deviation = Math.sqrt(draws * share * (1 - share));
  return (hits) => Math.abs(hits - draws * share) <= 4 * deviation;
}
