import { describe, expect, test } from "bun:test";
import type { Node, Pod, PodSpec } from "../api/kinds.ts";
import { type NodeLoad, place } from "./scheduling.ts";

const pod = (spec: Partial<PodSpec> = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "p", namespace: "default" },
  spec: { containers: [{ name: "c" }], ...spec },
});
const load = (name: string, more: Partial<Omit<NodeLoad, "node">> & { node?: Partial<Node> } = {}): NodeLoad => ({
  pods: 0,
  siblings: 0,
  hostPorts: [],
  ...more,
  node: {
    apiVersion: "v1",
    kind: "Node",
    status: { conditions: [{ type: "Ready", status: "True" }] },
    ...more.node,
    metadata: { name, labels: { "kubernetes.io/hostname": name }, ...more.node?.metadata },
  },
});
const on = (placement: ReturnType<typeof place>) => ("node" in placement ? placement.node : placement.unschedulable);

describe("a pod", () => {
  test("goes where fewest of its kind are, then where fewest pods are, then by name", () => {
    expect(on(place(pod(), [load("a", { siblings: 1 }), load("b", { pods: 9 })]))).toBe("b");
    expect(on(place(pod(), [load("a", { pods: 3 }), load("b", { pods: 2 })]))).toBe("b");
    expect(on(place(pod(), [load("b"), load("a")]))).toBe("a");
  });

  test("goes only where its node selector and its required affinity fit", () => {
    const ssd = load("b", { node: { metadata: { name: "b", labels: { disk: "ssd", cores: "8" } } } });
    expect(on(place(pod({ nodeSelector: { disk: "ssd" } }), [load("a"), ssd]))).toBe("b");
    const affinity = (operator: string, ...values: string[]): Partial<PodSpec> => ({
      affinity: {
        nodeAffinity: {
          requiredDuringSchedulingIgnoredDuringExecution: {
            nodeSelectorTerms: [{ matchExpressions: [{ key: "cores", operator: operator as "Gt", values }] }],
          },
        },
      },
    });
    expect(on(place(pod(affinity("Gt", "4")), [load("a"), ssd]))).toBe("b");
    expect(on(place(pod(affinity("DoesNotExist")), [load("a"), ssd]))).toBe("a");
  });

  test("stays away from taints that it does not tolerate, and avoids those that it need not", () => {
    const tainted = (effect: "NoSchedule" | "PreferNoSchedule") =>
      load("a", { node: { spec: { taints: [{ key: "gpu", value: "yes", effect }] } } });
    expect(on(place(pod(), [tainted("NoSchedule")]))).toBe(
      "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}.",
    );
    expect(on(place(pod({ tolerations: [{ key: "gpu", operator: "Exists" }] }), [tainted("NoSchedule")]))).toBe("a");
    expect(on(place(pod({ tolerations: [{ key: "gpu", value: "no" }] }), [tainted("NoSchedule")]))).toContain("taint");
    expect(on(place(pod(), [tainted("PreferNoSchedule"), load("b", { pods: 9 })]))).toBe("b");
    expect(on(place(pod(), [tainted("PreferNoSchedule")]))).toBe("a");
  });

  test("does not share a host port", () => {
    const wants = pod({ containers: [{ name: "c", ports: [{ containerPort: 80, hostPort: 80 }] }] });
    expect(on(place(wants, [load("a", { hostPorts: ["TCP/80"] }), load("b", { pods: 5 })]))).toBe("b");
  });

  test("that finds no place learns of every reason", () => {
    const nodes = [
      load("a", { node: { status: { conditions: [{ type: "Ready", status: "False" }] } } }),
      load("b", { node: { spec: { unschedulable: true } } }),
      load("c"),
      load("d"),
    ];
    expect(on(place(pod({ nodeSelector: { x: "y" } }), nodes))).toBe(
      "0/4 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector.",
    );
    expect(on(place(pod(), []))).toBe("no nodes available to schedule pods");
  });
});
