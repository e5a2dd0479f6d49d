// Random Services as rows of a node's table, in either family, from a seed: for tests that rules after any sequence of changes are
// those of a fresh start. A seed that failed once is kept in `kept`.

import fc from "fast-check";
import type { Protocol } from "../../src/services/objects.ts";
import type { ServicePort, TableEndpoint } from "../../src/services/service-table.ts";

/** Seeds that are tried each time, before new ones. */
export const kept: readonly number[] = [1, 20_261_124];

/** Sequences of tables. */
export function randomStates(family: 4 | 6): fc.Arbitrary<readonly (readonly ServicePort[])[]> {
  const four = family === 4;
  const address = (net: number, last: number) => (four ? `10.${net}.0.${last}` : `fd00:${net}::${last}`);
  const outside = (last: number) => (four ? `198.51.100.${last}` : `2001:db8:100::${last}`);
  const ranges = four ? ["192.0.2.0/24", "203.0.113.0/25"] : ["2001:db8:1::/48", "2001:db8:2::/64"];
  const endpoint = (n: number): TableEndpoint => ({ address: address(244, n + 2), port: 8080, local: n % 2 === 0 });
  const row = fc
    .record({
      number: fc.nat(7),
      endpoints: fc.uniqueArray(fc.nat(5), { maxLength: 4 }),
      protocol: fc.constantFrom<Protocol>("TCP", "UDP", "SCTP"),
      nodePort: fc.boolean(),
      external: fc.boolean(),
      balanced: fc.boolean(),
      ranges: fc.subarray(ranges),
      healthCheck: fc.boolean(),
      externalPolicyLocal: fc.boolean(),
      internalPolicyLocal: fc.boolean(),
      affinitySeconds: fc.constantFrom(undefined, 10, 20),
    })
    .map(({ number, endpoints, protocol, nodePort, external, balanced, ranges, healthCheck, ...more }): ServicePort => {
      const list = endpoints.toSorted().map(endpoint);
      return {
        ...{ key: `shop/s${number}/TCP/${family}`, name: `shop/s${number}`, namespace: "shop", service: `s${number}` },
        ...{ family, protocol, port: 80, clusterIP: address(96, number + 1) },
        externalIPs: external ? [outside(number + 1)] : [],
        loadBalancerIPs: balanced ? [address(97, number + 1)] : [],
        sourceRanges: balanced ? ranges : [],
        nodePort: nodePort ? 30_000 + number : undefined,
        healthCheckNodePort: healthCheck && balanced && more.externalPolicyLocal ? 32_000 + number : undefined,
        ...more,
        clusterEndpoints: list,
        localEndpoints: list.filter(({ local }) => local),
        hasEndpoints: list.length > 0,
        localReady: list.filter(({ local }) => local).length,
      };
    });
  return fc.array(fc.uniqueArray(row, { selector: ({ key }) => key, maxLength: 6 }), { minLength: 2, maxLength: 5 });
}

/** Sequences for the kept seeds and for `more` new ones; the seed names a sequence in a message. */
export function sequences(
  family: 4 | 6,
  more: number,
): readonly (readonly [number, readonly (readonly ServicePort[])[]])[] {
  const seeds = [...kept, ...Array.from({ length: more }, () => Math.floor(Math.random() * 2 ** 31))];
  return seeds.map((seed) => [seed, fc.sample(randomStates(family), { seed, numRuns: 1 })[0]!] as const);
}
