// The controllers of embedded mode, started together over one set of collections. Each can be started alone as well
// (`startDeployments(objects)`, …). A real cluster has its own; nothing of this room runs there.

import {
  ControllerRevisions,
  CronJobs,
  DaemonSets,
  Deployments,
  Jobs,
  Namespaces,
  Nodes,
  Pods,
  ReplicaSets,
  StatefulSets,
} from "../api/kinds.ts";
import { type Disposable, disposable } from "../base/disposal.ts";
import { startAutoscalers } from "./autoscaler.ts";
import { startCronJobs } from "./cron-job.ts";
import { startDaemonSets } from "./daemon-set.ts";
import { startDeployments } from "./deployment.ts";
import { startDisruptionBudgets } from "./disruption-budget.ts";
import { startEventExpiry } from "./events.ts";
import { collectedResources, startGarbageCollector } from "./garbage-collector.ts";
import { startJobs } from "./job.ts";
import { type NamespaceOptions, startNamespaces } from "./namespaces.ts";
import { startNodeTaints } from "./node-taints.ts";
import { Objects, type ObjectsOptions } from "./objects.ts";
import { startPodCleanup } from "./pod-cleanup.ts";
import { startReplicaSets } from "./replica-set.ts";
import { startScheduler } from "./scheduler.ts";
import { startStatefulSets } from "./stateful-set.ts";
import { startTaintEviction } from "./taint-eviction.ts";
import { type LocalVolumes, startVolumes } from "./volumes.ts";

export type WorkloadsOptions = ObjectsOptions &
  NamespaceOptions & {
    /** Where persistent volumes are; without it claims wait for somebody else. */
    readonly volumes?: LocalVolumes;
  };

export interface Workloads extends Disposable {
  /** Resolves when every controller has seen what is stored. */
  readonly ready: Promise<void>;
}

/** Starts all controllers of this room. They wait for the first lists, so that none acts on half of what is there. */
export function startWorkloads(options: WorkloadsOptions): Workloads {
  const objects = new Objects({ ...options, log: options.log.child("workloads") });
  const parts: Disposable[] = [];
  let ended = false;
  const kinds = [
    Deployments,
    ReplicaSets,
    StatefulSets,
    DaemonSets,
    Jobs,
    CronJobs,
    Pods,
    Nodes,
    Namespaces,
    ControllerRevisions,
  ];
  const ready = objects.ready([...kinds, ...collectedResources(options.store.resources())]).then(() => {
    if (ended) return;
    parts.push(
      startNamespaces(objects, options),
      startScheduler(objects),
      startReplicaSets(objects),
      startDeployments(objects),
      startStatefulSets(objects),
      startDaemonSets(objects),
      startJobs(objects),
      startCronJobs(objects),
      startDisruptionBudgets(objects),
      startAutoscalers(objects),
      startNodeTaints(objects),
      startTaintEviction(objects),
      startPodCleanup(objects),
      ...(options.volumes ? [startVolumes(objects, options.volumes)] : []),
      startEventExpiry(objects),
      startGarbageCollector(objects),
    );
  });
  return {
    ready,
    ...disposable(() => {
      ended = true;
      for (const part of parts.splice(0).reverse()) part.dispose();
      objects.dispose();
    }),
  };
}
