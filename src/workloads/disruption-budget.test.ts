import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Deployments, Events, type Pod, type PodDisruptionBudget, PodDisruptionBudgets, Pods } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { budgetStatus } from "./disruption-budget.ts";
import { startWorld, type World, workload } from "./testing/world.ts";

const now = Date.UTC(2026, 0, 1);
const budget = (spec: object, status: object = {}): PodDisruptionBudget =>
  ({
    apiVersion: "policy/v1",
    kind: "PodDisruptionBudget",
    metadata: { name: "web", namespace: "default", generation: 1 },
    spec: { selector: { matchLabels: { app: "web" } }, ...spec },
    status,
  }) as PodDisruptionBudget;
const pod = (name: string, ready = true): Pod => ({
  apiVersion: "v1",
  kind: "Pod",
  metadata: { name, namespace: "default", labels: { app: "web" } },
  status: { phase: "Running", conditions: [{ type: "Ready", status: ready ? "True" : "False" }] },
});
const pods = [pod("a"), pod("b"), pod("c", false)];
const numbers = (spec: object, scale = 3, status: object = {}) => {
  const { expectedPods, desiredHealthy, currentHealthy, disruptionsAllowed } = budgetStatus(
    budget(spec, status),
    pods,
    () => scale,
    now,
  ).status;
  return [expectedPods, desiredHealthy, currentHealthy, disruptionsAllowed];
};

describe("a budget", () => {
  test("counts from its minimum: a number is of the pods there are, a percentage of those wanted, rounded up", () => {
    expect(numbers({ minAvailable: 1 })).toEqual([3, 1, 2, 1]);
    expect(numbers({ minAvailable: 5 })).toEqual([3, 5, 2, 0]);
    expect(numbers({ minAvailable: "50%" }, 3)).toEqual([3, 2, 2, 0]);
  });

  test("counts from its maximum of those wanted", () => {
    expect(numbers({ maxUnavailable: 2 }, 3)).toEqual([3, 1, 2, 1]);
    expect(numbers({ maxUnavailable: "34%" }, 3)).toEqual([3, 1, 2, 1]);
    expect(numbers({ maxUnavailable: 0 }, 3)).toEqual([3, 3, 2, 0]);
    expect(numbers({ maxUnavailable: 1 }, 0)).toEqual([0, 0, 2, 0]);
  });

  test("does not count a pod whose eviction was granted, for two minutes", () => {
    const granted = (secondsAgo: number) => ({ disruptedPods: { a: new Date(now - secondsAgo * 1000).toISOString() } });
    expect(numbers({ minAvailable: 1 }, 3, granted(10))).toEqual([3, 1, 1, 0]);
    expect(budgetStatus(budget({ minAvailable: 1 }, granted(10)), pods, () => 3, now).again).toBe(110_000);
    expect(numbers({ minAvailable: 1 }, 3, granted(121))).toEqual([3, 1, 2, 1]);
  });

  test("says so when it cannot know", () => {
    const { status } = budgetStatus(
      budget({ maxUnavailable: 1 }),
      pods,
      () => {
        throw new Error('found no controllers for pod "a"');
      },
      now,
    );
    expect(status).toMatchObject({
      disruptionsAllowed: 0,
      conditions: [
        {
          type: "DisruptionAllowed",
          status: "False",
          reason: "SyncFailed",
          message: 'found no controllers for pod "a"',
        },
      ],
    });
  });
});

describe("budgets in a world", () => {
  let world: World;
  beforeEach(async () => {
    world = await startWorld();
  });
  afterEach(() => world.dispose());
  const status = () => world.get(PodDisruptionBudgets, "web")!.status;
  const create = (spec: object) => {
    const { metadata, ...rest } = budget(spec);
    return world.create(PodDisruptionBudgets, {
      ...rest,
      metadata: { name: metadata.name, namespace: "default" },
      status: {},
    } as KubeObject);
  };
  const evict = (name: string) => world.store.evict({ resource: Pods, namespace: "default", name }, {});

  test("follow their pods, and evictions keep to them", async () => {
    await world.create(Deployments, workload("web", { replicas: 3 }));
    await create({ maxUnavailable: 1 });
    await world.until("known", () => status()?.disruptionsAllowed === 1);
    expect(status()).toMatchObject({
      expectedPods: 3,
      desiredHealthy: 2,
      currentHealthy: 3,
      observedGeneration: 1,
      conditions: [{ type: "DisruptionAllowed", status: "True", reason: "SufficientPods" }],
    });
    const names = world.all(Pods).map(({ metadata }) => metadata.name);
    world.becomesReady = (one) => names.includes(one.metadata.name);
    const [first, second] = names;
    await evict(first!);
    let refusal: unknown;
    try {
      await evict(second!);
    } catch (error) {
      refusal = error;
    }
    expect(refusal).toMatchObject({
      code: 429,
      message: "Cannot evict pod as it would violate the pod's disruption budget.",
    });
    await world.until("counted", () => status()?.currentHealthy === 2 && status()?.disruptionsAllowed === 0);
  });

  test("a pod that does not work may go when its budget says so", async () => {
    world.becomesReady = () => false;
    await world.create(Deployments, workload("web", { replicas: 1 }));
    await create({ minAvailable: 1, unhealthyPodEvictionPolicy: "AlwaysAllow" });
    await world.until("runs", () => world.all(Pods)[0]?.status?.phase === "Running" && status()?.expectedPods === 1);
    const { name } = world.all(Pods)[0]!.metadata;
    await evict(name);
    await world.until("gone", () => world.all(Pods).every(({ metadata }) => metadata.name !== name));
  });

  test("one without pods is told of", async () => {
    await create({ minAvailable: 1 });
    await world.until("an event", () => world.all(Events).some((event) => event["reason"] === "NoPods"));
    expect(status().conditions[0]).toMatchObject({ status: "False", reason: "InsufficientPods" });
  });
});
