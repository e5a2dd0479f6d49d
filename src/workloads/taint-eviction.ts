// Pods leave nodes with NoExecute taints that they do not tolerate: at once, or after the seconds that they tolerate. Upstream:
// pkg/controller/tainteviction/taint_eviction.go.

import { type Node, Nodes, type Pod, Pods, type Taint, type Toleration } from "../api/kinds.ts";
import { objectName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { startController } from "./controller.ts";
import { recorder } from "./events.ts";
import { eachChange, type Objects } from "./objects.ts";
import { isFinished } from "./pods.ts";
import { toleratesTaint } from "./scheduling.ts";

/**
 * Milliseconds that a pod may stay on a node with these taints: 0 when one is not tolerated, infinity when all are for ever.
 * The shortest of the tolerations that are used counts.
 */
export function mayStay(pod: Pod, taints: readonly Taint[]): number {
  const used: Toleration[] = [];
  for (const taint of taints.filter(({ effect }) => effect === "NoExecute")) {
    const matching = (pod.spec?.tolerations ?? []).filter((one) => toleratesTaint(one, taint));
    if (matching.length === 0) return 0;
    used.push(...matching);
  }
  const seconds = used.flatMap(({ tolerationSeconds }) => (tolerationSeconds === undefined ? [] : [tolerationSeconds]));
  return seconds.length === 0 ? Number.POSITIVE_INFINITY : Math.max(0, Math.min(...seconds)) * 1000;
}

/** The status of a pod that is about to be taken away by a controller (KEP-3329). */
export function disruptionTarget(pod: Pod, reason: string, message: string, now: number): NonNullable<Pod["status"]> {
  const others = (pod.status?.conditions ?? []).filter(({ type }) => type !== "DisruptionTarget");
  const condition = { type: "DisruptionTarget", status: "True", lastTransitionTime: formatTime(now), reason, message };
  return { ...pod.status, conditions: [...others, condition as (typeof others)[number]] };
}

export function startTaintEviction(objects: Objects): Disposable {
  const record = recorder(objects, "taint-eviction-controller");
  const pods = objects.of(Pods);
  const nodes = objects.of(Nodes);
  const byNode = objects.indexed(Pods, "by-assigned-node", (pod: Pod) => [pod.spec?.nodeName ?? ""]);
  /** Since when a pod is to go, when its taints do not say it. */
  const since = new Map<string, number>();

  const controller = startController({
    name: "taint-eviction",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const pod = pods.get(key) as Pod | undefined;
      const node = pod?.spec?.nodeName ? (nodes.get(pod.spec.nodeName) as Node | undefined) : undefined;
      const taints = (node?.spec?.taints ?? []).filter(({ effect }) => effect === "NoExecute");
      if (!pod || taints.length === 0 || pod.metadata.deletionTimestamp !== undefined || isFinished(pod)) {
        if (since.delete(key) && pod && taints.length === 0 && pod.metadata.deletionTimestamp === undefined) {
          const message = `Cancelling deletion of Pod ${key}`;
          record(pod, { type: "Normal", reason: "TaintManagerEviction", message });
        }
        return undefined;
      }
      const now = objects.clock.now();
      const stay = mayStay(pod, taints);
      if (stay === Number.POSITIVE_INFINITY) {
        since.delete(key);
        return undefined;
      }
      const added = Math.max(...taints.map(({ timeAdded }) => Date.parse(timeAdded ?? "") || 0));
      const begun = since.get(key) ?? (added > 0 ? added : now);
      since.set(key, begun);
      if (begun + stay > now) return begun + stay - now;
      await evict(pod, now);
      since.delete(key);
      return undefined;
    },
  });

  async function evict(pod: Pod, now: number): Promise<void> {
    const message = `Marking for deletion Pod ${objectName(pod)}`;
    record(pod, { type: "Normal", reason: "TaintManagerEviction", message });
    const why = "Taint manager: deleting due to NoExecute taint";
    try {
      await objects.updateStatus(Pods, pod, disruptionTarget(pod, "DeletionByTaintManager", why, now));
      await objects.delete(Pods, pod);
    } catch (error) {
      if (!isStatusReason(error, "NotFound")) throw error;
    }
  }

  const facts = (node: Node) => JSON.stringify(node.spec?.taints ?? []);
  return disposeAll([
    controller,
    eachChange(pods, (pod: Pod, { key, before, after }) => {
      if (!after) since.delete(key);
      else if (pod.spec?.nodeName && before?.spec?.nodeName !== pod.spec.nodeName) controller.enqueue(key);
    }),
    eachChange(nodes, (node: Node, { before, after }) => {
      if (before && after && facts(before) === facts(after)) return;
      if (!after || facts(after) === (before ? facts(before) : "[]")) return;
      for (const pod of byNode.where(node.metadata.name)) controller.enqueue(objectName(pod));
    }),
  ]);
}
