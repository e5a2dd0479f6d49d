// What controllers ask of a pod, and how one is made from a template. The terms are those of upstream's
// pkg/controller/controller_utils.go and pkg/api/v1/pod: active, ready, available.

import type { Pod, PodCondition, PodTemplateSpec } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { controllerReference } from "./objects.ts";

export function podCondition(pod: Pod, type: string): PodCondition | undefined {
  return pod.status?.conditions?.find((condition) => condition.type === type);
}

/** Neither finished nor on its way out. */
export function isActive(pod: Pod): boolean {
  return pod.metadata.deletionTimestamp === undefined && !isFinished(pod);
}

export function isFinished(pod: Pod): boolean {
  return pod.status?.phase === "Succeeded" || pod.status?.phase === "Failed";
}

export function isReady(pod: Pod): boolean {
  return podCondition(pod, "Ready")?.status === "True";
}

/** Ready for at least `minReadySeconds`. `now` in milliseconds since the epoch. */
export function isAvailable(pod: Pod, minReadySeconds: number, now: number): boolean {
  return isReady(pod) && availableIn(pod, minReadySeconds, now) === 0;
}

/** Milliseconds until a ready pod counts as available; 0 when it does. */
export function availableIn(pod: Pod, minReadySeconds: number, now: number): number {
  if (minReadySeconds <= 0) return 0;
  const since = Date.parse(podCondition(pod, "Ready")?.lastTransitionTime ?? "");
  return Number.isNaN(since) ? 0 : Math.max(0, since + minReadySeconds * 1000 - now);
}

/** When the next of these ready pods becomes available, in milliseconds; undefined when none is waiting for it. */
export function nextAvailable(pods: readonly Pod[], minReadySeconds: number, now: number): number | undefined {
  if (minReadySeconds <= 0) return undefined;
  const waits = pods
    .filter((pod) => isActive(pod) && isReady(pod))
    .map((pod) => availableIn(pod, minReadySeconds, now))
    .filter((wait) => wait > 0);
  return waits.length > 0 ? Math.min(...waits) : undefined;
}

/** A pod of `owner` made from its template, named by the API server unless `name` is given. */
export function podFromTemplate(
  ownerResource: Resource,
  owner: KubeObject,
  template: PodTemplateSpec,
  extra: { readonly name?: string; readonly labels?: Readonly<Record<string, string>> } = {},
): KubeObject {
  const { labels, annotations, finalizers } = template.metadata ?? {};
  return {
    apiVersion: "v1",
    kind: "Pod",
    metadata: {
      ...(extra.name === undefined ? { generateName: `${owner.metadata.name}-` } : { name: extra.name }),
      namespace: owner.metadata.namespace,
      labels: { ...labels, ...extra.labels },
      ...(annotations ? { annotations } : {}),
      ...(finalizers ? { finalizers } : {}),
      ownerReferences: [controllerReference(ownerResource, owner)],
    } as KubeObject["metadata"],
    spec: template.spec,
  };
}

const restarts = (pod: Pod) =>
  Math.max(0, ...(pod.status?.containerStatuses ?? []).map((container) => container.restartCount ?? 0));
const phaseRank = { Pending: 0, Unknown: 1, Running: 2, Succeeded: 2, Failed: 2 } as const;
const deletionCost = "controller.kubernetes.io/pod-deletion-cost";

/**
 * The order in which surplus pods go (upstream's ActivePodsWithRanks): unplaced, pending, not ready, cheap to delete, on a node
 * with more of their kind, ready for a shorter time, restarted more often, younger. `onNode` counts related pods by node.
 */
export function compareForDeletion(onNode: ReadonlyMap<string, number>): (a: Pod, b: Pod) => number {
  const cost = (pod: Pod) => Number.parseInt(pod.metadata.annotations?.[deletionCost] ?? "0", 10) || 0;
  const readySince = (pod: Pod) => Date.parse(podCondition(pod, "Ready")?.lastTransitionTime ?? "") || 0;
  const created = (pod: Pod) => Date.parse(pod.metadata.creationTimestamp ?? "") || 0;
  return (a, b) =>
    Number(a.spec?.nodeName !== undefined) - Number(b.spec?.nodeName !== undefined) ||
    phaseRank[a.status?.phase ?? "Pending"] - phaseRank[b.status?.phase ?? "Pending"] ||
    Number(isReady(a)) - Number(isReady(b)) ||
    cost(a) - cost(b) ||
    (onNode.get(b.spec?.nodeName ?? "") ?? 0) - (onNode.get(a.spec?.nodeName ?? "") ?? 0) ||
    (isReady(a) && isReady(b) ? readySince(b) - readySince(a) : 0) ||
    restarts(b) - restarts(a) ||
    created(b) - created(a) ||
    (a.metadata.name < b.metadata.name ? -1 : 1);
}
