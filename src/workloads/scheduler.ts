// The scheduler: binds each pod without a node to one. One pod after the other, since each decision counts for the next;
// who was placed but is not seen yet is waited for by the write itself. Pods of other schedulers (schedulerName) are left alone.

import {
  Namespaces,
  type Node,
  Nodes,
  PersistentVolumeClaims,
  type Pod,
  type PodCondition,
  Pods,
} from "../api/kinds.ts";
import { nameOf, objectName } from "../api/object.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { derive } from "../collections/derive.ts";
import { index } from "../collections/index.ts";
import { startController } from "./controller.ts";
import { recorder } from "./events.ts";
import { controllerOf, eachChange, type Objects } from "./objects.ts";
import type { PlacedPod } from "./pod-affinity.ts";
import { type Amounts, podRequests, sum } from "./pod-requests.ts";
import { isFinished, podCondition } from "./pods.ts";
import { type HostPortUse, hostPortsOf, type NodeLoad, place } from "./scheduling.ts";

export function startScheduler(objects: Objects): Disposable {
  const record = recorder(objects, "default-scheduler");
  const pods = objects.of(Pods);
  const nodes = objects.of(Nodes);
  const placements = derive(pods, placementOf, {
    name: "workloads/placements",
    key: (placement) => placement.key,
  });
  const byNode = index(placements, "workloads/placements/by-node", ({ node }) => [node]);
  const bySibling = index(placements, "workloads/placements/by-sibling", ({ node, owner }) => [`${node} ${owner}`]);
  const byPorts = index(placements, "workloads/placements/by-ports", ({ node, hostPorts }) =>
    hostPorts.length > 0 ? [node] : [],
  );
  const avoiding = index(placements, "workloads/placements/avoiding", ({ avoids }) =>
    avoids.length > 0 ? ["all"] : [],
  );
  const claims = objects.of(PersistentVolumeClaims);
  const namespaces = objects.of(Namespaces);
  /** What the pods of each node have asked for, kept up with each change. */
  const requested = new Map<string, Amounts>();
  const adding = placements.subscribe(
    (batch) => {
      for (const { before, after } of batch) {
        if (before) requested.set(before.node, sum(requested.get(before.node) ?? {}, negative(before.requests)));
        if (after) requested.set(after.node, sum(requested.get(after.node) ?? {}, after.requests));
      }
    },
    { replay: true },
  );
  const waiting = objects.indexed(Pods, "waiting-for-node", (pod: Pod) => (isWaiting(pod) ? ["all"] : []));

  const controller = startController({
    name: "scheduler",
    clock: objects.clock,
    log: objects.log,
    concurrency: 1,
    async reconcile(key) {
      const pod = pods.get(key) as Pod | undefined;
      if (!pod || !isWaiting(pod)) return undefined;
      const around = {
        placed: () => [...placements.values()],
        avoiding: avoiding.where("all"),
        namespaceLabels: (name: string) => namespaces.get(name)?.metadata.labels,
      };
      const placement = place(pod, loads(pod), around, unboundClaim(pod));
      if ("node" in placement) {
        const bound = await objects.bind(pod, placement.node);
        record(bound, {
          type: "Normal",
          reason: "Scheduled",
          message: `Successfully assigned ${key} to ${placement.node}`,
        });
        return undefined;
      }
      const before = podCondition(pod, "PodScheduled");
      if (before?.status === "False" && before.message === placement.unschedulable) return undefined;
      record(pod, { type: "Warning", reason: "FailedScheduling", message: placement.unschedulable });
      const condition: PodCondition = {
        type: "PodScheduled",
        status: "False",
        reason: "Unschedulable",
        message: placement.unschedulable,
        lastTransitionTime: before?.status === "False" ? before.lastTransitionTime : formatTime(objects.clock.now()),
      };
      const others = (pod.status?.conditions ?? []).filter((one) => one.type !== "PodScheduled");
      await objects.updateStatus(Pods, pod, { ...pod.status, conditions: [...others, condition] });
      return undefined;
    },
  });

  function loads(pod: Pod): readonly NodeLoad[] {
    const owner = controllerOf(pod.metadata)?.uid;
    return [...nodes.values()].map((node: Node) => {
      const { name } = node.metadata;
      return {
        node,
        pods: byNode.where(name).length,
        siblings: owner === undefined ? 0 : bySibling.where(`${name} ${owner}`).length,
        requested: requested.get(name) ?? {},
        hostPorts: byPorts.where(name).flatMap((placement) => placement.hostPorts),
      };
    });
  }

  /** What volumes keep the pod from every node (plugins VolumeBinding and VolumeRestrictions). */
  function unboundClaim(pod: Pod): string | undefined {
    for (const { persistentVolumeClaim } of pod.spec?.volumes ?? []) {
      if (!persistentVolumeClaim) continue;
      const { claimName } = persistentVolumeClaim;
      const claim = claims.get(nameOf(pod.metadata.namespace, claimName));
      if (!claim) return `persistentvolumeclaim "${claimName}" not found`;
      if (claim.metadata.deletionTimestamp) return `persistentvolumeclaim "${claimName}" is being deleted`;
      if (!claim.spec?.volumeName) return "pod has unbound immediate PersistentVolumeClaims";
    }
    return undefined;
  }

  const everyoneWaiting = () => {
    for (const pod of waiting.where("all")) controller.enqueue(objectName(pod));
  };

  return disposeAll([
    placements,
    adding,
    avoiding,
    byNode,
    bySibling,
    byPorts,
    controller,
    eachChange(pods, (pod, { key, after }) => {
      if (after && isWaiting(after)) controller.enqueue(key);
      // Somebody left: who found no place may have one now.
      else if (!after || isFinished(pod)) everyoneWaiting();
    }),
    eachChange(claims, everyoneWaiting),
    eachChange(nodes, (_node, { before, after }) => {
      if (!before || !after || placementFacts(before) !== placementFacts(after)) everyoneWaiting();
    }),
  ]);
}

