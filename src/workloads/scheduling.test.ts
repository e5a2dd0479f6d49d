import { describe, expect, test } from "bun:test";
import type { Node, Pod, PodSpec } from "../api/kinds.ts";
import type { PlacedPod } from "./pod-affinity.ts";
import { type NodeLoad, place as placeAmong } from "./scheduling.ts";

const place = (one: Pod, nodes: readonly NodeLoad[], placed: readonly PlacedPod[] = [], prefilter?: string) =>
  placeAmong(
    one,
    nodes,
    { placed: () => placed, avoiding: placed.filter(({ avoids }) => avoids.length > 0), namespaceLabels: () => ({}) },
    prefilter,
  );

const pod = (spec: Partial<PodSpec> = {}): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name: "p", namespace: "default" },
  spec: { containers: [{ name: "c" }], ...spec },
});
const load = (name: string, more: Partial<Omit<NodeLoad, "node">> & { node?: Partial<Node> } = {}): NodeLoad => ({
  pods: 0,
  siblings: 0,
  requested: {},
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
      "0/1 nodes are available: 1 node(s) had untolerated taint {gpu: yes}. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
    expect(on(place(pod({ tolerations: [{ key: "gpu", operator: "Exists" }] }), [tainted("NoSchedule")]))).toBe("a");
    expect(on(place(pod({ tolerations: [{ key: "gpu", value: "no" }] }), [tainted("NoSchedule")]))).toContain("taint");
    expect(on(place(pod(), [tainted("PreferNoSchedule"), load("b", { pods: 9 })]))).toBe("b");
    expect(on(place(pod(), [tainted("PreferNoSchedule")]))).toBe("a");
  });

  test("does not share a host port, but has one of another address or protocol", () => {
    const wants = (port: object) =>
      pod({ containers: [{ name: "c", ports: [{ containerPort: 80, hostPort: 80, ...port }] }] });
    const taken = (hostIP: string) => load("a", { hostPorts: [{ protocol: "TCP", hostIP, port: 80 }] });
    expect(on(place(wants({}), [taken("192.0.2.1"), load("b", { pods: 5 })]))).toBe("b");
    expect(on(place(wants({ hostIP: "192.0.2.1" }), [taken("")]))).toContain("free ports for the requested pod ports");
    expect(on(place(wants({ hostIP: "127.0.0.1" }), [taken("192.0.2.1")]))).toBe("a");
    expect(on(place(wants({ protocol: "UDP" }), [taken("")]))).toBe("a");
  });

  test("goes where its requests fit in what is allocatable, its sidecars and init containers counted", () => {
    const small = load("a", {
      requested: { cpu: 1500, memory: 2 ** 30 },
      node: { status: { ...load("a").node.status, allocatable: { cpu: "2", memory: "2Gi", pods: "10" } } },
    });
    const asks = (cpu: string, memory: string): Partial<PodSpec> => ({
      containers: [{ name: "c", resources: { requests: { cpu, memory } } }],
    });
    expect(on(place(pod(asks("500m", "1Gi")), [small]))).toBe("a");
    expect(on(place(pod(asks("501m", "1025Mi")), [small]))).toBe(
      "0/1 nodes are available: 1 Insufficient cpu, 1 Insufficient memory. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming pod.",
    );
    const init = { name: "i", resources: { requests: { cpu: "500m" } } };
    expect(on(place(pod({ ...asks("400m", "0"), initContainers: [init] }), [small]))).toBe("a");
    const sidecar = { ...init, restartPolicy: "Always" as const };
    expect(on(place(pod({ ...asks("400m", "0"), initContainers: [sidecar] }), [small]))).toContain("Insufficient cpu");
    expect(on(place(pod(), [{ ...small, pods: 10 }]))).toContain("1 Too many pods");
  });

  const zoned = (name: string, zone: string) => load(name, { node: { metadata: { name, labels: { zone } } } });
  const zones = [zoned("a", "x"), zoned("b", "x"), zoned("c", "y")];
  const placed = (node: string, labels: Record<string, string>, avoids: PlacedPod["avoids"] = []): PlacedPod => ({
    namespace: "default",
    labels,
    node,
    leaving: false,
    avoids,
  });
  const term = (app: string) => ({ topologyKey: "zone", labelSelector: { matchLabels: { app } } });
  const labelled = (labels: Record<string, string>, spec: Partial<PodSpec>): Pod => {
    const one = pod(spec);
    return { ...one, metadata: { ...one.metadata, labels } };
  };

  test("is near the pods that it has to be near, and away from others, by the domain of their nodes", () => {
    const near = { affinity: { podAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term("db")] } } };
    const apart = { affinity: { podAntiAffinity: { requiredDuringSchedulingIgnoredDuringExecution: [term("db")] } } };
    expect(on(place(pod(near), zones, [placed("c", { app: "db" })]))).toBe("c");
    expect(on(place(pod(near), zones))).toContain("3 node(s) didn't match pod affinity rules");
    expect(on(place(pod(apart), zones, [placed("a", { app: "db" })]))).toBe("c");
    expect(on(place(pod(apart), zones.slice(0, 2), [placed("a", { app: "db" })]))).toContain(
      "2 node(s) didn't match pod anti-affinity rules",
    );
    // The first of a group that wants to be together.
    expect(on(place(labelled({ app: "db" }, near), zones))).toBe("a");
  });

  test("respects that others avoid it", () => {
    const lonely = placed("a", { app: "db" }, [term("web")]);
    expect(on(place(labelled({ app: "web" }, {}), zones, [lonely]))).toBe("c");
    expect(on(place(labelled({ app: "web" }, {}), zones.slice(0, 2), [lonely]))).toContain(
      "2 node(s) didn't satisfy existing pods anti-affinity rules",
    );
  });

  test("prefers what it only wishes", () => {
    const wish = { weight: 10, podAffinityTerm: term("db") };
    const spec: Partial<PodSpec> = {
      affinity: { podAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [wish] } },
    };
    expect(on(place(pod(spec), zones, [placed("c", { app: "db" })]))).toBe("c");
    const node = {
      weight: 1,
      preference: { matchExpressions: [{ key: "zone", operator: "In" as const, values: ["y"] }] },
    };
    const nodeWish: Partial<PodSpec> = {
      affinity: { nodeAffinity: { preferredDuringSchedulingIgnoredDuringExecution: [node] } },
    };
    expect(on(place(pod(nodeWish), zones))).toBe("c");
  });

  test("is spread over domains: no further apart than the skew where it must, else as well as may be", () => {
    const constraint = (whenUnsatisfiable: "DoNotSchedule" | "ScheduleAnyway") => ({
      topologySpreadConstraints: [{ ...term("web"), maxSkew: 1, whenUnsatisfiable }],
    });
    const there = [placed("a", { app: "web" })];
    expect(on(place(labelled({ app: "web" }, constraint("DoNotSchedule")), zones, there))).toBe("c");
    expect(on(place(labelled({ app: "web" }, constraint("ScheduleAnyway")), zones, there))).toBe("c");
    const full = { ...zones[2]!, node: { ...zones[2]!.node, spec: { unschedulable: true } } };
    const hard = place(labelled({ app: "web" }, constraint("DoNotSchedule")), [zones[0]!, full], there);
    expect(on(hard)).toContain("1 node(s) didn't match pod topology spread constraints, 1 node(s) were unschedulable");
    expect(on(place(labelled({ app: "web" }, constraint("ScheduleAnyway")), [zones[0]!, full], there))).toBe("a");
    expect(on(place(labelled({ app: "web" }, constraint("DoNotSchedule")), [load("d")]))).toContain(
      "(missing required label)",
    );
  });

  test("with a claim that is not bound finds no node", () => {
    expect(on(place(pod(), [load("a")], [], "pod has unbound immediate PersistentVolumeClaims"))).toBe(
      "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims. preemption: 0/1 nodes are available: 1 Preemption is not helpful for scheduling.",
    );
  });

  test("that finds no place learns of every reason", () => {
    const nodes = [
      load("a", { node: { status: { conditions: [{ type: "Ready", status: "False" }] } } }),
      load("b", { node: { spec: { unschedulable: true } } }),
      load("c"),
      load("d"),
    ];
    expect(on(place(pod({ nodeSelector: { x: "y" } }), nodes))).toBe(
      "0/4 nodes are available: 1 node(s) were not ready, 1 node(s) were unschedulable, 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/4 nodes are available: 4 Preemption is not helpful for scheduling.",
    );
    expect(on(place(pod(), []))).toBe("no nodes available to schedule pods");
  });
});
