// ReplicaSets: as many active pods as asked for. What to do is decided by pure functions (`replicaSetPlan`,
// `replicaSetStatus`); the controller below them reads collections and writes. Upstream: pkg/controller/replicaset.

import { semanticEqual } from "../api/data.ts";
import {
  type Pod,
  Pods,
  type ReplicaSet,
  type ReplicaSetCondition,
  type ReplicaSetStatus,
  ReplicaSets,
} from "../api/kinds.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { recorder } from "./events.ts";
import { controllerOf, eachChange, type Objects } from "./objects.ts";
import { claim, ownersOf, selectorTest } from "./ownership.ts";
import { availableIn, compareForDeletion, isActive, isReady, nextAvailable, podFromTemplate } from "./pods.ts";

/** Pods made or removed in one go (upstream's BurstReplicas). */
const burst = 500;
/** How many pods of a set are counted per millisecond of rest. */
const podsPerMillisecond = 50;

export interface ReplicaSetPlan {
  /** How many pods to make. */
  readonly create: number;
  readonly remove: readonly Pod[];
}

/** `related` are the pods of the same Deployment's ReplicaSets: of two equal pods, the one that shares its node goes. */
export function replicaSetPlan(
  set: ReplicaSet,
  pods: readonly Pod[],
  related: () => readonly Pod[] = () => pods,
): ReplicaSetPlan {
  if (set.metadata.deletionTimestamp) return { create: 0, remove: [] };
  const active = pods.filter(isActive);
  const missing = (set.spec?.replicas ?? 1) - active.length;
  if (missing >= 0) return { create: Math.min(missing, burst), remove: [] };
  const onNode = new Map<string, number>();
  for (const pod of related()) {
    const node = pod.spec?.nodeName;
    if (node && isActive(pod)) onNode.set(node, (onNode.get(node) ?? 0) + 1);
  }
  return { create: 0, remove: active.sort(compareForDeletion(onNode)).slice(0, Math.min(-missing, burst)) };
}

/** `failure` is why pods could not be made or removed this time. `now` in milliseconds. */
export function replicaSetStatus(
  set: ReplicaSet,
  pods: readonly Pod[],
  now: number,
  failure?: { readonly reason: "FailedCreate" | "FailedDelete"; readonly message: string },
): ReplicaSetStatus {
  const labelled = selectorTest({ matchLabels: set.spec?.template?.metadata?.labels ?? {} });
  const minReadySeconds = set.spec?.minReadySeconds ?? 0;
  const numbers = { replicas: 0, fullyLabeledReplicas: 0, readyReplicas: 0, availableReplicas: 0 };
  let terminating = 0;
  for (const pod of pods) {
    if (pod.metadata.deletionTimestamp !== undefined) terminating++;
    if (!isActive(pod)) continue;
    numbers.replicas++;
    if (labelled(pod.metadata.labels)) numbers.fullyLabeledReplicas++;
    if (!isReady(pod)) continue;
    numbers.readyReplicas++;
    if (availableIn(pod, minReadySeconds, now) === 0) numbers.availableReplicas++;
  }
  const conditions = (set.status?.conditions ?? []).filter((one) => one.type !== "ReplicaFailure");
  if (failure) {
    const before = set.status?.conditions?.find((one) => one.type === "ReplicaFailure");
    const since = before?.reason === failure.reason ? before.lastTransitionTime : undefined;
    const condition: ReplicaSetCondition = {
      type: "ReplicaFailure",
      status: "True",
      lastTransitionTime: since ?? formatTime(now),
      ...failure,
    };
    conditions.push(condition);
  }
  return {
    // Go leaves zeros out, but `replicas` is required.
    ...(Object.fromEntries(
      Object.entries(numbers).filter(([name, value]) => value > 0 || name === "replicas"),
    ) as typeof numbers),
    terminatingReplicas: terminating,
    observedGeneration: set.metadata.generation ?? 1,
    ...(conditions.length > 0 ? { conditions } : {}),
  };
}

export function startReplicaSets(objects: Objects): Disposable {
  const record = recorder(objects, "replicaset-controller");
  const sets = objects.of(ReplicaSets);
  const podsByController = objects.byController(Pods);
  const setsByController = objects.byController(ReplicaSets);

  const controller = startController({
    name: "replicaset",
    clock: objects.clock,
    log: objects.log,
    // All pods of a set are counted at each look; a set of 2,000 is looked at every 40 ms at most, one of 49 at once.
    rest: (key) => podsByController.where(sets.get(key)?.metadata.uid ?? "").length / podsPerMillisecond,
    async reconcile(key) {
      const set = sets.get(key) as ReplicaSet | undefined;
      if (!set) return undefined;
      const pods = await claim(objects, Pods, ReplicaSets, set, set.spec?.selector);
      const plan = replicaSetPlan(set, pods, () => relatedPods(set, pods));
      const failure = await carryOut(set, plan);
      const now = objects.clock.now();
      const shown = podsByController.where(set.metadata.uid ?? "");
      const status = replicaSetStatus(
        set,
        shown,
        now,
        failure && { reason: failure.reason, message: messageOf(failure.error) },
      );
      if (!semanticEqual(status, set.status)) await objects.updateStatus(ReplicaSets, set, status);
      if (failure) throw failure.error;
      return nextAvailable(shown, set.spec?.minReadySeconds ?? 0, now);
    },
  });

  function relatedPods(set: ReplicaSet, pods: readonly Pod[]): readonly Pod[] {
    const deployment = controllerOf(set.metadata);
    if (!deployment) return pods;
    return setsByController.where(deployment.uid).flatMap((one) => podsByController.where(one.metadata.uid ?? ""));
  }

  async function carryOut(set: ReplicaSet, plan: ReplicaSetPlan) {
    const template = set.spec?.template;
    if (plan.create > 0 && template) {
      const error = await inGrowingBatches(plan.create, async () => {
        const pod = await objects.create(Pods, podFromTemplate(ReplicaSets, set, template));
        record(set, { type: "Normal", reason: "SuccessfulCreate", message: `Created pod: ${pod.metadata.name}` });
      });
      if (error) {
        record(set, { type: "Warning", reason: "FailedCreate", message: `Error creating: ${messageOf(error)}` });
        return { reason: "FailedCreate" as const, error };
      }
    }
    const removed = await Promise.allSettled(
      plan.remove.map(async (pod) => {
        await objects.delete(Pods, pod);
        record(set, { type: "Normal", reason: "SuccessfulDelete", message: `Deleted pod: ${pod.metadata.name}` });
      }),
    );
    const failed = removed.find((one) => one.status === "rejected");
    return failed ? { reason: "FailedDelete" as const, error: failed.reason as unknown } : undefined;
  }

  return disposeAll([
    controller,
    eachChange(sets, (_set, { key }) => controller.enqueue(key)),
    eachChange(objects.of(Pods), (_pod, change) => {
      for (const owner of ownersOf(objects, ReplicaSets, change)) controller.enqueue(owner);
    }),
  ]);
}

/**
 * Calls `create` `count` times in parallel batches of 1, 2, 4, …, and stops after a batch with a failure, which it returns:
 * what cannot work is not tried a hundred times (upstream's slowStartBatch).
 */
export async function inGrowingBatches(count: number, create: (index: number) => Promise<void>): Promise<unknown> {
  let done = 0;
  for (let size = 1; done < count; size *= 2) {
    const batch = Array.from({ length: Math.min(size, count - done) }, (_, index) => create(done + index));
    const failed = (await Promise.allSettled(batch)).find((one) => one.status === "rejected");
    if (failed) return failed.reason;
    done += batch.length;
  }
  return undefined;
}
