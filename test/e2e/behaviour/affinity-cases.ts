// kubernetes/kubernetes test/e2e/network/service.go: session affinity, for ClusterIP and NodePort. The titles are upstream's.

import { expect } from "bun:test";
import { eventually } from "../stack.ts";
import { type ServiceCluster, web } from "./service-cluster.ts";

const pods = ["affinity-1", "affinity-2", "affinity-3"];

/** The pods that these cases share; the first case makes them. */
async function ensurePods(cluster: ServiceCluster): Promise<void> {
  await cluster.pods(Object.fromEntries(pods.map((name, n) => [name, { app: "affinity", node: `node-${n + 1}` }])));
}

export function affinityCases(cluster: ServiceCluster): void {
  for (const type of ["ClusterIP", "NodePort"]) {
    const named = `service with type ${type === "ClusterIP" ? "clusterIP" : type}`;
    const make = async (name: string, more: Record<string, unknown>): Promise<[string, number]> => {
      await ensurePods(cluster);
      const { spec } = await cluster.service(`${name}-${type.toLowerCase()}`, web("affinity", { type, ...more }));
      // Affinity holds on one node, as its rules remember it.
      return type === "NodePort" ? [cluster.node(1), spec.ports[0].nodePort] : [spec.clusterIP, 80];
    };
    const names = (from: string, at: [string, number]) => cluster.answering(from, ...at, 15);

    cluster.case(`should have session affinity work for ${named}`, async () => {
      const at = await make("affinity", { sessionAffinity: "ClientIP" });
      for (const client of ["default/client-1", "default/client-2", "node/node-1"]) {
        const answer = await eventually(
          () => names(client, at),
          (list) => list.length === 1 && pods.includes(list[0]!),
        );
        expect([client, answer]).toEqual([client, [expect.stringMatching(/^affinity-[123]$/)]]);
      }
    });

    cluster.case(`should have session affinity timeout work for ${named}`, async () => {
      const sessionAffinityConfig = { clientIP: { timeoutSeconds: 1 } };
      const at = await make("affinity-timeout", { sessionAffinity: "ClientIP", sessionAffinityConfig });
      await cluster.reachable("default/client-1", ...at);
      const seen = new Set<string>();
      for (let round = 0; round < 8 && seen.size < 2; round++) {
        // Within the timeout nothing changes, though every connection begins it anew.
        const now = await names("default/client-1", at);
        expect(now).toHaveLength(1);
        seen.add(now[0]!);
        await Bun.sleep(1_400);
      }
      expect(seen.size).toBeGreaterThan(1);
    });

    cluster.case(`should be able to switch session affinity for ${named}`, async () => {
      const at = await make("affinity-switch", { sessionAffinity: "None" });
      const service = `affinity-switch-${type.toLowerCase()}`;
      await cluster.reaches("default/client-1", ...at, pods, 20);
      await cluster.patch("Service", service, { spec: { sessionAffinity: "ClientIP" } });
      const one = await eventually(
        () => names("default/client-1", at),
        (list) => list.length === 1,
      );
      expect(one).toHaveLength(1);
      await cluster.patch("Service", service, { spec: { sessionAffinity: "None", sessionAffinityConfig: null } });
      await cluster.reaches("default/client-1", ...at, pods, 20);
    });
  }
}
