// StatefulSets: pods with stable names, `web-0` to `web-(n-1)`, made and removed in order (or, with podManagementPolicy
// Parallel, at once) and replaced from the highest down. Upstream: pkg/controller/statefulset/stateful_set_control.go.

import { semanticEqual } from "../api/data.ts";
import {
  type ControllerRevision,
  PersistentVolumeClaims,
  type Pod,
  Pods,
  type StatefulSet,
  type StatefulSetStatus,
  StatefulSets,
} from "../api/kinds.ts";
import { type KubeObject, nameOf, type OwnerReference } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { recorder } from "./events.ts";
import { controllerReference, eachChange, type Objects } from "./objects.ts";
import { claim, ownersOf } from "./ownership.ts";
import { isAvailable, isFinished, isReady, nextAvailable, podFromTemplate } from "./pods.ts";
import { forgetOldRevisions, revisionHashLabel, syncRevisions, templateOf } from "./revisions.ts";

export interface StatefulSetPlan {
  /** Ordinals of the pods to make, lowest first. */
  readonly create: readonly number[];
  readonly remove: readonly Pod[];
}

/** The number at the end of a pod's name; -1 when it is none of this set's names. */
export function ordinalOf(set: StatefulSet, pod: Pod): number {
  const match = /^(.*)-(0|[1-9][0-9]*)$/.exec(pod.metadata.name);
  return match?.[1] === set.metadata.name ? Number(match[2]) : -1;
}

/** What to do now. `updateRevision` is the name of the newest ControllerRevision. `now` in milliseconds. */
export function statefulSetPlan(
  set: StatefulSet,
  pods: readonly Pod[],
  updateRevision: string,
  now: number,
): StatefulSetPlan {
  if (set.metadata.deletionTimestamp) return { create: [], remove: [] };
  const parallel = set.spec?.podManagementPolicy === "Parallel";
  const start = set.spec?.ordinals?.start ?? 0;
  const end = start + (set.spec?.replicas ?? 1);
  const byOrdinal = new Map(pods.map((pod) => [ordinalOf(set, pod), pod]));
  const settled = (pod: Pod) =>
    pod.metadata.deletionTimestamp === undefined && isAvailable(pod, set.spec?.minReadySeconds ?? 0, now);
  const create: number[] = [];
  const remove: Pod[] = [];
  for (let ordinal = start; ordinal < end; ordinal++) {
    const pod = byOrdinal.get(ordinal);
    if (!pod) create.push(ordinal);
    else if (isFinished(pod) && pod.metadata.deletionTimestamp === undefined) remove.push(pod);
    if (pod && settled(pod)) continue;
    if (!parallel) return { create, remove };
  }
  const surplus = [...byOrdinal]
    .filter(([ordinal]) => ordinal >= 0 && (ordinal < start || ordinal >= end))
    .sort(([a], [b]) => b - a)
    .map(([, pod]) => pod);
  for (const pod of surplus) {
    if (pod.metadata.deletionTimestamp === undefined) remove.push(pod);
    if (!parallel) return { create, remove };
  }
  if (create.length > 0 || remove.length > 0) return { create, remove };
  if (set.spec?.updateStrategy?.type === "OnDelete") return { create, remove };

  const partition = start + (set.spec?.updateStrategy?.rollingUpdate?.partition ?? 0);
  const wanted = [...byOrdinal].filter(([ordinal]) => ordinal >= start && ordinal < end);
  const unavailable = wanted.filter(([, pod]) => !settled(pod)).length;
  const most = mostUnavailable(set, end - start);
  let budget = most - unavailable;
  for (const [ordinal, pod] of wanted.sort(([a], [b]) => b - a)) {
    if (ordinal < partition) break;
    const old = pod.metadata.labels?.[revisionHashLabel] !== updateRevision;
    if (!old || pod.metadata.deletionTimestamp !== undefined) continue;
    // A pod that does not work anyway costs nothing.
    if (!settled(pod) && unavailable <= most) remove.push(pod);
    else if (budget-- > 0) remove.push(pod);
    else break;
  }
  return { create, remove };
}

/** How many pods may be unavailable during an update: at least one; a percentage is rounded down (KEP-961). */
function mostUnavailable(set: StatefulSet, replicas: number): number {
  const given = set.spec?.updateStrategy?.rollingUpdate?.maxUnavailable ?? 1;
  const number = typeof given === "number" ? given : Math.floor((Number.parseInt(given, 10) / 100) * replicas);
  return Math.max(1, Number.isNaN(number) ? 1 : number);
}

