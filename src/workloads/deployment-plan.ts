// What a Deployment wants done next, as a pure function of the Deployment and its ReplicaSets: which ReplicaSet to make, which
// to scale and by how much, which old ones to forget. Upstream: pkg/controller/deployment (sync.go, rolling.go, recreate.go).

import { semanticEqual } from "../api/data.ts";
import type { Deployment, PodTemplateSpec, ReplicaSet } from "../api/kinds.ts";
import { Deployments } from "../api/kinds.ts";
import { controllerReference } from "./objects.ts";
import { podTemplateHash, podTemplateHashLabel, withoutHash } from "./pod-template-hash.ts";

export const revisionAnnotation = "deployment.kubernetes.io/revision";
const historyAnnotation = "deployment.kubernetes.io/revision-history";
const desiredAnnotation = "deployment.kubernetes.io/desired-replicas";
const maxAnnotation = "deployment.kubernetes.io/max-replicas";

/** Annotations of a Deployment that its ReplicaSets do not inherit. */
const ownAnnotations = new Set([
  "kubectl.kubernetes.io/last-applied-configuration",
  "deprecated.deployment.rollback.to",
  revisionAnnotation,
  historyAnnotation,
  desiredAnnotation,
  maxAnnotation,
]);

export interface DeploymentPlan {
  /** The ReplicaSet of the current template, as it should be; undefined while paused without one. */
  readonly current: ReplicaSet | undefined;
  readonly create: boolean;
  /** ReplicaSets (the current among them) whose replicas or annotations have to change, as they should be. */
  readonly update: readonly ReplicaSet[];
  /** Old ones beyond the history limit. */
  readonly remove: readonly ReplicaSet[];
  /** The revision that the Deployment's annotation should say. */
  readonly revision: string | undefined;
}

export interface DeploymentFacts {
  /** Pods of old ReplicaSets that have not gone yet: Recreate waits for them. */
  readonly oldPods: number;
}

export const replicasOf = (one: { readonly spec?: { readonly replicas?: number } }): number => one.spec?.replicas ?? 1;
const available = (set: ReplicaSet) => set.status?.availableReplicas ?? 0;
const sum = (sets: readonly ReplicaSet[], of: (set: ReplicaSet) => number) =>
  sets.reduce((total, set) => total + of(set), 0);
export const revisionOf = (one: { metadata: { annotations?: Readonly<Record<string, string>> } }): number =>
  Number.parseInt(one.metadata.annotations?.[revisionAnnotation] ?? "0", 10) || 0;

/** Oldest first; of one second, by name. */
export function byAge(a: ReplicaSet, b: ReplicaSet): number {
  const created = (set: ReplicaSet) => Date.parse(set.metadata.creationTimestamp ?? "") || 0;
  return created(a) - created(b) || (a.metadata.name < b.metadata.name ? -1 : 1);
}

/** The ReplicaSet of the Deployment's template: the oldest, should there be two. */
export function currentReplicaSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet | undefined {
  const wanted = withoutHash(deployment.spec?.template);
  return [...sets].sort(byAge).find((set) => semanticEqual(withoutHash(set.spec?.template), wanted));
}

/** How many pods may be too many and too few during a rolling update (upstream's ResolveFenceposts: never both zero). */
export function rollingBounds(deployment: Deployment): { readonly surge: number; readonly unavailable: number } {
  const replicas = replicasOf(deployment);
  const { maxSurge = "25%", maxUnavailable = "25%" } = deployment.spec?.strategy?.rollingUpdate ?? {};
  const surge = share(maxSurge, replicas, Math.ceil);
  const unavailable = Math.min(share(maxUnavailable, replicas, Math.floor), replicas);
  return surge === 0 && unavailable === 0 ? { surge, unavailable: 1 } : { surge, unavailable };
}

export function share(value: number | string, of: number, round: (x: number) => number): number {
  if (typeof value === "number") return value;
  const percent = /^(\d+)%$/.exec(value);
  return percent ? round((Number(percent[1]) * of) / 100) : Number.parseInt(value, 10) || 0;
}

const isRecreate = (deployment: Deployment) => deployment.spec?.strategy?.type === "Recreate";

