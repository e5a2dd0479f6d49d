import { expect, test } from "bun:test";
import { claimedTwice } from "./service-claims.ts";

const service = (name: string, spec: object, namespace?: string) => ({
  object: { apiVersion: "v1", kind: "Service", metadata: { name, ...(namespace ? { namespace } : {}) }, spec },
});

test("two Services that want one address or node port are told of, by the second", () => {
  const a = service("a", { clusterIP: "10.96.0.5", ports: [{ port: 80, nodePort: 30_080 }] });
  const b = service("b", { clusterIPs: ["10.96.0.5"], ports: [{ port: 80, nodePort: 30_080, protocol: "TCP" }] });
  expect(claimedTwice([a, b], "shop").map(({ manifest, problem }) => [manifest, problem])).toEqual([
    [b, "Service shop/b: spec.clusterIP: 10.96.0.5 is wanted by Service shop/a, too (choose another, or none)"],
    [b, "Service shop/b: spec.ports: 30080/TCP is wanted by Service shop/a, too (choose another, or none)"],
  ]);
});

test("what does not collide is left alone: headless, other protocols, the same Service twice, other kinds", () => {
  const udp = service("u", { ports: [{ port: 1, nodePort: 30_080, protocol: "UDP" }] });
  const tcp = service("t", { clusterIP: "None", ports: [{ port: 1, nodePort: 30_080 }] });
  const none = service("n", { clusterIP: "None", ports: [{ port: 1 }, { port: 2, nodePort: 0 }] });
  const knative = { object: { ...udp.object, apiVersion: "serving.knative.dev/v1" } };
  expect(claimedTwice([udp, tcp, none, udp, knative], "shop")).toEqual([]);
});