export function statefulSetStatus(
  set: StatefulSet,
  pods: readonly Pod[],
  updateRevision: string,
  now: number,
): StatefulSetStatus {
  const mine = pods.filter((pod) => ordinalOf(set, pod) >= 0);
  const counted = mine.filter((pod) => !isFinished(pod));
  const running = counted.filter((pod) => pod.metadata.deletionTimestamp === undefined);
  const before = set.status?.currentRevision ?? updateRevision;
  const of = (revision: string) =>
    running.filter((pod) => pod.metadata.labels?.[revisionHashLabel] === revision).length;
  const ready = running.filter(isReady).length;
  const updated = of(updateRevision);
  const wanted = set.spec?.replicas ?? 1;
  const done = updated === wanted && counted.length === wanted && ready === wanted;
  const currentRevision = done ? updateRevision : before;
  return {
    replicas: counted.length,
    ...(ready > 0 ? { readyReplicas: ready } : {}),
    availableReplicas: running.filter((pod) => isAvailable(pod, set.spec?.minReadySeconds ?? 0, now)).length,
    ...(of(currentRevision) > 0 ? { currentReplicas: of(currentRevision) } : {}),
    ...(updated > 0 ? { updatedReplicas: updated } : {}),
    currentRevision,
    updateRevision,
    collisionCount: set.status?.collisionCount ?? 0,
    observedGeneration: set.metadata.generation ?? 1,
  };
}

/** The pod of an ordinal, made from a revision's template, with its identity: name, hostname, subdomain, labels, claims. */
export function statefulPod(set: StatefulSet, ordinal: number, revision: ControllerRevision): KubeObject {
  const name = `${set.metadata.name}-${ordinal}`;
  const pod = podFromTemplate(StatefulSets, set, templateOf(revision), {
    name,
    labels: {
      "statefulset.kubernetes.io/pod-name": name,
      "apps.kubernetes.io/pod-index": String(ordinal),
      [revisionHashLabel]: revision.metadata.name,
    },
  });
  const claims = claimNames(set, ordinal);
  const volumes = (pod.spec.volumes ?? []).filter((volume: { name: string }) => !claims.has(volume.name));
  for (const [volume, claimName] of claims) volumes.push({ name: volume, persistentVolumeClaim: { claimName } });
  return {
    ...pod,
    spec: {
      ...pod.spec,
      hostname: name,
      ...(set.spec?.serviceName ? { subdomain: set.spec.serviceName } : {}),
      ...(volumes.length > 0 ? { volumes } : {}),
    },
  };
}

function claimNames(set: StatefulSet, ordinal: number): ReadonlyMap<string, string> {
  const templates = set.spec?.volumeClaimTemplates ?? [];
  return new Map(
    templates.map(({ metadata }) => [metadata.name, `${metadata.name}-${set.metadata.name}-${ordinal}`] as const),
  );
}

/** Who a pod's claim goes with (persistentVolumeClaimRetentionPolicy): the set, the pod when it is surplus, or nobody. */
export function claimOwner(set: StatefulSet, ordinal: number, pod: Pod | undefined): OwnerReference | undefined {
  const { whenDeleted, whenScaled } = set.spec?.persistentVolumeClaimRetentionPolicy ?? {};
  const start = set.spec?.ordinals?.start ?? 0;
  const surplus = ordinal < start || ordinal >= start + (set.spec?.replicas ?? 1);
  if (surplus && whenScaled === "Delete" && pod) return controllerReference(Pods, pod);
  return whenDeleted === "Delete" ? controllerReference(StatefulSets, set) : undefined;
}

