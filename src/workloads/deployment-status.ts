// The status of a Deployment as a pure function: counts, and the conditions Available, Progressing and ReplicaFailure with
// upstream's reasons and messages, which `kubectl rollout status` and `kubectl wait` read. Upstream: deployment/progress.go.

import type { Deployment, DeploymentCondition, DeploymentStatus, ReplicaSet } from "../api/kinds.ts";
import { formatTime } from "../api/strategy.ts";
import { replicasOf, rollingBounds } from "./deployment-plan.ts";

export interface RolloutState {
  readonly current: ReplicaSet | undefined;
  /** Whether `current` was made just now. */
  readonly created: boolean;
  readonly old: readonly ReplicaSet[];
  /** Why the current ReplicaSet could not be made. */
  readonly failure?: string;
}

/** Seconds: the API's default, and the value that means none (pkg/apis/apps/v1/defaults.go, math.MaxInt32). */
const defaultDeadline = 600;
const noDeadline = 2_147_483_647;

const sum = (sets: readonly ReplicaSet[], of: (set: ReplicaSet) => number) =>
  sets.reduce((total, set) => total + of(set), 0);

/** `now` in milliseconds. */
export function deploymentStatus(deployment: Deployment, state: RolloutState, now: number): DeploymentStatus {
  const all = state.current ? [...state.old, state.current] : state.old;
  const available = sum(all, (set) => set.status?.availableReplicas ?? 0);
  const counts = {
    replicas: sum(all, (set) => set.status?.replicas ?? 0),
    updatedReplicas: state.current?.status?.replicas ?? 0,
    readyReplicas: sum(all, (set) => set.status?.readyReplicas ?? 0),
    availableReplicas: available,
    unavailableReplicas: Math.max(0, sum(all, replicasOf) - available),
  };
  const collisionCount = deployment.status?.collisionCount;
  const status: DeploymentStatus = {
    observedGeneration: deployment.metadata.generation ?? 1,
    ...Object.fromEntries(Object.entries(counts).filter(([, count]) => count > 0)),
    terminatingReplicas: sum(all, (set) => set.status?.terminatingReplicas ?? 0),
    ...(collisionCount === undefined ? {} : { collisionCount }),
  };
  return { ...status, conditions: conditions(deployment, state, status, now) };
}

/** Milliseconds until a rollout that does not move counts as failed; undefined when none is under way. */
export function untilDeadline(deployment: Deployment, status: DeploymentStatus, now: number): number | undefined {
  const progressing = find(status.conditions, "Progressing");
  const seconds = deployment.spec?.progressDeadlineSeconds ?? defaultDeadline;
  if (!progressing || seconds === noDeadline || deployment.spec?.paused) return undefined;
  if (progressing.reason === "NewReplicaSetAvailable" || progressing.reason === "ProgressDeadlineExceeded")
    return undefined;
  const since = Date.parse(progressing.lastUpdateTime ?? "") || now;
  // Upstream too waits a second longer: times have no milliseconds.
  return Math.max(0, since + seconds * 1000 - now) + 1000;
}

/** Whether all pods are of the current template and serve. */
export function isComplete(deployment: Deployment, status: DeploymentStatus): boolean {
  const wanted = replicasOf(deployment);
  return (
    (status.updatedReplicas ?? 0) === wanted &&
    (status.replicas ?? 0) === wanted &&
    (status.availableReplicas ?? 0) === wanted
  );
}

type Wanted = Pick<DeploymentCondition, "type" | "status" | "reason" | "message"> & { readonly moved?: boolean };

function conditions(deployment: Deployment, state: RolloutState, status: DeploymentStatus, now: number) {
  const before = deployment.status?.conditions ?? [];
  const unavailable = deployment.spec?.strategy?.type === "Recreate" ? 0 : rollingBounds(deployment).unavailable;
  const enough = (status.availableReplicas ?? 0) >= replicasOf(deployment) - unavailable;
  const wanted: Wanted[] = [
    {
      type: "Available",
      status: enough ? "True" : "False",
      reason: enough ? "MinimumReplicasAvailable" : "MinimumReplicasUnavailable",
      message: `Deployment ${enough ? "has" : "does not have"} minimum availability.`,
    },
  ];
  const progressing = progress(deployment, state, status, now);
  if (progressing) wanted.push(progressing);
  const failed = replicaFailure(state);
  if (failed) wanted.push(failed);
  const kept = before.filter((one) => one.type !== "ReplicaFailure" || failed);
  const types = new Set(wanted.map((one) => one.type));
  return [
    ...kept.filter((one) => !types.has(one.type)),
    ...wanted.map((one) => merged(find(before, one.type), one, now)),
  ].sort((a, b) => order.indexOf(a.type) - order.indexOf(b.type));
}

