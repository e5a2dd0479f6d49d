// Does a change cost the same in a large cluster as in a small one? Services, EndpointSlices and what is derived from them at
// 1,000 and 10,000 Services in one run: microseconds and computations a change, and the ratio of both sizes. The peer is the
// plainest way: recomputing everything at each change.
//
//     bun bench/collections/run.ts

import type { Index } from "../../src/collections/collection.ts";
import { type Derived, derive } from "../../src/collections/derive.ts";
import { createGraph } from "../../src/collections/graph.ts";
import { index } from "../../src/collections/index.ts";
import { type Source, source } from "../../src/collections/source.ts";

interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly ports: readonly number[];
  readonly revision: number;
}

interface Slice {
  readonly service: string;
  readonly addresses: readonly string[];
}

interface Layer {
  readonly services: Source<Service>;
  readonly slices: Source<Slice>;
  readonly slicesOf: Index<Slice>;
  readonly rules: Derived<unknown>;
  readonly fillMilliseconds: number;
  readonly computations: () => number;
}

const keyOf = (one: { namespace: string; name: string }) => `${one.namespace}/${one.name}`;
const serviceAt = (n: number, revision: number): Service => ({
  namespace: `ns-${n % 100}`,
  name: `s${n}`,
  ports: revision % 2 ? [80, 443] : [80, 8443],
  revision,
});
const sliceAt = (n: number, revision: number): Slice => ({
  service: keyOf(serviceAt(n, 0)),
  addresses: [1, 2, 3].map((last) => `10.${revision % 250}.${n % 250}.${last}`),
});

async function build(count: number): Promise<Layer> {
  const graph = createGraph();
  const services = source<Service>("services", { graph });
  const slices = source<Slice>("slices", { graph });
  const slicesOf = index(slices, "slices by service", (one) => [one.service]);
  index(services, "services by namespace", (one) => [one.namespace]);
  const ports = derive(
    services,
    (one, fetch) => {
      const addresses = fetch.where(slicesOf, keyOf(one)).flatMap((slice) => slice.addresses);
      return one.ports.map((port) => ({ name: `${keyOf(one)}:${port}`, port, addresses }));
    },
    { name: "ports", key: (one) => one.name },
  );
  derive(services, (one) => ({ host: `${one.name}.${one.namespace}.svc` }), { name: "names", key: (one) => one.host });
  const rules = derive(ports, (one) => ({ ...one, shares: one.addresses.map((_, at, all) => 1 / (all.length - at)) }), {
    name: "rules",
    key: (one) => one.name,
  });
  const start = performance.now();
  graph.batch(() => {
    for (let n = 0; n < count; n++) {
      services.set(keyOf(serviceAt(n, 1)), serviceAt(n, 1));
      slices.set(`${keyOf(serviceAt(n, 1))}-x`, sliceAt(n, 1));
    }
  });
  await graph.settled();
  const computations = () => graph.metrics().reduce((sum, one) => sum + one.computations, 0);
  return { services, slices, slicesOf, rules, fillMilliseconds: performance.now() - start, computations };
}

/** Microseconds and computations a change; the median of `rounds`. */
function measure(layer: Layer, count: number, change: (n: number, revision: number) => void, rounds = 9) {
  const changes = 1000;
  const times: number[] = [];
  const before = layer.computations();
  for (let round = 0; round < rounds; round++) {
    const start = performance.now();
    for (let n = 0; n < changes; n++) change((n * 7919) % count, round + 2);
    times.push(((performance.now() - start) * 1000) / changes);
  }
  times.sort((a, b) => a - b);
  return { micros: times[rounds >> 1]!, computations: (layer.computations() - before) / (changes * rounds) };
}

/** Everything from scratch with plain loops, as one change would cost it. */
function recomputeAll(layer: Layer): number {
  const start = performance.now();
  const rules = new Map<string, unknown>();
  for (const one of layer.services.values()) {
    const addresses = layer.slicesOf.where(keyOf(one)).flatMap((slice) => slice.addresses);
    for (const port of one.ports) {
      const shares = addresses.map((_, at, all) => 1 / (all.length - at));
      rules.set(`${keyOf(one)}:${port}`, { port, addresses, shares });
    }
  }
  return (performance.now() - start) * 1000;
}

const warm = await build(500);
measure(warm, 500, (n, revision) => warm.services.set(keyOf(serviceAt(n, 1)), serviceAt(n, revision)), 30);
measure(warm, 500, (n, revision) => warm.slices.set(`${keyOf(serviceAt(n, 1))}-x`, sliceAt(n, revision)), 30);

const rows: { what: string; small: number; large: number; unit: string }[] = [];
const layers = [await build(1_000), await build(10_000)] as const;
const sizes = [1_000, 10_000] as const;
const both = <T>(run: (layer: Layer, count: number) => T) => layers.map((layer, at) => run(layer, sizes[at]!));

const service = both((layer, count) =>
  measure(layer, count, (n, revision) => layer.services.set(keyOf(serviceAt(n, 1)), serviceAt(n, revision))),
);
const slice = both((layer, count) =>
  measure(layer, count, (n, revision) => layer.slices.set(`${keyOf(serviceAt(n, 1))}-x`, sliceAt(n, revision))),
);
const all = both((layer) => Array.from({ length: 9 }, () => recomputeAll(layer)).sort((a, b) => a - b)[4]!);

rows.push({ what: "one Service", unit: "µs", small: service[0]!.micros, large: service[1]!.micros });
rows.push({ what: "  computations", unit: "", small: service[0]!.computations, large: service[1]!.computations });
rows.push({ what: "one EndpointSlice", unit: "µs", small: slice[0]!.micros, large: slice[1]!.micros });
rows.push({ what: "  computations", unit: "", small: slice[0]!.computations, large: slice[1]!.computations });
rows.push({ what: "peer: everything again", unit: "µs", small: all[0]!, large: all[1]! });
rows.push({ what: "first fill", unit: "ms", small: layers[0].fillMilliseconds, large: layers[1].fillMilliseconds });

console.log(`${"a change of".padEnd(26)}${"1,000".padStart(12)}${"10,000".padStart(12)}${"ratio".padStart(8)}`);
for (const { what, unit, small, large } of rows) {
  const cell = (value: number) => `${value.toFixed(1)} ${unit}`.padStart(12);
  console.log(`${what.padEnd(26)}${cell(small)}${cell(large)}${(large / small).toFixed(2).padStart(8)}`);
}
console.log(`${layers[1].rules.size} rules at 10,000`);
