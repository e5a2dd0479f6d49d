// Where trafficDistribution sends clients, as upstream's e2e tests have it (kubernetes/kubernetes test/e2e/network/
// traffic_distribution.go): four nodes in two zones a kernel mode, one Service a case with endpoints where the case wants them.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { Cluster, podYaml } from "./cluster.ts";
import { eventually, isRoot } from "./stack.ts";

if (!isRoot) console.log("skipped: traffic distribution: network namespaces need root");

/** Zones by node: node-1 and node-3 are in a, node-2 and node-4 in b. */
const zones = ["a", "b"];
type Node = 1 | 2 | 3 | 4;

interface Case {
  readonly title: string;
  readonly distribution: "PreferClose" | "PreferSameZone" | "PreferSameNode";
  /** Nodes with an endpoint. */
  readonly endpoints: readonly Node[];
  /** By the client's node, the nodes whose endpoints answer. */
  readonly reached: Readonly<Record<Node, readonly Node[]>>;
}

const cases: readonly Case[] = [
  ...(["PreferClose", "PreferSameZone"] as const).flatMap((distribution): readonly Case[] => [
    {
      title: `should route traffic to an endpoint in the same zone when using ${distribution}`,
      distribution,
      endpoints: [1, 2],
      reached: { 1: [1], 2: [2], 3: [1], 4: [2] },
    },
    {
      title: `should route traffic correctly between pods on multiple nodes when using ${distribution}`,
      distribution,
      endpoints: [1, 2, 3],
      reached: { 1: [1, 3], 2: [2], 3: [1, 3], 4: [2] },
    },
    {
      title: `should fall back to all endpoints when a zone has none when using ${distribution}`,
      distribution,
      endpoints: [1, 3],
      reached: { 1: [1, 3], 2: [1, 3], 3: [1, 3], 4: [1, 3] },
    },
  ]),
  {
    title: "should route traffic to an endpoint on the same node or fall back to same zone when using PreferSameNode",
    distribution: "PreferSameNode",
    endpoints: [1, 2, 3],
    reached: { 1: [1], 2: [2], 3: [3], 4: [2] },
  },
  {
    title:
      "should route traffic to an endpoint on the same node when using PreferSameNode and fall back when the node or zone has none",
    distribution: "PreferSameNode",
    endpoints: [2],
    reached: { 1: [2], 2: [2], 3: [2], 4: [2] },
  },
];

for (const mode of ["iptables", "nftables"]) {
  describe.skipIf(!isRoot)(`Traffic Distribution [${mode}]`, () => {
    const cluster = new Cluster(`td-${mode.slice(0, 4)}`);
    const app = (at: number) => `app-${at}`;
    const pod = (at: number, node: Node) =>
      podYaml(`${app(at)}-${node}`, { app: app(at), node: `node-${node}`, ports: ["8090"] });
    const addresses = new Map<string, string>();

    beforeAll(async () => {
      const clients = ([1, 2, 3, 4] as const).map((node) =>
        podYaml(`client-${node}`, { node: `node-${node}`, ports: [] }),
      );
      const objects = cases.flatMap(({ distribution, endpoints }, at) => [
        `
apiVersion: v1
kind: Service
metadata: { name: ${app(at)} }
spec:
  trafficDistribution: ${distribution}
  selector: { app: ${app(at)} }
  ports: [{ port: 80, targetPort: 8090 }]
---`,
        ...endpoints.map((node) => pod(at, node)),
      ]);
      const options = ["--nodes", "4", "--zones", zones.join(), "--proxy-mode", mode];
      await cluster.start([...clients, ...objects].join(""), ...options);
      for (const [at] of cases.entries())
        addresses.set(app(at), (await cluster.get("Service", app(at))).spec.clusterIP);
    }, 90_000);
    afterAll(() => cluster.remove(), 30_000);

    const reaches = async (at: number, node: Node, wanted: readonly string[]) => {
      const ask = () => cluster.answering(`default/client-${node}`, addresses.get(app(at))!, 80, 16);
      return await eventually(ask, (names) => Bun.deepEquals(names, [...wanted]));
    };

    test.each(cases.map((one, at) => [one.title, one, at] as const))("%s", async (_title, { reached }, at) => {
      for (const node of [1, 2, 3, 4] as const) {
        const wanted = reached[node].map((one) => `${app(at)}-${one}`);
        expect([node, await reaches(at, node, wanted)]).toEqual([node, wanted]);
      }
    });

    // Upstream's last: a pod that lacks an endpoint of its zone gets one, and loses it again.
    test("should follow endpoints that come to a zone and leave it", async () => {
      const at = 2;
      await cluster.apply(pod(at, 4));
      for (const node of [2, 4] as const) expect(await reaches(at, node, [`${app(at)}-4`])).toEqual([`${app(at)}-4`]);
      await cluster.delete("Pod", `${app(at)}-4`);
      const rest = [`${app(at)}-1`, `${app(at)}-3`];
      for (const node of [2, 4] as const) expect(await reaches(at, node, rest)).toEqual(rest);
    }, 30_000);

    test("should write hints as the distribution says", async () => {
      const hints = async (at: number) =>
        (await cluster.list("EndpointSlice", `kubernetes.io/service-name=${app(at)}`)).flatMap((slice) =>
          slice.endpoints.map((one: any) => [one.nodeName, one.hints]),
        );
      const zone = (node: string) => ({ forZones: [{ name: zones[(Number(node.at(-1)) - 1) % 2] }] });
      for (const [node, one] of await hints(1)) expect(one).toEqual(zone(node));
      for (const [node, one] of await hints(6)) expect(one).toEqual({ ...zone(node), forNodes: [{ name: node }] });
    });
  });
}