const order = ["Available", "Progressing", "ReplicaFailure"];

function progress(
  deployment: Deployment,
  state: RolloutState,
  status: DeploymentStatus,
  now: number,
): Wanted | undefined {
  const deadline = deployment.spec?.progressDeadlineSeconds ?? defaultDeadline;
  const before = find(deployment.status?.conditions, "Progressing");
  const old = deployment.status ?? {};
  const set = state.current?.metadata.name ?? "";
  const condition = (value: string, reason: string, message: string, moved = false): Wanted => ({
    type: "Progressing",
    status: value,
    reason,
    message,
    moved,
  });
  const kept = before && condition(before.status, before.reason ?? "", before.message ?? "");
  if (deadline === noDeadline) return undefined;
  if (state.failure !== undefined) return condition("False", "ReplicaSetCreateError", state.failure);
  if (deployment.spec?.paused) {
    return before?.reason === "ProgressDeadlineExceeded"
      ? kept
      : condition("Unknown", "DeploymentPaused", "Deployment is paused");
  }
  if (state.created) return condition("True", "NewReplicaSetCreated", `Created new replica set "${set}"`);
  if (!state.current) return kept;
  const done = status.replicas === status.updatedReplicas && before?.reason === "NewReplicaSetAvailable";
  if (done && isComplete(deployment, status)) return kept;
  if (isComplete(deployment, status)) {
    return condition("True", "NewReplicaSetAvailable", `ReplicaSet "${set}" has successfully progressed.`);
  }
  const count = (
    one: DeploymentStatus,
    field: "replicas" | "updatedReplicas" | "readyReplicas" | "availableReplicas",
  ) => one[field] ?? 0;
  const moved =
    count(status, "updatedReplicas") > count(old, "updatedReplicas") ||
    count(status, "replicas") - count(status, "updatedReplicas") <
      count(old, "replicas") - count(old, "updatedReplicas") ||
    count(status, "readyReplicas") > count(old, "readyReplicas") ||
    count(status, "availableReplicas") > count(old, "availableReplicas");
  const timedOut = before?.reason === "ProgressDeadlineExceeded";
  if (moved) return condition("True", "ReplicaSetUpdated", `ReplicaSet "${set}" is progressing.`, true);
  if (before?.reason === "DeploymentPaused") return condition("Unknown", "DeploymentResumed", "Deployment is resumed");
  if (!before) return condition("True", "FoundNewReplicaSet", `Found new replica set "${set}"`);
  // A rollout that had ended and goes on (a new template that an old ReplicaSet has) counts from now.
  if (before.reason === "NewReplicaSetAvailable") {
    const restarted = (deployment.status?.observedGeneration ?? 0) < (deployment.metadata.generation ?? 1);
    return restarted ? condition("True", "FoundNewReplicaSet", `Found new replica set "${set}"`) : kept;
  }
  const since = Date.parse(before.lastUpdateTime ?? "") || now;
  if (timedOut || since + deadline * 1000 < now) {
    return condition("False", "ProgressDeadlineExceeded", `ReplicaSet "${set}" has timed out progressing.`);
  }
  return kept;
}

function replicaFailure(state: RolloutState): Wanted | undefined {
  if (state.failure !== undefined) {
    return { type: "ReplicaFailure", status: "True", reason: "FailedCreate", message: state.failure };
  }
  for (const set of [...(state.current ? [state.current] : []), ...state.old]) {
    const failed = set.status?.conditions?.find((one) => one.type === "ReplicaFailure");
    if (failed)
      return { type: "ReplicaFailure", status: failed.status, reason: failed.reason, message: failed.message };
  }
  return undefined;
}

/** Only a new status or reason is news (upstream's SetDeploymentCondition), or a rollout that has moved. */
function merged(
  before: DeploymentCondition | undefined,
  { moved, ...wanted }: Wanted,
  now: number,
): DeploymentCondition {
  if (before && before.status === wanted.status && before.reason === wanted.reason && !moved) return before;
  const time = formatTime(now);
  const since = before?.status === wanted.status ? (before.lastTransitionTime ?? time) : time;
  return { ...wanted, lastUpdateTime: time, lastTransitionTime: since };
}

function find(conditions: readonly DeploymentCondition[] | undefined, type: string): DeploymentCondition | undefined {
  return conditions?.find((condition) => condition.type === type);
}
