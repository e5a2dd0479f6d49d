import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { ControllerRevisions, DaemonSets, Jobs, Nodes, Pods, StatefulSets } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { formatIndexes, parseIndexes } from "./job.ts";
import { node, startWorld, template, type World, workload } from "./testing/world.ts";

let world: World;
beforeEach(async () => {
  world = await startWorld();
});
afterEach(() => world.dispose());

const names = () => world.all(Pods).map((pod) => pod.metadata.name);
const withImage = (image: string) => (one: KubeObject) => ({
  ...one,
  spec: { ...one.spec, template: template(one.metadata.name, image) },
});

describe("a StatefulSet", () => {
  const statefulSet = (spec: object = {}) =>
    workload("kafka", { serviceName: "kafka-headless", replicas: 3, ...spec }, "StatefulSet");
  const created = async () => {
    const order: string[] = [];
    const watching = world.store.watch(Pods, world.store.revision, (event) => {
      if (event.type === "ADDED") order.push(event.object.metadata.name);
    });
    await world.create(StatefulSets, statefulSet());
    await world.until("3 ready", () => world.get(StatefulSets, "kafka")!.status?.readyReplicas === 3);
    watching.dispose();
    return order;
  };

  test("makes its pods one after the other, with stable names and host names", async () => {
    expect(await created()).toEqual(["kafka-0", "kafka-1", "kafka-2"]);
    expect(world.get(Pods, "kafka-1")!.spec).toMatchObject({ hostname: "kafka-1", subdomain: "kafka-headless" });
    expect(world.get(Pods, "kafka-1")!.metadata.labels).toMatchObject({
      "statefulset.kubernetes.io/pod-name": "kafka-1",
      "apps.kubernetes.io/pod-index": "1",
    });
  });

  test("waits with the next until one is ready", async () => {
    world.becomesReady = (pod) => pod.metadata.name !== "kafka-0";
    await world.create(StatefulSets, statefulSet());
    await world.until("the first", () => names().length === 1);
    await world.quiet();
    expect(names()).toEqual(["kafka-0"]);
  });

  test("makes all at once when it is Parallel", async () => {
    world.becomesReady = () => false;
    await world.create(StatefulSets, statefulSet({ podManagementPolicy: "Parallel" }));
    await world.until("all", () => names().length === 3);
  });

  test("starts its numbers where it is told", async () => {
    await world.create(StatefulSets, statefulSet({ ordinals: { start: 5 }, replicas: 2 }));
    await world.until("two", () => names().length === 2);
    expect(names()).toEqual(["kafka-5", "kafka-6"]);
    await world.change(StatefulSets, "kafka", (one) => ({ ...one, spec: { ...one.spec, ordinals: { start: 6 } } }));
    await world.until("moved", () => names().join() === "kafka-6,kafka-7");
  });

  test("replaces as many at once as may be unavailable", async () => {
    const strategy = { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 2 } };
    await world.create(
      StatefulSets,
      statefulSet({ updateStrategy: strategy, podManagementPolicy: "Parallel", replicas: 4 }),
    );
    await world.until("4 ready", () => world.get(StatefulSets, "kafka")!.status?.readyReplicas === 4);
    world.becomesReady = (pod) => pod.spec?.containers[0]?.image?.endsWith(":1") ?? false;
    await world.change(StatefulSets, "kafka", withImage("example.com/app:2"));
    await world.quiet();
    const images = () =>
      world.all(Pods).map((pod) => `${pod.metadata.name} ${pod.spec.containers[0].image.split(":")[1]}`);
    expect(images().sort()).toEqual(["kafka-0 1", "kafka-1 1", "kafka-2 2", "kafka-3 2"]);
    world.becomesReady = () => true;
    for (const name of ["kafka-2", "kafka-3"])
      await world.change(Pods, name, (pod) => ({
        ...pod,
        metadata: { ...pod.metadata, labels: { ...pod.metadata.labels, poke: "1" } },
      }));
    await world.until("all new", () => images().every((one) => one.endsWith(" 2")));
  });

  test("is scaled down from the highest", async () => {
    await created();
    await world.change(StatefulSets, "kafka", (one) => ({ ...one, spec: { ...one.spec, replicas: 1 } }));
    await world.until("one", () => names().join() === "kafka-0");
  });

  test("rolls from the highest down, not below its partition", async () => {
    await created();
    const strategy = { type: "RollingUpdate", rollingUpdate: { partition: 1 } };
    await world.change(StatefulSets, "kafka", (one) => ({ ...one, spec: { ...one.spec, updateStrategy: strategy } }));
    await world.change(StatefulSets, "kafka", withImage("example.com/app:2"));
    const images = () => world.all(Pods).map((pod) => pod.spec.containers[0].image.split(":")[1]);
    await world.until(
      "two of three",
      () => images().join() === "1,2,2" && world.get(StatefulSets, "kafka")!.status.readyReplicas === 3,
    );
    await world.quiet();
    expect(images()).toEqual(["1", "2", "2"]);
    expect(world.all(ControllerRevisions).length).toBe(2);
    // What is below the partition comes back as it was.
    await world.remove(Pods, "kafka-0");
    await world.until(
      "back",
      () => world.get(StatefulSets, "kafka")!.status.readyReplicas === 3 && names().length === 3,
    );
    expect(images()).toEqual(["1", "2", "2"]);
  });
});

