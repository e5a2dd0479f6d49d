// What benchmarks print: order statistics of measured times.

/** The value below which a share `q` (0 to 1) of the sorted values lies; nearest rank. */
export function quantile(values: readonly number[], q: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.max(0, Math.ceil(q * sorted.length) - 1))]!;
}

export function summary(values: readonly number[]): string {
  const at = (q: number) => quantile(values, q).toFixed(1);
  return `p50 ${at(0.5)} ms, p90 ${at(0.9)} ms, p99 ${at(0.99)} ms, max ${at(1)} ms (n = ${values.length})`;
}
