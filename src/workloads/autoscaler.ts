// HorizontalPodAutoscalers where no metrics API is: their bounds are kept to, and their conditions say in upstream's words why nothing
// else is done. Upstream: pkg/controller/podautoscaler/horizontal.go.

import { semanticEqual } from "../api/data.ts";
import {
  Deployments,
  type HorizontalPodAutoscaler,
  type HorizontalPodAutoscalerCondition,
  type HorizontalPodAutoscalerStatus,
  HorizontalPodAutoscalers,
  type MetricSpec,
  ReplicaSets,
  ReplicationControllers,
  StatefulSets,
} from "../api/kinds.ts";
import { type KubeObject, nameOf, objectName } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { type Occurrence, recorder } from "./events.ts";
import { eachChange, type Objects } from "./objects.ts";

export interface AutoscalerPlan {
  readonly status: HorizontalPodAutoscalerStatus;
  readonly events: readonly Occurrence[];
  /** The replicas that the target is to have, when its bounds ask for others than it has. */
  readonly scale: number | undefined;
}

const noResourceMetrics =
  "unable to fetch metrics from resource metrics API: the server could not find the requested resource (get pods.metrics.k8s.io)";

/** `target` is undefined when there is none of that kind and name. */
export function autoscalerPlan(
  autoscaler: HorizontalPodAutoscaler,
  target: KubeObject | undefined,
  now: number,
): AutoscalerPlan {
  const { spec, metadata } = autoscaler;
  const { minReplicas = 1, maxReplicas = 1, metrics = [], scaleTargetRef } = spec ?? {};
  const events: Occurrence[] = [];
  const before = autoscaler.status;
  const outcome = (
    scale: number | undefined,
    desired: number,
    ...conditions: readonly [type: string, status: "True" | "False", reason: string, message: string][]
  ): AutoscalerPlan => ({
    events,
    scale,
    status: {
      ...before,
      observedGeneration: metadata.generation ?? 1,
      currentReplicas: target?.status?.replicas ?? 0,
      desiredReplicas: desired,
      ...(scale === undefined ? {} : { lastScaleTime: formatTime(now) }),
      conditions: withConditions(before?.conditions ?? [], conditions, now),
    },
  });
  if (!target) {
    const { kind = "", name = "" } = scaleTargetRef ?? {};
    const why = `${kind.toLowerCase()}s ${JSON.stringify(name)} not found`;
    events.push({ type: "Warning", reason: "FailedGetScale", message: why });
    const message = `the HPA controller was unable to get the target's current scale: ${why}`;
    return outcome(undefined, before?.desiredReplicas ?? 0, ["AbleToScale", "False", "FailedGetScale", message]);
  }
  const got = "the HPA controller was able to get the target's current scale";
  const able = ["AbleToScale", "True", "SucceededGetScale", got] as const;
  const current: number = target.spec?.replicas ?? 1;
  if (current === 0 && minReplicas !== 0) {
    const message = "scaling is disabled since the replica count of the target is zero";
    return outcome(undefined, 0, [...able], ["ScalingActive", "False", "ScalingDisabled", message]);
  }
  const desired = Math.min(maxReplicas, Math.max(minReplicas, current));
  if (desired !== current) {
    const side = current > maxReplicas ? "above Spec.MaxReplicas" : "below Spec.MinReplicas";
    const message = `New size: ${desired}; reason: Current number of replicas ${side}`;
    events.push({ type: "Normal", reason: "SuccessfulRescale", message });
    const rescaled = `the HPA controller was able to update the target scale to ${desired}`;
    return outcome(desired, desired, ["AbleToScale", "True", "SucceededRescale", rescaled]);
  }
  const failures = metrics.map(failureOf);
  const [first] = failures;
  if (!first) return outcome(undefined, current, [...able]);
  for (const { reason, message } of failures) events.push({ type: "Warning", reason, message });
  const invalid = `invalid metrics (${failures.length} invalid out of ${metrics.length}), first error is: ${first.value}: ${first.message}`;
  events.push({ type: "Warning", reason: "FailedComputeMetricsReplicas", message: invalid });
  const unable = `the HPA was unable to compute the replica count: ${first.message}`;
  return outcome(undefined, before?.desiredReplicas ?? 0, [...able], ["ScalingActive", "False", first.reason, unable]);
}

