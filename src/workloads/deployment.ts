// Deployments: carries out what `deployment-plan.ts` decides and writes what `deployment-status.ts` says. One pass makes one
// step; the next comes with the change that the step causes. Upstream: pkg/controller/deployment/deployment_controller.go.

import { semanticEqual } from "../api/data.ts";
import {
  type Deployment,
  type DeploymentStatus,
  Deployments,
  Pods,
  type ReplicaSet,
  ReplicaSets,
} from "../api/kinds.ts";
import { isStatusReason } from "../api/status-error.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { byAge, deploymentPlan, replicasOf, revisionAnnotation } from "./deployment-plan.ts";
import { deploymentStatus, untilDeadline } from "./deployment-status.ts";
import { recorder } from "./events.ts";
import { controllerOf, eachChange, type Objects } from "./objects.ts";
import { claim, ownersOf } from "./ownership.ts";
import { isFinished } from "./pods.ts";

export function startDeployments(objects: Objects): Disposable {
  const record = recorder(objects, "deployment-controller");
  const deployments = objects.of(Deployments);
  const sets = objects.of(ReplicaSets);
  const podsByController = objects.byController(Pods);

  const controller = startController({
    name: "deployment",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const deployment = deployments.get(key) as Deployment | undefined;
      if (!deployment || deployment.metadata.deletionTimestamp) return undefined;
      const owned = await claim(objects, ReplicaSets, Deployments, deployment, deployment.spec?.selector);
      const plan = deploymentPlan(deployment, owned, { oldPods: podsOfOthers(deployment, owned) });
      let current = plan.current;
      let failure: unknown;
      if (plan.create && current) {
        try {
          current = await objects.create(ReplicaSets, current);
          reportScale(deployment, current, 0, replicasOf(current));
        } catch (error) {
          failure = error;
          record(deployment, {
            type: "Warning",
            reason: "ReplicaSetCreateError",
            message: `Failed to create new replica set "${current.metadata.name}": ${messageOf(error)}`,
          });
        }
      }
      const written = await Promise.all(plan.update.map((set) => resize(deployment, set)));
      await Promise.all(
        plan.remove.map((set) => objects.delete(ReplicaSets, set, { propagationPolicy: "Background" })),
      );

      const now = objects.clock.now();
      const latest = new Map([...owned, ...written].map((set) => [set.metadata.name, set as ReplicaSet]));
      const name = current?.metadata.name;
      const status = deploymentStatus(
        deployment,
        {
          current: failure ? undefined : name === undefined ? undefined : (latest.get(name) ?? current),
          created: plan.create && !failure,
          old: [...latest.values()].filter((set) => set.metadata.name !== name).sort(byAge),
          ...(failure ? { failure: messageOf(failure) } : {}),
        },
        now,
      );
      const { revision = deployment.metadata.annotations?.[revisionAnnotation] } = plan;
      const same = revision === deployment.metadata.annotations?.[revisionAnnotation];
      if (!same || !semanticEqual(status, deployment.status)) await report(deployment, revision, status);
      if (failure && !isStatusReason(failure, "AlreadyExists")) throw failure;
      return untilDeadline(deployment, status, now);
    },
  });

  /** Pods, also those on their way out, of ReplicaSets other than the newest: Recreate waits until there is none. */
  function podsOfOthers(deployment: Deployment, owned: readonly ReplicaSet[]): number {
    if (deployment.spec?.strategy?.type !== "Recreate") return 0;
    const old = owned.filter((set) => replicasOf(set) === 0);
    return old.reduce(
      (total, set) => total + podsByController.where(set.metadata.uid ?? "").filter((pod) => !isFinished(pod)).length,
      0,
    );
  }

  /** The revision travels with the status, as upstream's does: there it is no change of what is wanted, and raises no generation. */
  async function report(deployment: Deployment, revision: string | undefined, status: DeploymentStatus): Promise<void> {
    const annotations = { ...deployment.metadata.annotations, ...(revision ? { [revisionAnnotation]: revision } : {}) };
    await objects.updateStatus(
      Deployments,
      { ...deployment, metadata: { ...deployment.metadata, annotations } },
      status,
    );
  }

  async function resize(deployment: Deployment, wanted: ReplicaSet): Promise<ReplicaSet> {
    const before = sets.get(`${wanted.metadata.namespace}/${wanted.metadata.name}`);
    const stored = await objects.update(ReplicaSets, wanted);
    if (before) reportScale(deployment, stored, replicasOf(before), replicasOf(stored));
    return stored;
  }

  function reportScale(deployment: Deployment, set: ReplicaSet, from: number, to: number): void {
    if (from === to) return;
    record(deployment, {
      type: "Normal",
      reason: "ScalingReplicaSet",
      message: `Scaled ${to > from ? "up" : "down"} replica set ${set.metadata.name} from ${from} to ${to}`,
    });
  }

  return disposeAll([
    controller,
    eachChange(deployments, (_deployment, { key }) => controller.enqueue(key)),
    eachChange(sets, (_set, change) => {
      for (const owner of ownersOf(objects, Deployments, change)) controller.enqueue(owner);
    }),
    // Recreate waits for pods to be gone, which no ReplicaSet's status tells in time.
    eachChange(objects.of(Pods), (pod, { after }) => {
      const set = after ? undefined : controllerOf(pod.metadata);
      if (set?.kind !== "ReplicaSet") return;
      const owner = sets.get(`${pod.metadata.namespace}/${set.name}`);
      const deployment = owner && controllerOf(owner.metadata);
      if (deployment?.kind === "Deployment") controller.enqueue(`${pod.metadata.namespace}/${deployment.name}`);
    }),
  ]);
}
