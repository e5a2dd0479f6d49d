import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Deployments, Nodes, Pods, ReplicaSets } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { node, startWorld, template, type World, workload } from "./testing/world.ts";

let world: World;
beforeEach(async () => {
  world = await startWorld();
});
afterEach(() => world.dispose());

const condition = (type: string) =>
  world.get(Deployments, "web")?.status?.conditions?.find((one: { type: string }) => one.type === type);
const complete = (replicas: number) => {
  const { status, metadata } = world.get(Deployments, "web")!;
  return (
    status?.observedGeneration === metadata.generation &&
    status?.updatedReplicas === replicas &&
    status?.availableReplicas === replicas &&
    status?.replicas === replicas
  );
};
const sizes = () =>
  world
    .all(ReplicaSets)
    .map((set) => set.spec.replicas)
    .sort();
const images = () => world.all(Pods).map((pod) => pod.spec.containers[0].image);

describe("a Deployment", () => {
  test("gets its pods, named, placed, ready and reported", async () => {
    await world.create(Deployments, workload("web", { replicas: 3 }));
    await world.until("3 ready pods", () => complete(3));
    const pods = world.all(Pods);
    expect(pods.length).toBe(3);
    const [set] = world.all(ReplicaSets);
    for (const pod of pods) {
      expect(pod.metadata.name).toMatch(/^web-[a-z0-9]+-[a-z0-9]{5}$/);
      expect(pod.metadata.labels?.["pod-template-hash"]).toBe(set!.metadata.labels!["pod-template-hash"]!);
      expect(pod.metadata.ownerReferences?.[0]).toMatchObject({
        kind: "ReplicaSet",
        name: set!.metadata.name,
        controller: true,
      });
    }
    expect(new Set(pods.map((pod) => pod.spec.nodeName)).size).toBe(2);
    await world.quiet();
    expect(condition("Available")).toMatchObject({ status: "True", reason: "MinimumReplicasAvailable" });
    expect(condition("Progressing")).toMatchObject({
      status: "True",
      reason: "NewReplicaSetAvailable",
      message: `ReplicaSet "${set!.metadata.name}" has successfully progressed.`,
    });
    expect(world.get(Deployments, "web")!.metadata.annotations).toMatchObject({
      "deployment.kubernetes.io/revision": "1",
    });
  });

  test("is left alone once it is as wanted", async () => {
    await world.create(Deployments, workload("web", { replicas: 3 }));
    await world.until("3 ready pods", () => complete(3));
    await world.quiet();
    const before = world.writes();
    await world.change(Deployments, "web", (one) => ({ ...one, metadata: { ...one.metadata, labels: { note: "x" } } }));
    await world.quiet();
    expect(world.writes()).toBe(before + 1);
  });

  test("replaces a pod that was deleted", async () => {
    await world.create(Deployments, workload("web", { replicas: 2 }));
    await world.until("2 ready pods", () => complete(2));
    const { name } = world.all(Pods)[0]!.metadata;
    await world.remove(Pods, name);
    await world.until("it is gone", () => !world.get(Pods, name));
    await world.until("2 ready pods again", () => world.all(Pods).length === 2 && complete(2));
  });

  test("scales up and down, and removes pods that do not serve first", async () => {
    await world.create(Deployments, workload("web", { replicas: 1 }));
    await world.until("1 ready pod", () => complete(1));
    const first = world.all(Pods)[0]!.metadata.name;
    world.becomesReady = (pod) => pod.metadata.name === first;
    await world.change(Deployments, "web", (one) => ({ ...one, spec: { ...one.spec, replicas: 4 } }));
    await world.until("4 pods", () => world.all(Pods).length === 4);
    await world.quiet();
    await world.change(Deployments, "web", (one) => ({ ...one, spec: { ...one.spec, replicas: 1 } }));
    await world.until("1 pod", () => world.all(Pods).length === 1);
    expect(world.all(Pods)[0]!.metadata.name).toBe(first);
  });

  test("rolls to a new template within its bounds", async () => {
    await world.create(Deployments, workload("web", { replicas: 4, strategy: bounds(1, 1) }));
    await world.until("4 ready pods", () => complete(4));
    let most = 0;
    let least = 9;
    const watching = world.store.watch(Pods, world.store.revision, () => {
      const active = world.all(Pods).filter((pod) => pod.metadata.deletionTimestamp === undefined);
      most = Math.max(most, active.length);
      least = Math.min(least, active.filter(isReady).length);
    });
    await world.change(Deployments, "web", withImage("example.com/app:2"));
    await world.until("4 new ready pods", () => complete(4) && images().every((image) => image.endsWith(":2")));
    watching.dispose();
    expect(most).toBeLessThanOrEqual(5);
    expect(least).toBeGreaterThanOrEqual(3);
    await world.quiet();
    expect(sizes()).toEqual([0, 4]);
    expect(world.get(Deployments, "web")!.metadata.annotations!["deployment.kubernetes.io/revision"]).toBe("2");
  });

  test("goes back to an old ReplicaSet when it gets its old template, as a new revision", async () => {
    await world.create(Deployments, workload("web", { replicas: 2 }));
    await world.until("revision 1", () => complete(2));
    await world.change(Deployments, "web", withImage("example.com/app:2"));
    await world.until("revision 2", () => complete(2) && images().every((image) => image.endsWith(":2")));
    await world.change(Deployments, "web", withImage("example.com/app:1"));
    await world.until("revision 1 again", () => complete(2) && images().every((image) => image.endsWith(":1")));
    await world.quiet();
    expect(world.all(ReplicaSets).length).toBe(2);
    const running = world.all(ReplicaSets).find((set) => set.spec.replicas === 2)!;
    expect(running.metadata.annotations).toMatchObject({
      "deployment.kubernetes.io/revision": "3",
      "deployment.kubernetes.io/revision-history": "1",
    });
  });

  test("keeps as many old ReplicaSets as its history may have", async () => {
    await world.create(Deployments, workload("web", { replicas: 1, revisionHistoryLimit: 1 }));
    for (const version of ["2", "3", "4"]) {
      await world.until("the revision before", () => complete(1));
      await world.change(Deployments, "web", withImage(`example.com/app:${version}`));
      await world.until("the next", () => complete(1) && images().every((image) => image.endsWith(version)));
    }
    await world.until("old ones are forgotten", () => world.all(ReplicaSets).length === 2);
  });

  test("with Recreate ends all old pods before it makes new ones", async () => {
    await world.create(Deployments, workload("web", { replicas: 2, strategy: { type: "Recreate" } }));
    await world.until("2 ready pods", () => complete(2));
    let mixed = false;
    const watching = world.store.watch(Pods, world.store.revision, () => {
      if (new Set(images()).size > 1) mixed = true;
    });
    await world.change(Deployments, "web", withImage("example.com/app:2"));
    await world.until("2 new pods", () => complete(2) && images().every((image) => image.endsWith(":2")));
    watching.dispose();
    expect(mixed).toBe(false);
  });

  test("does not roll while it is paused, but scales", async () => {
    await world.create(Deployments, workload("web", { replicas: 1 }));
    await world.until("1 ready pod", () => complete(1));
    await world.change(Deployments, "web", (one) => ({ ...one, spec: { ...one.spec, paused: true } }));
    await world.change(Deployments, "web", withImage("example.com/app:2"));
    await world.quiet();
    expect(world.all(ReplicaSets).length).toBe(1);
    expect(condition("Progressing")).toMatchObject({ status: "Unknown", reason: "DeploymentPaused" });
    await world.change(Deployments, "web", (one) => ({ ...one, spec: { ...one.spec, replicas: 3 } }));
    await world.until("3 pods", () => world.all(Pods).length === 3);
    await world.change(Deployments, "web", (one) => ({ ...one, spec: { ...one.spec, paused: false } }));
    await world.until("rolled", () => complete(3) && images().every((image) => image.endsWith(":2")));
  });

  test("says so when its rollout does not progress in time", async () => {
    world.becomesReady = () => false;
    await world.create(Deployments, workload("web", { replicas: 1, progressDeadlineSeconds: 10 }));
    await world.until("pods", () => world.all(Pods).length === 1);
    await world.quiet();
    expect(condition("Available")).toMatchObject({ status: "False", reason: "MinimumReplicasUnavailable" });
    world.clock.advance(12_000);
    await world.until("the deadline", () => condition("Progressing")?.reason === "ProgressDeadlineExceeded");
    expect(condition("Progressing").message).toContain("has timed out progressing.");
  });

  test("counts pods as available only after minReadySeconds", async () => {
    await world.create(Deployments, workload("web", { replicas: 1, minReadySeconds: 30 }));
    await world.until("ready", () => world.get(Deployments, "web")!.status?.readyReplicas === 1);
    expect(world.get(Deployments, "web")!.status?.availableReplicas).toBeUndefined();
    world.clock.advance(31_000);
    await world.until("available", () => complete(1));
  });

  test("adopts pods that fit and releases those that no longer do", async () => {
    await world.create(Deployments, workload("web", { replicas: 1 }));
    await world.until("1 ready pod", () => complete(1));
    const { name, labels } = world.all(Pods)[0]!.metadata;
    await world.change(Pods, name, (pod) => ({ ...pod, metadata: { ...pod.metadata, labels: { app: "debug" } } }));
    await world.until("another pod", () => world.all(Pods).length === 2);
    await world.until("released", () => !world.get(Pods, name)!.metadata.ownerReferences?.length);
    await world.change(Pods, name, (pod) => ({ ...pod, metadata: { ...pod.metadata, labels } }));
    await world.until("one of two goes", () => world.all(Pods).length === 1);
  });

  test("takes its ReplicaSets and pods with it", async () => {
    await world.create(Deployments, workload("web", { replicas: 2 }));
    await world.until("2 ready pods", () => complete(2));
    await world.remove(Deployments, "web");
    await world.until("nothing is left", () => world.all(ReplicaSets).length + world.all(Pods).length === 0);
  });

  test("goes on after a restart from what is stored", async () => {
    await world.create(Deployments, workload("web", { replicas: 2 }));
    await world.until("2 ready pods", () => complete(2));
    await world.quiet();
    const before = world.writes();
    await world.restart();
    await world.quiet();
    expect(world.writes()).toBe(before);
  });

  test("finishes a rollout that a crash interrupted, and sees what went while it was down", async () => {
    await world.create(Deployments, workload("web", { replicas: 4, strategy: bounds(1, 1) }));
    await world.until("4 ready pods", () => complete(4));
    await world.change(Deployments, "web", withImage("example.com/app:2"));
    await world.until("half-way", () => images().some((image) => image.endsWith(":2")));
    world.stop();
    const [set] = world.all(ReplicaSets).filter((one) => one.spec.template.spec.containers[0].image.endsWith(":1"));
    await world.store.delete({ resource: ReplicaSets, namespace: "default", name: set!.metadata.name });
    await world.restart();
    await world.until("4 new pods", () => complete(4) && images().length === 4);
    expect(images().every((image) => image.endsWith(":2"))).toBe(true);
  });
});