interface Failure {
  readonly reason: string;
  readonly value: string;
  readonly message: string;
}

/** Why a metric cannot be had. */
function failureOf(metric: MetricSpec): Failure {
  const resource = metric.resource ?? metric.containerResource;
  if (resource) {
    const { name, target } = resource;
    const kind = target.averageUtilization === undefined ? "resource metric value" : "utilization";
    return {
      reason: metric.resource ? "FailedGetResourceMetric" : "FailedGetContainerResourceMetric",
      value: `failed to get ${name} ${metric.resource ? "" : "container "}resource metric value`,
      message: `failed to get ${name} ${kind}: unable to get metrics for resource ${name}: ${noResourceMetrics}`,
    };
  }
  const external = metric.external !== undefined;
  const api = external ? "external" : "custom";
  const name = (metric.external ?? metric.pods ?? metric.object)?.metric.name ?? "";
  return {
    reason: `FailedGet${metric.type}Metric`,
    value: `failed to get ${metric.type.toLowerCase()} metric value`,
    message: `unable to get ${external ? "external " : ""}metric ${name}: unable to fetch metrics from ${api} metrics API: no ${api} metrics API (${api}.metrics.k8s.io) registered`,
  };
}

function withConditions(
  before: readonly HorizontalPodAutoscalerCondition[],
  wanted: readonly (readonly [string, "True" | "False", string, string])[],
  now: number,
): readonly HorizontalPodAutoscalerCondition[] {
  const fresh = wanted.map(([type, status, reason, message]) => {
    const old = before.find((one) => one.type === type);
    const lastTransitionTime = old?.status === status ? old.lastTransitionTime : formatTime(now);
    return { type, status, lastTransitionTime, reason, message };
  });
  const types = new Set(fresh.map(({ type }) => type));
  return [...fresh, ...before.filter(({ type }) => !types.has(type))];
}

const scalable: Readonly<Record<string, Resource>> = {
  Deployment: Deployments,
  ReplicaSet: ReplicaSets,
  StatefulSet: StatefulSets,
  ReplicationController: ReplicationControllers,
};

export function startAutoscalers(objects: Objects): Disposable {
  const record = recorder(objects, "horizontal-pod-autoscaler");
  const autoscalers = objects.of(HorizontalPodAutoscalers);
  const byTarget = objects.indexed(HorizontalPodAutoscalers, "by-target", ({ metadata, spec }) => [
    targetKey(metadata.namespace, spec?.scaleTargetRef?.kind, spec?.scaleTargetRef?.name),
  ]);
  const told = new Map<string, string>();

  const controller = startController({
    name: "horizontal-pod-autoscaler",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const autoscaler = autoscalers.get(key) as HorizontalPodAutoscaler | undefined;
      if (!autoscaler) {
        told.delete(key);
        return;
      }
      const { kind = "", name = "" } = autoscaler.spec?.scaleTargetRef ?? {};
      const resource = scalable[kind];
      const target = resource && objects.of(resource).get(nameOf(autoscaler.metadata.namespace, name));
      const plan = autoscalerPlan(autoscaler, target, objects.clock.now());
      if (plan.scale !== undefined && resource && target) {
        try {
          await objects.update(resource, { ...target, spec: { ...target.spec, replicas: plan.scale } });
        } catch (error) {
          const message = `New size: ${plan.scale}; error: ${messageOf(error)}`;
          record(autoscaler, { type: "Warning", reason: "FailedRescale", message });
          throw error;
        }
      }
      const text = JSON.stringify(plan.events);
      if (told.get(key) !== text) for (const event of plan.events) record(autoscaler, event);
      told.set(key, text);
      if (!semanticEqual(plan.status, autoscaler.status)) {
        await objects.updateStatus(HorizontalPodAutoscalers, autoscaler, plan.status);
      }
    },
  });

  return disposeAll([
    controller,
    eachChange(autoscalers, (_one, { key }) => controller.enqueue(key)),
    ...Object.entries(scalable).map(([kind, resource]) =>
      eachChange(objects.of(resource), ({ metadata }) => {
        for (const one of byTarget.where(targetKey(metadata.namespace, kind, metadata.name)))
          controller.enqueue(objectName(one));
      }),
    ),
  ]);
}

function targetKey(namespace: string | undefined, kind: string | undefined, name: string | undefined): string {
  return `${namespace}/${kind}/${name}`;
}