describe("a DaemonSet", () => {
  test("has one pod on each node, also on those that come later, and none where it does not want to be", async () => {
    await world.create(DaemonSets, workload("agent", {}, "DaemonSet"));
    const nodes = () =>
      world
        .all(Pods)
        .map((pod) => pod.spec.nodeName)
        .sort()
        .join();
    await world.until("both nodes", () => nodes() === "node-1,node-2");
    await world.create(Nodes, node("node-3"));
    await world.until("three nodes", () => nodes() === "node-1,node-2,node-3");
    const tainted = node("node-4", { spec: { taints: [{ key: "gpu", effect: "NoSchedule" }] } });
    await world.create(Nodes, tainted);
    await world.quiet();
    expect(world.get(DaemonSets, "agent")!.status).toMatchObject({
      desiredNumberScheduled: 3,
      currentNumberScheduled: 3,
      numberReady: 3,
      updatedNumberScheduled: 3,
    });
  });

  test("replaces its pods when the template changes", async () => {
    await world.create(DaemonSets, workload("agent", {}, "DaemonSet"));
    await world.until("ready", () => world.get(DaemonSets, "agent")!.status?.numberReady === 2);
    await world.change(DaemonSets, "agent", withImage("example.com/app:2"));
    await world.until("all new", () => {
      const pods = world.all(Pods);
      return pods.length === 2 && pods.every((pod) => pod.spec.containers[0].image.endsWith(":2"));
    });
  });
});

describe("a Job", () => {
  const finish = async (name: string, phase: "Succeeded" | "Failed") => {
    const pod = world.get(Pods, name)!;
    await world.store.update(
      Pods,
      { ...pod, status: { ...pod.status, phase, conditions: [] } },
      { subresource: "status" },
    );
  };
  const job = (spec: object = {}) =>
    workload("work", { template: template("work", "x", { restartPolicy: "Never" }), ...spec }, "Job");
  const running = () => world.all(Pods).filter((pod) => pod.status?.phase === "Running");
  const end = () => world.get(Jobs, "work")!.status?.conditions?.at(-1);

  test("runs as many pods at once as it may until enough have succeeded", async () => {
    await world.create(Jobs, job({ completions: 3, parallelism: 2 }));
    for (let done = 0; done < 3; done++) {
      const wanted = Math.min(2, 3 - done);
      await world.until("pods run", () => running().length === wanted);
      await finish(running()[0]!.metadata.name, "Succeeded");
    }
    await world.until("complete", () => end()?.type === "Complete");
    expect(world.get(Jobs, "work")!.status).toMatchObject({ succeeded: 3 });
    expect(world.get(Jobs, "work")!.status.active).toBeUndefined();
    expect(end()).toMatchObject({ status: "True", reason: "CompletionsReached" });
  });

  test("gives up after as many failures as it may have", async () => {
    await world.create(Jobs, job({ backoffLimit: 1 }));
    for (let failed = 0; failed < 2; failed++) {
      await world.until("a pod runs", () => running().length === 1);
      await finish(running()[0]!.metadata.name, "Failed");
    }
    await world.until("failed", () => end()?.type === "Failed");
    expect(end()).toMatchObject({
      reason: "BackoffLimitExceeded",
      message: "Job has reached the specified backoff limit",
    });
  });

  test("numbers its pods when it is Indexed", async () => {
    await world.create(Jobs, job({ completions: 2, parallelism: 2, completionMode: "Indexed" }));
    await world.until("both run", () => running().length === 2);
    const env = running()
      .map((pod) => pod.spec.containers[0].env[0].value)
      .sort();
    expect(env).toEqual(["0", "1"]);
  });

  test("writes indexes as ranges", () => {
    expect(formatIndexes(new Set([3, 0, 1, 2, 7, 9, 10]))).toBe("0-3,7,9,10");
    expect(parseIndexes("0-3,7,9,10")).toEqual([0, 1, 2, 3, 7, 9, 10]);
  });
});
