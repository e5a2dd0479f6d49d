// PodDisruptionBudgets: how many pods may be disrupted now, written to their status, which the eviction subresource honours.
// Upstream: pkg/controller/disruption/disruption.go.

import { semanticEqual } from "../api/data.ts";
import {
  type Condition,
  Deployments,
  type Pod,
  type PodDisruptionBudget,
  type PodDisruptionBudgetStatus,
  PodDisruptionBudgets,
  Pods,
  ReplicaSets,
  ReplicationControllers,
  StatefulSets,
} from "../api/kinds.ts";
import { nameOf, objectName } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { matchesLabelSelector } from "../api/selectors.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { recorder } from "./events.ts";
import { controllerOf, eachChange, type Objects } from "./objects.ts";
import { isReady } from "./pods.ts";

/** How long a pod that was evicted may take until it is gone, in milliseconds (disruption.go DeletionTimeout). */
const deletionTimeout = 120_000;

/** The replicas that the controllers of the pods want together. Throws when one of them has none to ask for. */
export type ExpectedScale = (pods: readonly Pod[]) => number;

export interface BudgetOutcome {
  readonly status: PodDisruptionBudgetStatus;
  /** Milliseconds until an eviction that did not happen counts as off. */
  readonly again: number | undefined;
}

/** The status of a budget over the pods that its selector takes. */
export function budgetStatus(
  budget: PodDisruptionBudget,
  pods: readonly Pod[],
  expectedScale: ExpectedScale,
  now: number,
): BudgetOutcome {
  const before = budget.status ?? {};
  const observedGeneration = budget.metadata.generation ?? 1;
  let wanted: { readonly expected: number; readonly healthy: number };
  try {
    wanted = wantedOf(budget, pods, expectedScale);
  } catch (error) {
    const conditions = withCondition(budget, "False", "SyncFailed", messageOf(error), now);
    return { status: { ...before, disruptionsAllowed: 0, observedGeneration, conditions }, again: undefined };
  }
  const { disrupted, again } = disruptedPods(before.disruptedPods ?? {}, pods, now);
  const currentHealthy = pods.filter(
    (pod) => pod.metadata.deletionTimestamp === undefined && !(pod.metadata.name in disrupted) && isReady(pod),
  ).length;
  const allowed = wanted.expected > 0 ? Math.max(0, currentHealthy - wanted.healthy) : 0;
  const { disruptedPods: _old, ...rest } = before;
  const reason = allowed > 0 ? "SufficientPods" : "InsufficientPods";
  return {
    status: {
      ...rest,
      ...(Object.keys(disrupted).length > 0 ? { disruptedPods: disrupted } : {}),
      currentHealthy,
      desiredHealthy: wanted.healthy,
      expectedPods: wanted.expected,
      disruptionsAllowed: allowed,
      observedGeneration,
      conditions: withCondition(budget, allowed > 0 ? "True" : "False", reason, "", now),
    },
    again,
  };
}

function wantedOf({ spec }: PodDisruptionBudget, pods: readonly Pod[], expectedScale: ExpectedScale) {
  if (spec?.maxUnavailable !== undefined) {
    const expected = expectedScale(pods);
    return { expected, healthy: Math.max(0, expected - scaled(spec.maxUnavailable, expected)) };
  }
  if (typeof spec?.minAvailable === "number") return { expected: pods.length, healthy: spec.minAvailable };
  if (spec?.minAvailable === undefined) return { expected: 0, healthy: 0 };
  const expected = expectedScale(pods);
  return { expected, healthy: scaled(spec.minAvailable, expected) };
}

/** A percentage is rounded up. */
function scaled(value: number | string, of: number): number {
  return typeof value === "number" ? value : Math.ceil((Number.parseInt(value, 10) * of) / 100);
}

/** Pods whose eviction was granted and that are not yet seen to go. */
function disruptedPods(before: Readonly<Record<string, string>>, pods: readonly Pod[], now: number) {
  const disrupted: Record<string, string> = {};
  let again: number | undefined;
  for (const [name, time] of Object.entries(before)) {
    const pod = pods.find(({ metadata }) => metadata.name === name);
    const left = (Date.parse(time) || 0) + deletionTimeout - now;
    if (!pod || pod.metadata.deletionTimestamp !== undefined || left <= 0) continue;
    disrupted[name] = time;
    again = Math.min(again ?? left, left);
  }
  return { disrupted, again };
}