/** What a pod that has a node takes of it. */
interface PodPlacement extends PlacedPod {
  readonly key: string;
  readonly owner: string;
  readonly requests: Amounts;
  readonly hostPorts: readonly HostPortUse[];
}

function negative(amounts: Amounts): Amounts {
  return Object.fromEntries(Object.entries(amounts).map(([name, amount]) => [name, -amount]));
}

function placementOf(pod: Pod): PodPlacement | undefined {
  const node = pod.spec?.nodeName;
  if (!node || isFinished(pod)) return undefined;
  return {
    key: objectName(pod),
    namespace: pod.metadata.namespace ?? "default",
    labels: pod.metadata.labels ?? {},
    node,
    leaving: pod.metadata.deletionTimestamp !== undefined,
    owner: controllerOf(pod.metadata)?.uid ?? "",
    requests: podRequests(pod),
    hostPorts: hostPortsOf(pod),
    avoids: pod.spec?.affinity?.podAntiAffinity?.requiredDuringSchedulingIgnoredDuringExecution ?? [],
  };
}

function isWaiting(pod: Pod): boolean {
  return (
    !pod.spec?.nodeName &&
    !isFinished(pod) &&
    pod.metadata.deletionTimestamp === undefined &&
    (pod.spec?.schedulerName ?? "default-scheduler") === "default-scheduler" &&
    (pod.spec?.schedulingGates?.length ?? 0) === 0
  );
}

/** What of a node decides about placement, so that its heartbeats do not. */
function placementFacts(node: Node): string {
  const ready = node.status?.conditions?.find((condition) => condition.type === "Ready")?.status;
  const { allocatable } = node.status ?? {};
  return JSON.stringify([ready, node.spec?.unschedulable, node.spec?.taints, node.metadata.labels, allocatable]);
}