export function startStatefulSets(objects: Objects): Disposable {
  const record = recorder(objects, "statefulset-controller");
  const sets = objects.of(StatefulSets);
  const podsByController = objects.byController(Pods);

  const controller = startController({
    name: "statefulset",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const set = sets.get(key) as StatefulSet | undefined;
      if (!set) return undefined;
      const pods = (await claim(objects, Pods, StatefulSets, set, set.spec?.selector)) as readonly Pod[];
      const { update, all } = await syncRevisions(objects, StatefulSets, set);
      const updateRevision = update.metadata.name;
      const plan = statefulSetPlan(set, pods, updateRevision, objects.clock.now());
      for (const ordinal of plan.create) await make(set, ordinal, revisionFor(set, ordinal, update, all));
      for (const pod of pods) await ownClaims(set, pod);
      for (const pod of plan.remove) {
        await objects.delete(Pods, pod);
        const message = `delete Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} successful`;
        record(set, { type: "Normal", reason: "SuccessfulDelete", message });
      }
      const now = objects.clock.now();
      const shown = podsByController.where(set.metadata.uid ?? "") as readonly Pod[];
      const status = statefulSetStatus(set, shown, updateRevision, now);
      if (!semanticEqual(status, { ...set.status, conditions: undefined })) {
        await objects.updateStatus(StatefulSets, set, { ...set.status, ...status });
      }
      const live = new Set(shown.map((pod) => pod.metadata.labels?.[revisionHashLabel] ?? ""));
      live.add(updateRevision).add(status.currentRevision ?? "");
      await forgetOldRevisions(objects, all, live, set.spec?.revisionHistoryLimit ?? 10);
      return nextAvailable(shown, set.spec?.minReadySeconds ?? 0, now);
    },
  });

  /** Below the partition pods stay what they were, also when they are made anew. */
  function revisionFor(
    set: StatefulSet,
    ordinal: number,
    update: ControllerRevision,
    all: readonly ControllerRevision[],
  ) {
    const { updateStrategy, ordinals } = set.spec ?? {};
    const partition = (ordinals?.start ?? 0) + (updateStrategy?.rollingUpdate?.partition ?? 0);
    if (updateStrategy?.type === "OnDelete" || ordinal >= partition) return update;
    return all.find((one) => one.metadata.name === set.status?.currentRevision) ?? update;
  }

  /** Before a surplus pod goes, and when the policy has changed. */
  async function ownClaims(set: StatefulSet, pod: Pod): Promise<void> {
    const ordinal = ordinalOf(set, pod);
    const wanted = claimOwner(set, ordinal, pod);
    for (const name of claimNames(set, ordinal).values()) {
      const claim = objects.of(PersistentVolumeClaims).get(nameOf(set.metadata.namespace, name));
      if (!claim || claim.metadata.deletionTimestamp !== undefined) continue;
      const before = claim.metadata.ownerReferences ?? [];
      const others = before.filter(
        (one) => one.uid !== set.metadata.uid && !(one.kind === "Pod" && one.name === pod.metadata.name),
      );
      const ownerReferences = wanted ? [...others, wanted] : others;
      if (!semanticEqual(ownerReferences, before))
        await objects.updateMetadata(PersistentVolumeClaims, claim, { ownerReferences });
    }
  }

  async function make(set: StatefulSet, ordinal: number, revision: ControllerRevision): Promise<void> {
    const claims = claimNames(set, ordinal);
    for (const template of set.spec?.volumeClaimTemplates ?? []) {
      const name = claims.get(template.metadata.name)!;
      const { namespace } = set.metadata;
      const there = objects.of(PersistentVolumeClaims).get(nameOf(namespace, name));
      if (there?.metadata.deletionTimestamp !== undefined) throw new Error(`pvc ${name} is being deleted`);
      if (there) continue;
      const labels = { ...template.metadata.labels, ...set.spec?.selector.matchLabels };
      const owner = claimOwner(set, ordinal, undefined);
      const ownerReferences = owner ? { ownerReferences: [owner] } : {};
      try {
        await objects.create(PersistentVolumeClaims, {
          apiVersion: "v1",
          kind: "PersistentVolumeClaim",
          metadata: { ...template.metadata, name, namespace, labels, ...ownerReferences },
          spec: template.spec,
        });
      } catch (error) {
        if (!isStatusReason(error, "AlreadyExists")) throw error;
      }
    }
    const pod = statefulPod(set, ordinal, revision);
    try {
      await objects.create(Pods, pod);
    } catch (error) {
      const message = `create Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} failed error: ${messageOf(error)}`;
      record(set, { type: "Warning", reason: "FailedCreate", message });
      throw error;
    }
    const message = `create Pod ${pod.metadata.name} in StatefulSet ${set.metadata.name} successful`;
    record(set, { type: "Normal", reason: "SuccessfulCreate", message });
  }

  return disposeAll([
    controller,
    eachChange(sets, (_set, { key }) => controller.enqueue(key)),
    eachChange(objects.of(Pods), (_pod, change) => {
      for (const owner of ownersOf(objects, StatefulSets, change)) controller.enqueue(owner);
    }),
  ]);
}
