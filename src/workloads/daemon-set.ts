// DaemonSets: one pod on every node that takes it, placed by the scheduler through a node affinity on its name, and replaced
// a few at a time when the template changes. Upstream: pkg/controller/daemon (daemon_controller.go, update.go, util).

import { semanticEqual } from "../api/data.ts";
import {
  type ControllerRevision,
  type DaemonSet,
  type DaemonSetStatus,
  DaemonSets,
  type Node,
  Nodes,
  type Pod,
  Pods,
  type Toleration,
} from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { startController } from "./controller.ts";
import { share } from "./deployment-plan.ts";
import { recorder } from "./events.ts";
import { eachChange, type Objects } from "./objects.ts";
import { claim, ownersOf } from "./ownership.ts";
import { isActive, isAvailable, isFinished, isReady, nextAvailable, podFromTemplate } from "./pods.ts";
import { forgetOldRevisions, revisionHashLabel, syncRevisions, templateOf } from "./revisions.ts";
import { matchesNode, tolerates } from "./scheduling.ts";

/** A daemon's pod stays on a node in trouble (pkg/controller/daemon/util AddOrUpdateDaemonPodTolerations). */
const daemonTolerations: readonly Toleration[] = [
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/unreachable", operator: "Exists", effect: "NoExecute" },
  { key: "node.kubernetes.io/disk-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/memory-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/pid-pressure", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/unschedulable", operator: "Exists", effect: "NoSchedule" },
  { key: "node.kubernetes.io/not-ready", operator: "Exists", effect: "NoSchedule" },
];

/** The node that a pod is on or meant for. */
export function nodeOf(pod: Pod): string | undefined {
  if (pod.spec?.nodeName) return pod.spec.nodeName;
  const terms = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  return terms?.flatMap((term) => term.matchFields ?? []).find((field) => field.key === "metadata.name")?.values?.[0];
}

/** The pod for one node. */
export function daemonPod(set: DaemonSet, node: string, revision: ControllerRevision): KubeObject {
  const hash = revision.metadata.labels?.[revisionHashLabel] ?? "";
  const pod = podFromTemplate(DaemonSets, set, templateOf(revision), {
    labels: {
      [revisionHashLabel]: hash,
      "pod-template-generation": set.metadata.annotations?.["deprecated.daemonset.template.generation"] ?? "1",
    },
  });
  const affinity = pod.spec?.affinity ?? {};
  const matchFields = [{ key: "metadata.name", operator: "In", values: [node] }];
  const terms = affinity.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  const nodeSelectorTerms = terms ? terms.map((term: object) => ({ ...term, matchFields })) : [{ matchFields }];
  return {
    ...pod,
    spec: {
      ...pod.spec,
      affinity: {
        ...affinity,
        nodeAffinity: {
          ...affinity.nodeAffinity,
          requiredDuringSchedulingIgnoredDuringExecution: { nodeSelectorTerms },
        },
      },
      tolerations: [...(pod.spec?.tolerations ?? []), ...daemonTolerations],
    },
  };
}

/** Whether the set wants a pod on this node. */
export function wantsNode(set: DaemonSet, node: Node): boolean {
  const pod: Pod = {
    apiVersion: "v1",
    kind: "Pod",
    metadata: { name: "" },
    spec: {
      ...set.spec!.template.spec!,
      tolerations: [...(set.spec!.template.spec?.tolerations ?? []), ...daemonTolerations],
    },
  };
  const named = pod.spec?.nodeName;
  if (named && named !== node.metadata.name) return false;
  return (
    matchesNode(pod, node) &&
    (node.spec?.taints ?? []).every((taint) => taint.effect === "PreferNoSchedule" || tolerates(pod, taint))
  );
}

export interface DaemonSetPlan {
  /** Names of nodes to make a pod for. */
  readonly create: readonly string[];
  readonly remove: readonly Pod[];
}

/** `hash` is the newest revision's. `now` in milliseconds. */
export function daemonSetPlan(
  set: DaemonSet,
  nodes: readonly Node[],
  pods: readonly Pod[],
  hash: string,
  now: number,
): DaemonSetPlan {
  if (set.metadata.deletionTimestamp) return { create: [], remove: [] };
  const onNode = Map.groupBy(pods, (pod) => nodeOf(pod) ?? "");
  const wanted = nodes.filter((node) => wantsNode(set, node));
  const wantedNames = new Set(wanted.map((node) => node.metadata.name));
  const create: string[] = [];
  const remove: Pod[] = [];
  for (const [name, there] of onNode) if (!wantedNames.has(name)) remove.push(...there.filter(isActive));
  const replaceable: Pod[] = [];
  let unavailable = 0;
  for (const name of wantedNames) {
    const there = onNode.get(name) ?? [];
    remove.push(...there.filter((pod) => isFinished(pod) && pod.metadata.deletionTimestamp === undefined));
    const [keep, ...surplus] = there.filter(isActive).sort((a, b) => (a.metadata.name < b.metadata.name ? -1 : 1));
    remove.push(...surplus);
    if (!keep) {
      unavailable++;
      if (there.length === 0) create.push(name);
      continue;
    }
    const serves = isAvailable(keep, set.spec?.minReadySeconds ?? 0, now);
    const old = keep.metadata.labels?.[revisionHashLabel] !== hash;
    if (!serves && !old) unavailable++;
    if (old && set.spec?.updateStrategy?.type !== "OnDelete") {
      // One that does not serve costs nothing.
      if (serves) replaceable.push(keep);
      else {
        unavailable++;
        remove.push(keep);
      }
    }
  }
  const most = Math.max(
    1,
    share(set.spec?.updateStrategy?.rollingUpdate?.maxUnavailable ?? 1, wanted.length, Math.ceil),
  );
  remove.push(...replaceable.slice(0, Math.max(0, most - unavailable)));
  return { create, remove };
}

export function daemonSetStatus(
  set: DaemonSet,
  nodes: readonly Node[],
  pods: readonly Pod[],
  hash: string,
  now: number,
): DaemonSetStatus {
  const wanted = new Set(nodes.filter((node) => wantsNode(set, node)).map((node) => node.metadata.name));
  const active = pods.filter(isActive);
  const right = new Map<string, Pod>();
  let misscheduled = 0;
  for (const pod of active) {
    const node = nodeOf(pod) ?? "";
    if (wanted.has(node)) right.set(node, pod);
    else misscheduled++;
  }
  const placed = [...right.values()];
  const available = placed.filter((pod) => isAvailable(pod, set.spec?.minReadySeconds ?? 0, now)).length;
  const updated = placed.filter((pod) => pod.metadata.labels?.[revisionHashLabel] === hash).length;
  return {
    currentNumberScheduled: placed.length,
    numberMisscheduled: misscheduled,
    desiredNumberScheduled: wanted.size,
    numberReady: placed.filter(isReady).length,
    observedGeneration: set.metadata.generation ?? 1,
    ...(updated > 0 ? { updatedNumberScheduled: updated } : {}),
    ...(available > 0 ? { numberAvailable: available } : {}),
    ...(wanted.size > available ? { numberUnavailable: wanted.size - available } : {}),
  };
}

export function startDaemonSets(objects: Objects): Disposable {
  const record = recorder(objects, "daemonset-controller");
  const sets = objects.of(DaemonSets);
  const nodes = objects.of(Nodes);
  const podsByController = objects.byController(Pods);

  const controller = startController({
    name: "daemonset",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const set = sets.get(key) as DaemonSet | undefined;
      if (!set) return undefined;
      const pods = (await claim(objects, Pods, DaemonSets, set, set.spec?.selector)) as readonly Pod[];
      const { update, all } = await syncRevisions(objects, DaemonSets, set);
      const hash = update.metadata.labels?.[revisionHashLabel] ?? "";
      const nodeList = [...nodes.values()] as readonly Node[];
      const plan = daemonSetPlan(set, nodeList, pods, hash, objects.clock.now());
      await Promise.all([
        ...plan.remove.map(async (pod) => {
          await objects.delete(Pods, pod);
          record(set, { type: "Normal", reason: "SuccessfulDelete", message: `Deleted pod: ${pod.metadata.name}` });
        }),
        ...plan.create.map(async (node) => {
          const pod = await objects.create(Pods, daemonPod(set, node, update));
          record(set, { type: "Normal", reason: "SuccessfulCreate", message: `Created pod: ${pod.metadata.name}` });
        }),
      ]);
      const now = objects.clock.now();
      const shown = podsByController.where(set.metadata.uid ?? "") as readonly Pod[];
      const status = daemonSetStatus(set, nodeList, shown, hash, now);
      if (!semanticEqual(status, set.status)) await objects.updateStatus(DaemonSets, set, status);
      const hashes = new Set(shown.map((pod) => pod.metadata.labels?.[revisionHashLabel]));
      const live = all.filter((one) => one === update || hashes.has(one.metadata.labels?.[revisionHashLabel]));
      const names = new Set(live.map((one) => one.metadata.name));
      await forgetOldRevisions(objects, all, names, set.spec?.revisionHistoryLimit ?? 10);
      return nextAvailable(shown, set.spec?.minReadySeconds ?? 0, now);
    },
  });

  return disposeAll([
    controller,
    eachChange(sets, (_set, { key }) => controller.enqueue(key)),
    eachChange(nodes, (_node, { before, after }) => {
      if (before && after && semanticEqual(nodeFacts(before), nodeFacts(after))) return;
      for (const key of sets.keys()) controller.enqueue(key);
    }),
    eachChange(objects.of(Pods), (_pod, change) => {
      for (const owner of ownersOf(objects, DaemonSets, change)) controller.enqueue(owner);
    }),
  ]);
}

/** What of a node decides whether a daemon runs there. */
function nodeFacts(node: Node): unknown {
  return { labels: node.metadata.labels, taints: node.spec?.taints };
}
