// The promise of the room, by counting: the cost of a change is the number of values that read it, at any size.

import { expect, test } from "bun:test";
import { derive } from "./derive.ts";
import { createGraph, type Graph } from "./graph.ts";
import { index } from "./index.ts";
import { source } from "./source.ts";

interface Service {
  readonly namespace: string;
  readonly name: string;
  readonly ports: readonly number[];
}

/** Services, their slices, ports and names, shaped as the real rooms have it. */
async function serviceLayer(graph: Graph, count: number) {
  const services = source<Service>("services", { graph });
  const slices = source<{ service: string; addresses: string[] }>("slices", { graph });
  const slicesOf = index(slices, "slices by service", (slice) => [slice.service]);
  const inNamespace = index(services, "services by namespace", (one) => [one.namespace]);
  const key = (one: { namespace: string; name: string }) => `${one.namespace}/${one.name}`;
  const ports = derive(
    services,
    (one, fetch) => {
      const addresses = fetch.where(slicesOf, key(one)).flatMap((slice) => slice.addresses);
      return one.ports.map((port) => ({ name: `${key(one)}:${port}`, service: key(one), addresses }));
    },
    { name: "ports", key: (port) => port.name },
  );
  derive(services, (one) => ({ host: `${one.name}.${one.namespace}.svc` }), { name: "names", key: (one) => one.host });
  derive(ports, (port, fetch) => ({ ...port, external: fetch.one(services, port.service)?.ports.length }), {
    name: "rules",
    key: (rule) => rule.name,
  });
  graph.batch(() => {
    for (let n = 0; n < count; n++) {
      const namespace = `ns-${n % 100}`;
      services.set(`${namespace}/s${n}`, { namespace, name: `s${n}`, ports: [80, 443] });
      slices.set(`${namespace}/s${n}-x`, { service: `${namespace}/s${n}`, addresses: [`10.0.0.${n % 250}`] });
    }
  });
  await graph.settled();
  const computations = () => graph.metrics().reduce((sum, one) => sum + one.computations, 0);
  return { services, slices, inNamespace, computations };
}

for (const count of [1_000, 10_000]) {
  test(`at ${count} Services a change of one recomputes 4 values, of its slice 3`, async () => {
    const graph = createGraph();
    const { services, slices, computations } = await serviceLayer(graph, count);
    const before = computations();
    services.set("ns-7/s7", { namespace: "ns-7", name: "s7", ports: [80, 8443] });
    expect(computations() - before).toBe(4); // its ports, its name, the rules of 80 and 8443
    const changed = computations();
    slices.set("ns-7/s7-x", { service: "ns-7/s7", addresses: ["10.9.9.9"] });
    expect(computations() - changed).toBe(3); // its ports, the rules of both
  });
}