export function deploymentPlan(
  deployment: Deployment,
  owned: readonly ReplicaSet[],
  facts: DeploymentFacts,
): DeploymentPlan {
  const sets = [...owned].sort(byAge);
  const found = currentReplicaSet(deployment, sets);
  const old = sets.filter((set) => set !== found);
  const paused = deployment.spec?.paused === true;
  const nextRevision = String(Math.max(0, ...old.map(revisionOf)) + 1);
  const create = !found && !paused;
  const named = found ?? (create ? newReplicaSet(deployment, sets) : undefined);
  // A paused Deployment is only scaled; its history stands still.
  const current = named && !paused ? withRevision(deployment, named, nextRevision) : named;

  const scaled = new Map<ReplicaSet, number>();
  const scale = (set: ReplicaSet, replicas: number) => {
    if (replicas !== replicasOf(set) || set === current) scaled.set(set, replicas);
  };
  const scaling = found !== undefined && isScaling(deployment, sets);
  if (paused || scaling) scaleInProportion(deployment, current, old, scale);
  else if (current && isRecreate(deployment)) recreate(deployment, current, old, facts, create, scale);
  else if (current) roll(deployment, current, old, create, scale);

  const asWanted = (set: ReplicaSet) => withSize(deployment, set, scaled.get(set) ?? replicasOf(set));
  const wantedCurrent = current && asWanted(current);
  const update = old
    .filter((set) => replicasOf(set) > 0 || scaled.has(set))
    .map((set) => [set, asWanted(set)] as const);
  const settled = !paused && !scaling && wantedCurrent && isComplete(deployment, wantedCurrent, old);
  return {
    current: wantedCurrent,
    create,
    update: [
      ...update.filter(([before, after]) => !semanticEqual(before, after)).map(([, after]) => after),
      ...(found && wantedCurrent && !semanticEqual(found, wantedCurrent) ? [wantedCurrent] : []),
    ],
    remove: settled ? beyondHistory(deployment, old) : [],
    revision: wantedCurrent && !paused ? wantedCurrent.metadata.annotations?.[revisionAnnotation] : undefined,
  };
}

type Scale = (set: ReplicaSet, replicas: number) => void;

/** A change of `spec.replicas` since the ReplicaSets were last written. */
function isScaling(deployment: Deployment, sets: readonly ReplicaSet[]): boolean {
  return sets.some((set) => {
    const desired = set.metadata.annotations?.[desiredAnnotation];
    return replicasOf(set) > 0 && desired !== undefined && Number(desired) !== replicasOf(deployment);
  });
}

function scaleInProportion(
  deployment: Deployment,
  current: ReplicaSet | undefined,
  old: readonly ReplicaSet[],
  scale: Scale,
): void {
  const wanted = replicasOf(deployment);
  const all = current ? [...old, current] : [...old];
  const active = all.filter((set) => replicasOf(set) > 0);
  const [only] = active;
  if (active.length <= 1) {
    const one = only ?? current ?? all.at(-1);
    if (one) scale(one, wanted);
    return;
  }
  if (current && replicasOf(current) === wanted && available(current) === wanted) {
    for (const set of old) scale(set, 0);
    return;
  }
  if (isRecreate(deployment)) return;
  const total = sum(active, replicasOf);
  const allowed = wanted > 0 ? wanted + rollingBounds(deployment).surge : 0;
  let left = allowed - total;
  if (left === 0) {
    for (const set of active) scale(set, replicasOf(set));
    return;
  }
  // Growing, the newer goes first when sizes are equal; shrinking, the older.
  const order = [...active].sort((a, b) => replicasOf(b) - replicasOf(a) || (left > 0 ? byAge(b, a) : byAge(a, b)));
  const sizes = order.map((set) => {
    const previous = Number(set.metadata.annotations?.[maxAnnotation] ?? 0) || total;
    const part = Math.round((replicasOf(set) * allowed) / previous) - replicasOf(set);
    const change = left > 0 ? Math.min(Math.max(part, 0), left) : Math.max(Math.min(part, 0), left);
    left -= change;
    return replicasOf(set) + change;
  });
  for (const [at, set] of order.entries()) scale(set, Math.max(0, at === 0 ? sizes[at]! + left : sizes[at]!));
}

function recreate(
  deployment: Deployment,
  current: ReplicaSet,
  old: readonly ReplicaSet[],
  facts: DeploymentFacts,
  create: boolean,
  scale: Scale,
): void {
  for (const set of old) scale(set, 0);
  if (facts.oldPods === 0 && old.every((set) => replicasOf(set) === 0)) scale(current, replicasOf(deployment));
  else if (create) scale(current, 0);
}