describe("the scheduler", () => {
  test("says why a pod finds no node, and places it when one fits", async () => {
    await world.create(
      Deployments,
      workload("web", { template: template("web", "x", { nodeSelector: { disk: "ssd" } }) }),
    );
    await world.until("unschedulable", () => world.all(Pods)[0]?.status?.conditions?.[0]?.reason === "Unschedulable");
    expect(world.all(Pods)[0]!.status.conditions[0].message).toBe(
      "0/2 nodes are available: 2 node(s) didn't match Pod's node affinity/selector. preemption: 0/2 nodes are available: 2 Preemption is not helpful for scheduling.",
    );
    await world.create(Nodes, node("node-9", { metadata: { name: "node-9", labels: { disk: "ssd" } } }));
    await world.until("placed", () => world.all(Pods)[0]!.spec.nodeName === "node-9");
  });
});

const bounds = (maxSurge: number, maxUnavailable: number) => ({
  type: "RollingUpdate",
  rollingUpdate: { maxSurge, maxUnavailable },
});
const withImage = (image: string) => (one: KubeObject) => ({
  ...one,
  spec: {
    ...one.spec,
    template: { ...one.spec.template, spec: { ...one.spec.template.spec, containers: [{ name: "app", image }] } },
  },
});
const isReady = (pod: KubeObject) =>
  pod.status?.conditions?.some(
    (one: { type: string; status: string }) => one.type === "Ready" && one.status === "True",
  );
