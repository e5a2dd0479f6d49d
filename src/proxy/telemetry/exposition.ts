// Lines of Prometheus' text format (exposition format 0.0.4): what a family begins with, labels, histograms. Pure.

/** The lines before the samples of a family. */
export function family(name: string, type: "counter" | "gauge" | "histogram", help: string): string {
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n`;
}

/** Of at least one label, without the braces. */
export function labels(values: object): string {
  let text = "";
  for (const [name, value] of Object.entries(values))
    text += `${text === "" ? "" : ","}${name}="${escaped(String(value))}"`;
  return text;
}

function escaped(value: string): string {
  return value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
}

/**
 * The samples of one histogram, empty where nothing was counted. `bounds`: the upper ones of its buckets as texts, the open bucket left out;
 * `count`: what one bucket alone has.
 */
export function histogram(
  name: string,
  own: string,
  bounds: readonly string[],
  count: (bucket: number) => number,
  sum: number,
): string {
  let text = "";
  let upTo = 0;
  for (let bucket = 0; bucket <= bounds.length; bucket++) {
    upTo += count(bucket);
    text += `${name}_bucket{${own},le="${bounds[bucket] ?? "+Inf"}"} ${upTo}\n`;
  }
  return upTo === 0 ? "" : `${text}${name}_sum{${own}} ${sum}\n${name}_count{${own}} ${upTo}\n`;
}