function roll(
  deployment: Deployment,
  current: ReplicaSet,
  old: readonly ReplicaSet[],
  create: boolean,
  scale: Scale,
): void {
  const wanted = replicasOf(deployment);
  const { surge, unavailable } = rollingBounds(deployment);
  const before = create ? 0 : replicasOf(current);
  const oldTotal = sum(old, replicasOf);
  let size = before;
  if (before > wanted) size = wanted;
  else if (before < wanted)
    size = before + Math.max(0, Math.min(wanted + surge - (oldTotal + before), wanted - before));
  scale(current, size);
  if (size !== before || oldTotal === 0) return; // one step at a time: the next comes when this one is seen

  const least = wanted - unavailable;
  const notAvailable = Math.max(0, before - available(current));
  let removable = oldTotal + before - least - notAvailable;
  if (removable <= 0) return;
  const left = new Map(old.map((set) => [set, replicasOf(set)]));
  // Pods that do not serve go first: nothing is lost with them.
  for (const set of old) {
    const unhealthy = Math.max(0, replicasOf(set) - available(set));
    const cut = Math.min(unhealthy, removable);
    left.set(set, left.get(set)! - cut);
    removable -= cut;
  }
  let spare = sum(old, (set) => Math.min(left.get(set)!, available(set))) + available(current) - least;
  for (const set of old) {
    const cut = Math.max(0, Math.min(left.get(set)!, spare));
    left.set(set, left.get(set)! - cut);
    spare -= cut;
  }
  for (const set of old) scale(set, left.get(set)!);
}

/** Whether every pod is of the current template and serves, and no other is left. */
function isComplete(deployment: Deployment, current: ReplicaSet, old: readonly ReplicaSet[]): boolean {
  const wanted = replicasOf(deployment);
  return (
    (current.status?.replicas ?? 0) === wanted &&
    available(current) === wanted &&
    old.every((set) => replicasOf(set) === 0 && (set.status?.replicas ?? 0) === 0)
  );
}

function beyondHistory(deployment: Deployment, old: readonly ReplicaSet[]): readonly ReplicaSet[] {
  const limit = deployment.spec?.revisionHistoryLimit ?? 10;
  const idle = old
    .filter((set) => replicasOf(set) === 0 && (set.status?.replicas ?? 0) === 0 && !set.metadata.deletionTimestamp)
    .filter((set) => (set.metadata.generation ?? 1) <= (set.status?.observedGeneration ?? 0))
    .sort((a, b) => revisionOf(a) - revisionOf(b) || byAge(a, b));
  return idle.slice(0, Math.max(0, idle.length - limit));
}

function newReplicaSet(deployment: Deployment, sets: readonly ReplicaSet[]): ReplicaSet {
  const template = deployment.spec!.template;
  const taken = new Set(sets.map((set) => set.metadata.name));
  let collisions = deployment.status?.collisionCount ?? 0;
  let hash = podTemplateHash(template, collisions);
  while (taken.has(`${deployment.metadata.name}-${hash}`)) hash = podTemplateHash(template, ++collisions);
  const labels = { ...template.metadata?.labels, [podTemplateHashLabel]: hash };
  const { selector } = deployment.spec!;
  return {
    apiVersion: "apps/v1",
    kind: "ReplicaSet",
    metadata: {
      name: `${deployment.metadata.name}-${hash}`,
      namespace: deployment.metadata.namespace,
      labels,
      annotations: inherited(deployment),
      ownerReferences: [controllerReference(Deployments, deployment)],
    },
    spec: {
      replicas: 0,
      minReadySeconds: deployment.spec?.minReadySeconds ?? 0,
      selector: { ...selector, matchLabels: { ...selector.matchLabels, [podTemplateHashLabel]: hash } },
      template: { ...template, metadata: { ...template.metadata, labels } } as PodTemplateSpec,
    },
  };
}

function inherited(deployment: Deployment): Readonly<Record<string, string>> {
  return Object.fromEntries(
    Object.entries(deployment.metadata.annotations ?? {}).filter(([name]) => !ownAnnotations.has(name)),
  );
}

/** The current ReplicaSet with the Deployment's annotations and the newest revision; the revisions it had before are kept. */
function withRevision(deployment: Deployment, set: ReplicaSet, wanted: string): ReplicaSet {
  const before = set.metadata.annotations ?? {};
  const own = before[revisionAnnotation];
  const revision = Number(own ?? 0) < Number(wanted) ? wanted : own!;
  const history = [before[historyAnnotation], own].filter((one) => one !== undefined && one !== "").join(",");
  const annotations = {
    ...before,
    ...inherited(deployment),
    [revisionAnnotation]: revision,
    ...(own !== undefined && own !== revision ? { [historyAnnotation]: history } : {}),
  };
  return {
    ...set,
    metadata: { ...set.metadata, annotations },
    spec: { ...set.spec!, minReadySeconds: deployment.spec?.minReadySeconds ?? 0 },
  };
}

function withSize(deployment: Deployment, set: ReplicaSet, replicas: number): ReplicaSet {
  const wanted = replicasOf(deployment);
  const most = isRecreate(deployment) ? wanted : wanted + rollingBounds(deployment).surge;
  return {
    ...set,
    metadata: {
      ...set.metadata,
      annotations: { ...set.metadata.annotations, [desiredAnnotation]: String(wanted), [maxAnnotation]: String(most) },
    },
    spec: { ...set.spec!, replicas },
  };
}
