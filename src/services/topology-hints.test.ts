import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { milliCpu, type TopologyNode, topologyHints, wantsTopologyHints } from "./topology-hints.ts";

const nodes = (cpus: Record<string, number>): TopologyNode[] =>
  Object.entries(cpus).map(([zone, cpu]) => ({ name: `node-${zone}`, zone, cpu: cpu * 1000 }));
const endpoints = (zones: string, hints = "") =>
  [...zones].map((zone, at) => ({
    address: `10.0.0.${at + 1}`,
    zone,
    hint: hints[at] === "-" ? undefined : hints[at],
  }));
const counts = (zones: ReadonlyMap<string, string> | undefined) => {
  const found: Record<string, number> = {};
  for (const zone of zones?.values() ?? []) found[zone] = (found[zone] ?? 0) + 1;
  return found;
};

/** The zones in the order of the endpoints' addresses. */
const placed = (zones: ReadonlyMap<string, string> | undefined) =>
  [...(zones ?? [])]
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([, zone]) => zone)
    .join("");

describe("topology hints", () => {
  test("keep endpoints in their zones where these are even", () => {
    const { zones } = topologyHints(endpoints("aabbcc"), nodes({ a: 4, b: 4, c: 4 }));
    expect(placed(zones)).toBe("aabbcc");
  });

  test("give endpoints to zones that have too few for their CPUs", () => {
    expect(counts(topologyHints(endpoints("aaaaac"), nodes({ a: 4, b: 4, c: 4 })).zones)).toEqual({ a: 2, b: 2, c: 2 });
    expect(counts(topologyHints(endpoints("aaabbb"), nodes({ a: 12, b: 4 })).zones)).toEqual({ a: 4, b: 2 });
  });

  test("bring endpoints home when others have come that make it fair", () => {
    const { zones } = topologyHints(endpoints("aaabbb", "aabbb-"), nodes({ a: 4, b: 4 }));
    expect(placed(zones)).toBe("aaabbb");
  });

  test("leave with other zones those that they had before", () => {
    const { zones } = topologyHints(endpoints("aaaabb", "abaabb"), nodes({ a: 4, b: 4 }));
    expect(placed(zones)).toBe("abaabb");
  });

  test("are not given when they cannot be fair, and say why", () => {
    const reason = (zones: string, cpus: readonly TopologyNode[]) => {
      const outcome = topologyHints(endpoints(zones), cpus);
      return outcome.zones ? undefined : outcome.disabled;
    };
    expect(reason("ab", nodes({ a: 4, b: 4, c: 4 }))).toBe("Insufficient number of endpoints (2 endpoints, 3 zones)");
    expect(reason("aaa", nodes({ a: 4 }))).toBe("Nodes only ready in one zone");
    expect(reason("ab", [...nodes({ a: 4, b: 4 }), { name: "x", zone: undefined, cpu: 1 }])).toStartWith(
      "Insufficient Node information",
    );
    expect(reason("aab", nodes({ a: 4, b: 4 }))).toStartWith("Unable to allocate minimum required endpoints");
    expect(
      topologyHints(
        [{ address: "10.0.0.1", zone: undefined, hint: undefined }, ...endpoints("ab")],
        nodes({ a: 1, b: 1 }),
      ),
    ).toEqual({ disabled: "One or more endpoints do not have a zone specified" });
  });

  test("overload nobody by more than a fifth, whatever the endpoints and their hints", () => {
    const zone = fc.constantFrom("a", "b", "c");
    fc.assert(
      fc.property(
        fc.array(fc.record({ zone, hint: fc.option(zone, { nil: undefined }) }), { minLength: 1, maxLength: 40 }),
        fc.record({
          a: fc.integer({ min: 1, max: 9 }),
          b: fc.integer({ min: 1, max: 9 }),
          c: fc.integer({ min: 1, max: 9 }),
        }),
        (list, cpus) => {
          const given = list.map((one, at) => ({ ...one, address: `10.0.0.${at + 1}` }));
          const { zones } = topologyHints(given, nodes(cpus));
          if (!zones) return;
          expect(zones.size).toBe(given.length);
          const total = cpus.a + cpus.b + cpus.c;
          for (const [name, cpu] of Object.entries(cpus)) {
            const share = (cpu / total) * given.length;
            expect(share / counts(zones)[name]!).toBeLessThanOrEqual(1.2 + 1e-9);
          }
          const again = topologyHints(
            given.map((one) => ({ ...one, hint: zones.get(one.address) })),
            nodes(cpus),
          );
          expect(again.zones).toEqual(zones);
        },
      ),
      { numRuns: 1000 },
    );
  });

  test("are asked for by annotation", () => {
    const service = (annotations: Record<string, string>) => ({ metadata: { name: "a", annotations } });
    expect(wantsTopologyHints(service({ "service.kubernetes.io/topology-mode": "Auto" }))).toBe(true);
    expect(wantsTopologyHints(service({ "service.kubernetes.io/topology-aware-hints": "auto" }))).toBe(true);
    expect(wantsTopologyHints(service({ "service.kubernetes.io/topology-mode": "Disabled" }))).toBe(false);
    expect([milliCpu("1500m"), milliCpu("2"), milliCpu(4), milliCpu("x")]).toEqual([1500, 2000, 4000, undefined]);
  });
});
