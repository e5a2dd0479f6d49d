import { describe, expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import { Graph } from "../collections/graph.ts";
import { source } from "../collections/source.ts";
import { serviceBackends } from "./backends.ts";
import { slicePlans } from "./endpoint-slice-controller.ts";
import { serviceInputs } from "./inputs.ts";
import { serviceTable } from "./node-table.ts";

const object = (kind: string, name: string, more: object): KubeObject =>
  ({ apiVersion: "v1", kind, metadata: { name, namespace: "shop" }, ...more }) as KubeObject;
const pod = (n: number, ready: boolean, restarts = 0): KubeObject => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: `p${n}`, namespace: "shop", uid: `u${n}`, labels: { app: `a${n}` } },
  spec: { nodeName: "node-1", containers: [] },
  status: {
    phase: "Running",
    podIP: `10.244.${n >> 8}.${n & 255}`,
    conditions: [{ type: "Ready", status: ready ? "True" : "False" }],
    containerStatuses: [{ restartCount: restarts }],
  },
});
const slice = (n: number, ready: boolean): KubeObject => ({
  apiVersion: "discovery.k8s.io/v1",
  kind: "EndpointSlice",
  metadata: { name: `s${n}-x`, namespace: "shop", labels: { "kubernetes.io/service-name": `s${n}` } },
  addressType: "IPv4",
  ports: [{ name: "", protocol: "TCP", port: 8080 }],
  endpoints: [{ addresses: [`10.244.${n >> 8}.${n & 255}`], conditions: { ready }, nodeName: "node-1" }],
});
const node = (heartbeat: number): KubeObject => ({
  apiVersion: "v1",
  kind: "Node",
  metadata: { name: "node-1", labels: { "topology.kubernetes.io/zone": "z1" } },
  status: { heartbeat },
});

/** A cluster of so many Services with everything that is derived from them, and a count of computations. */
async function cluster(count: number) {
  const graph = new Graph();
  const services = source<KubeObject>("services", { graph });
  const endpointSlices = source<KubeObject>("endpointslices", { graph });
  const pods = source<KubeObject>("pods", { graph });
  const nodes = source<KubeObject>("nodes", { graph });
  nodes.set("node-1", node(0));
  services.batch(() => {
    for (let n = 0; n < count; n++) {
      const clusterIP = `10.96.${n >> 8}.${n & 255}`;
      const spec = {
        clusterIP,
        clusterIPs: [clusterIP],
        selector: { app: `a${n}` },
        ports: [{ port: 80, targetPort: 8080 }],
      };
      services.set(`shop/s${n}`, object("Service", `s${n}`, { spec }));
      pods.set(`shop/p${n}`, pod(n, true));
      endpointSlices.set(`shop/s${n}-x`, slice(n, true));
    }
  });
  const inputs = serviceInputs({ services, endpointSlices, pods, nodes });
  const table = serviceTable(inputs, "node-1");
  const { backends, endpoints } = serviceBackends(inputs);
  slicePlans(inputs);
  await graph.settled();
  const computations = () => graph.metrics().reduce((sum, one) => sum + one.computations, 0);
  const cost = (change: () => void) => {
    const before = computations();
    change();
    return computations() - before;
  };
  return { services, endpointSlices, pods, nodes, table, backends, endpoints, cost };
}

describe("the work of a change", () => {
  test("is that of one Service, at a hundred Services and at two thousand", async () => {
    const measure = async (count: number) => {
      const all = await cluster(count);
      expect(all.table.size).toBe(count);
      return {
        endpoint: all.cost(() => all.endpointSlices.set("shop/s7-x", slice(7, false))),
        pod: all.cost(() => all.pods.set("shop/p7", pod(7, false))),
        service: all.cost(() => all.services.delete("shop/s8")),
      };
    };
    const costs = [await measure(100), await measure(2_000)];
    expect(costs[0]).toEqual(costs[1]!);
    expect(costs[1]!.endpoint).toBeLessThanOrEqual(6);
    expect(costs[1]!.pod).toBeLessThanOrEqual(3);
  });

  test("of a heartbeat, and of a pod that restarts a container, ends where it is read", async () => {
    const all = await cluster(100);
    // Its place, and what topology hints need of it.
    expect(all.cost(() => all.nodes.set("node-1", node(1)))).toBe(2);
    expect(all.cost(() => all.pods.set("shop/p7", pod(7, true, 5)))).toBe(1);
  });

  test("changes the row, the endpoints and nothing else", async () => {
    const all = await cluster(10);
    const seen: string[] = [];
    all.table.subscribe((batch) => void seen.push(...batch.map((one) => one.key)));
    all.endpoints.subscribe((batch) => void seen.push(...batch.map((one) => one.key)));
    all.backends.subscribe((batch) => void seen.push(...batch.map((one) => one.key)));
    all.endpointSlices.set("shop/s7-x", slice(7, false));
    expect(seen.sort()).toEqual(["service/shop/s7/80", "shop/s7/TCP/4"]);
    expect(all.table.get("shop/s7/TCP/4")?.hasEndpoints).toBe(false);
  });
});
