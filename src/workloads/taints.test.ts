import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Deployments, Events, type Node, Nodes, type Pod, Pods, type Taint, type Toleration } from "../api/kinds.ts";
import { taintsOf } from "./node-taints.ts";
import { mayStay } from "./taint-eviction.ts";
import { node, startWorld, type World, workload } from "./testing/world.ts";

const tolerating = (...tolerations: Toleration[]) => ({ spec: { containers: [], tolerations } }) as unknown as Pod;
const gpu: Taint = { key: "gpu", value: "yes", effect: "NoExecute" };

describe("a pod", () => {
  test("may stay as long as the shortest of its tolerations that are used, and not at all without one", () => {
    expect(mayStay(tolerating(), [gpu])).toBe(0);
    expect(mayStay(tolerating({ key: "gpu", operator: "Exists", tolerationSeconds: 60 }), [gpu])).toBe(60_000);
    expect(mayStay(tolerating({ operator: "Exists" }), [gpu])).toBe(Number.POSITIVE_INFINITY);
    expect(mayStay(tolerating(), [{ ...gpu, effect: "NoSchedule" }])).toBe(Number.POSITIVE_INFINITY);
  });
});

describe("a node", () => {
  const keys = (one: Node) => taintsOf(one, 0).map(({ key, effect }) => `${key}:${effect}`);
  const having = (conditions: object[], spec: object = {}) =>
    ({ ...node("n"), spec, status: { conditions } }) as unknown as Node;

  test("has the taints of its conditions and of being cordoned, beside those of others", () => {
    expect(keys(having([{ type: "Ready", status: "True" }], { taints: [gpu] }))).toEqual(["gpu:NoExecute"]);
    expect(keys(having([{ type: "Ready", status: "False" }]))).toEqual([
      "node.kubernetes.io/not-ready:NoSchedule",
      "node.kubernetes.io/not-ready:NoExecute",
    ]);
    expect(
      keys(
        having([
          { type: "Ready", status: "Unknown" },
          { type: "DiskPressure", status: "True" },
        ]),
      ),
    ).toEqual([
      "node.kubernetes.io/unreachable:NoSchedule",
      "node.kubernetes.io/unreachable:NoExecute",
      "node.kubernetes.io/disk-pressure:NoSchedule",
    ]);
    expect(keys(having([], { unschedulable: true }))).toEqual(["node.kubernetes.io/unschedulable:NoSchedule"]);
    const stale = [{ key: "node.kubernetes.io/not-ready", effect: "NoExecute" }];
    expect(keys(having([{ type: "Ready", status: "True" }], { taints: stale }))).toEqual([]);
  });
});

describe("nodes in a world", () => {
  let world: World;
  beforeEach(async () => {
    world = await startWorld();
    await world.create(Deployments, workload("web", { replicas: 2 }));
    await world.until("both run", () => on().join() === "node-1,node-2");
  });
  afterEach(() => world.dispose());
  const on = () =>
    world
      .all(Pods)
      .filter(({ status }) => status?.phase === "Running")
      .map(({ spec }) => spec.nodeName)
      .sort();

  test("a NoExecute taint sends pods away at once", async () => {
    await world.change(Nodes, "node-1", (one) => ({ ...one, spec: { ...one.spec, taints: [gpu] } }));
    await world.until("all on the other", () => on().join() === "node-2,node-2");
    expect(world.all(Events).some((event) => event["reason"] === "TaintManagerEviction")).toBe(true);
  });

  test("pods of a node that is not ready go after five minutes, and stay when it comes back before", async () => {
    const ready = async (status: string) => {
      const now = world.get(Nodes, "node-1")!;
      await world.store.update(
        Nodes,
        { ...now, status: { conditions: [{ type: "Ready", status }] } },
        { subresource: "status" },
      );
    };
    await ready("False");
    await world.quiet();
    world.clock.advance(200_000);
    await world.quiet();
    expect(on()).toEqual(["node-1", "node-2"]);
    await ready("True");
    await world.quiet();
    expect(world.get(Nodes, "node-1")!.spec?.taints).toBeUndefined();
    world.clock.advance(200_000);
    await world.quiet();
    expect(on()).toEqual(["node-1", "node-2"]);
    await ready("Unknown");
    await world.quiet();
    world.clock.advance(301_000);
    await world.until("gone", () => on().join() === "node-2,node-2");
  });

  test("pods of a node that is removed fail by it", async () => {
    const states: string[] = [];
    const watching = world.store.watch(Pods, world.store.revision, (event) => {
      if (event.type === "BOOKMARK") return;
      const { object } = event;
      const target = object.status?.conditions?.find(({ type }: { type: string }) => type === "DisruptionTarget");
      if (target) states.push(`${object.status.phase} ${target.reason}`);
    });
    await world.remove(Nodes, "node-1");
    await world.until("replaced", () => {
      world.clock.advance(100);
      return on().join() === "node-2,node-2";
    });
    watching.dispose();
    expect(states).toContain("Failed DeletionByPodGC");
  });
});