function withCondition(
  budget: PodDisruptionBudget,
  status: "True" | "False",
  reason: string,
  message: string,
  now: number,
): readonly Condition[] {
  const before = budget.status?.conditions ?? [];
  const old = before.find(({ type }) => type === "DisruptionAllowed");
  const since = old?.status === status ? old.lastTransitionTime : formatTime(now);
  const condition: Condition = {
    ...{ type: "DisruptionAllowed", status, reason, message, lastTransitionTime: since },
    observedGeneration: budget.metadata.generation ?? 1,
  } as Condition;
  return [...before.filter(({ type }) => type !== "DisruptionAllowed"), condition];
}

export function startDisruptionBudgets(objects: Objects): Disposable {
  const record = recorder(objects, "controllermanager");
  const budgets = objects.of(PodDisruptionBudgets);
  const budgetsIn = objects.indexed(PodDisruptionBudgets, "by-namespace", ({ metadata }) => [metadata.namespace ?? ""]);
  const podsIn = objects.indexed(Pods, "by-namespace", ({ metadata }) => [metadata.namespace ?? ""]);
  const scalable: Readonly<Record<string, Resource>> = {
    ReplicaSet: ReplicaSets,
    StatefulSet: StatefulSets,
    ReplicationController: ReplicationControllers,
    Deployment: Deployments,
  };
  const told = new Map<string, string>();

  const controller = startController({
    name: "disruption",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const budget = budgets.get(key) as PodDisruptionBudget | undefined;
      if (!budget) {
        told.delete(key);
        return undefined;
      }
      const pods = (podsIn.where(budget.metadata.namespace ?? "") as readonly Pod[]).filter((pod) =>
        takes(budget, pod),
      );
      const { status, again } = budgetStatus(budget, pods, expectedScale, objects.clock.now());
      const failed = status.conditions?.find(({ reason }) => reason === "SyncFailed");
      const text = failed
        ? `Failed to calculate the number of expected pods: ${failed.message}`
        : pods.length === 0
          ? "No matching pods found"
          : "";
      if (text !== "" && told.get(key) !== text) {
        const reason = failed ? "CalculateExpectedPodCountFailed" : "NoPods";
        record(budget, { type: failed ? "Warning" : "Normal", reason, message: text });
      }
      told.set(key, text);
      if (!semanticEqual(status, budget.status)) await objects.updateStatus(PodDisruptionBudgets, budget, status);
      return again;
    },
  });

  function expectedScale(pods: readonly Pod[]): number {
    const found = new Map<string, number>();
    for (const pod of pods) {
      let ref = controllerOf(pod.metadata);
      if (!ref) continue; // of nobody: not to be counted on
      let owner = scaleOf(pod, ref.kind, ref.name, ref.uid);
      ref = controllerOf(owner.metadata);
      if (ref?.kind === "Deployment") owner = scaleOf(pod, ref.kind, ref.name, ref.uid);
      found.set(owner.metadata.uid ?? "", owner.spec?.replicas ?? 1);
    }
    return [...found.values()].reduce((all, one) => all + one, 0);
  }

  function scaleOf(pod: Pod, kind: string, name: string, uid: string) {
    const resource = scalable[kind];
    const owner = resource && objects.of(resource).get(nameOf(pod.metadata.namespace, name));
    if (!owner || owner.metadata.uid !== uid) throw new Error(`found no controllers for pod "${pod.metadata.name}"`);
    return owner;
  }

  const inNamespace = (namespace: string | undefined) => {
    for (const budget of budgetsIn.where(namespace ?? "")) controller.enqueue(objectName(budget));
  };

  return disposeAll([
    controller,
    eachChange(budgets, (_budget, { key }) => controller.enqueue(key)),
    eachChange(objects.of(Pods), (_pod, { before, after }) => {
      for (const budget of budgetsIn.where((after ?? before)?.metadata.namespace ?? "")) {
        const old = before && takes(budget, before);
        if (old || (after && takes(budget, after))) controller.enqueue(objectName(budget));
      }
    }),
    ...Object.values(scalable).map((resource) =>
      eachChange(objects.of(resource), (_owner, { before, after }) => {
        if (before?.spec?.replicas !== after?.spec?.replicas) inNamespace((after ?? before)?.metadata.namespace);
      }),
    ),
  ]);
}

/** An absent selector takes no pod, an empty one all of the namespace (policy/v1). */
function takes(budget: PodDisruptionBudget, pod: Pod): boolean {
  const selector = budget.spec?.selector;
  return selector !== undefined && matchesLabelSelector(selector, pod.metadata.labels);
}
