// Pods that no node will ever finish: bound to a node that is no more, or being deleted before any node had them. They are
// removed here. Upstream: pkg/controller/podgc. Those of nodes that merely do not answer go by taints.

import { Nodes, type Pod, Pods } from "../api/kinds.ts";
import { splitName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { startController } from "./controller.ts";
import { eachChange, type Objects } from "./objects.ts";
import { isFinished } from "./pods.ts";
import { disruptionTarget } from "./taint-eviction.ts";

/** How long a node may be missing before its pods count as lost, in milliseconds (upstream's quarantine, shortened to this machine). */
const quarantine = 5_000;

export function startPodCleanup(objects: Objects): Disposable {
  const pods = objects.of(Pods);
  const nodes = objects.of(Nodes);
  const byNode = objects.indexed(Pods, "by-assigned-node", (pod: Pod) => [pod.spec?.nodeName ?? ""]);
  /** Since when a node that pods name is not there; kept only while it is missing. */
  const missingSince = new Map<string, number>();

  const controller = startController({
    name: "pod-cleanup",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const pod = pods.get(key) as Pod | undefined;
      if (!pod) return undefined;
      const node = pod.spec?.nodeName;
      if (!node) {
        if (pod.metadata.deletionTimestamp !== undefined) await remove(pod);
        return undefined;
      }
      if (nodes.has(node)) {
        missingSince.delete(node);
        return undefined;
      }
      const now = objects.clock.now();
      const since = missingSince.get(node) ?? now;
      missingSince.set(node, since);
      if (now - since < quarantine) return since + quarantine - now;
      if (await objects.store.get({ resource: Nodes, ...splitName(node) })) return undefined;
      if (!isFinished(pod)) {
        const status = disruptionTarget(pod, "DeletionByPodGC", "PodGC: node no longer exists", now);
        await objects.updateStatus(Pods, pod, { ...status, phase: "Failed" });
      }
      await remove(pod);
      return undefined;
    },
  });

  async function remove(pod: Pod): Promise<void> {
    try {
      await objects.delete(Pods, pod, { gracePeriodSeconds: 0 });
    } catch (error) {
      if (!isStatusReason(error, "NotFound")) throw error;
    }
  }

  return disposeAll([
    controller,
    eachChange(pods, (pod, { key, after }) => {
      if (!after) return;
      const node = pod.spec?.nodeName;
      if (node ? !nodes.has(node) : after.metadata.deletionTimestamp !== undefined) controller.enqueue(key);
    }),
    eachChange(nodes, (node, { after }) => {
      if (after) {
        missingSince.delete(node.metadata.name);
        return;
      }
      for (const pod of byNode.where(node.metadata.name))
        controller.enqueue(`${pod.metadata.namespace}/${pod.metadata.name}`);
    }),
  ]);
}
