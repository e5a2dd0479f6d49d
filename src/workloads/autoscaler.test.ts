import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { Deployments, type HorizontalPodAutoscaler, HorizontalPodAutoscalers, Pods } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { autoscalerPlan } from "./autoscaler.ts";
import { startWorld, type World, workload } from "./testing/world.ts";

const cpu = { type: "Resource", resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 80 } } };
const hpa = (spec: object = {}): HorizontalPodAutoscaler =>
  ({
    apiVersion: "autoscaling/v2",
    kind: "HorizontalPodAutoscaler",
    metadata: { name: "web", namespace: "default" },
    spec: {
      scaleTargetRef: { apiVersion: "apps/v1", kind: "Deployment", name: "web" },
      ...{ minReplicas: 2, maxReplicas: 4, metrics: [cpu], ...spec },
    },
  }) as HorizontalPodAutoscaler;
const target = (replicas: number): KubeObject => ({ ...workload("web", { replicas }), status: { replicas } });
const plan = (spec: object, replicas: number | undefined) =>
  autoscalerPlan(hpa(spec), replicas === undefined ? undefined : target(replicas), 0);
const conditions = (one: ReturnType<typeof plan>) =>
  (one.status.conditions ?? []).map(({ type, status, reason }) => `${type} ${status} ${reason}`);

describe("an autoscaler without metrics", () => {
  test("says why it cannot know, and scales nothing", () => {
    const one = plan({}, 3);
    expect(one.scale).toBeUndefined();
    expect(conditions(one)).toEqual([
      "AbleToScale True SucceededGetScale",
      "ScalingActive False FailedGetResourceMetric",
    ]);
    const missing =
      "failed to get cpu utilization: unable to get metrics for resource cpu: unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)";
    expect(one.status.conditions![1]!.message).toBe(`the HPA was unable to compute the replica count: ${missing}`);
    expect(one.events.map(({ message }) => message)).toEqual([
      missing,
      `invalid metrics (1 invalid out of 1), first error is: failed to get cpu resource metric value: ${missing}`,
    ]);
  });

  test("keeps to its bounds", () => {
    expect(plan({}, 1)).toMatchObject({
      scale: 2,
      events: [
        {
          reason: "SuccessfulRescale",
          message: "New size: 2; reason: Current number of replicas below Spec.MinReplicas",
        },
      ],
    });
    expect(plan({}, 9)).toMatchObject({
      scale: 4,
      events: [{ message: "New size: 4; reason: Current number of replicas above Spec.MaxReplicas" }],
    });
  });

  test("leaves alone what was scaled to nothing, and tells of what is not there", () => {
    expect(conditions(plan({}, 0))).toEqual([
      "AbleToScale True SucceededGetScale",
      "ScalingActive False ScalingDisabled",
    ]);
    expect(conditions(plan({}, undefined))).toEqual(["AbleToScale False FailedGetScale"]);
  });

  test("names the metrics API that each kind of metric would need", () => {
    const external = {
      type: "External",
      external: { metric: { name: "queue" }, target: { type: "Value", value: "1" } },
    };
    expect(plan({ metrics: [external] }, 3).events[0]).toMatchObject({
      reason: "FailedGetExternalMetric",
      message:
        "unable to get external metric queue: unable to fetch metrics from external metrics API: no external metrics API (external.metrics.k8s.io) registered",
    });
  });
});

describe("autoscalers in a world", () => {
  let world: World;
  beforeEach(async () => {
    world = await startWorld();
  });
  afterEach(() => world.dispose());

  test("bring a Deployment within its bounds, and then are still", async () => {
    await world.create(Deployments, workload("web", { replicas: 1 }));
    await world.create(HorizontalPodAutoscalers, hpa());
    await world.until("two pods", () => world.all(Pods).length === 2);
    const status = () => world.get(HorizontalPodAutoscalers, "web")!.status;
    await world.until("active", () =>
      status()?.conditions?.some(({ type }: { type: string }) => type === "ScalingActive"),
    );
    await world.until("counted", () => status().currentReplicas === 2);
    await world.quiet();
    const writes = world.writes();
    await world.quiet();
    expect(world.writes()).toBe(writes);
  });
});
