// `pods/eviction`: a deletion that PodDisruptionBudgets have a say in (pkg/registry/core/pod/storage EvictionREST). A
// budget that covers the pod must allow one more disruption, and that one is taken from it in the same transaction.

import type { KubeObject } from "../../api/object.ts";
import { matchesLabelSelector } from "../../api/selectors.ts";
import { StatusError } from "../../api/status-error.ts";
import type { DeleteOptions, ObjectKey } from "../store.ts";
import { type Deletion, deleteObject } from "./delete.ts";
import { begin, type Engine, finish, notFound } from "./engine.ts";

const budgets = "poddisruptionbudgets.policy";

export function evictPod(engine: Engine, key: ObjectKey, options: DeleteOptions): Deletion {
  const transaction = begin(engine);
  const pod = transaction.get("pods", key.namespace, key.name);
  if (!pod) throw notFound(key.resource, key.name);
  // What does not run, or is going already, is no disruption.
  const runs = pod.status?.phase === "Running" || pod.status?.phase === "Unknown";
  if (runs && pod.metadata.deletionTimestamp === undefined) {
    const covering = transaction
      .list(budgets, key.namespace)
      .filter((budget) => matchesLabelSelector(budget.spec?.selector, pod.metadata.labels));
    if (covering.length > 1) {
      throw new StatusError(
        500,
        "InternalError",
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.",
      );
    }
    const [budget] = covering;
    if (budget && !mayGoAnyway(pod, budget)) {
      const resource = engine.scheme.byKey(budgets)!;
      transaction.put(budgets, withOneLess(engine, budget, key.name));
      finish(engine, transaction, { resource, namespace: key.namespace, name: budget.metadata.name }, options.dryRun);
    }
  }
  markAsTarget(engine, key, options.dryRun);
  return deleteObject(engine, key, options);
}

/** A pod that is not ready: its budget's policy may let it go without counting it (KEP-3017). */
function mayGoAnyway(pod: KubeObject, budget: KubeObject): boolean {
  const conditions: readonly { type: string; status: string }[] = pod.status?.conditions ?? [];
  if (conditions.some(({ type, status }) => type === "Ready" && status === "True")) return false;
  if (budget.spec?.unhealthyPodEvictionPolicy === "AlwaysAllow") return true;
  const { currentHealthy = 0, desiredHealthy = 0 } = budget.status ?? {};
  return desiredHealthy > 0 && currentHealthy >= desiredHealthy;
}

/** The condition that says why the pod goes, for whoever counts its failure (KEP-3329). */
function markAsTarget(engine: Engine, key: ObjectKey, dryRun: boolean | undefined): void {
  const transaction = begin(engine);
  const pod = transaction.get("pods", key.namespace, key.name);
  if (!pod || pod.metadata.deletionTimestamp !== undefined) return;
  const conditions: readonly { type: string }[] = pod.status?.conditions ?? [];
  const condition = {
    type: "DisruptionTarget",
    status: "True",
    lastTransitionTime: timeNow(engine),
    reason: "EvictionByEvictionAPI",
    message: "Eviction API: evicting",
  };
  const others = conditions.filter(({ type }) => type !== condition.type);
  transaction.put("pods", { ...pod, status: { ...pod.status, conditions: [...others, condition] } });
  finish(engine, transaction, key, dryRun);
}

function timeNow(engine: Engine): string {
  return new Date(engine.clock.now()).toISOString().replace(/\.\d+Z$/, "Z");
}

function withOneLess(engine: Engine, budget: KubeObject, pod: string): KubeObject {
  const allowed: number = budget.status?.disruptionsAllowed ?? 0;
  const processed = (budget.status?.observedGeneration ?? 0) >= (budget.metadata.generation ?? 0);
  if (allowed <= 0 || !processed) {
    throw new StatusError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", {
      ...(processed ? {} : { retryAfterSeconds: 10 }),
      causes: [
        {
          reason: "DisruptionBudget",
          message: !processed
            ? `The disruption budget ${budget.metadata.name} is still being processed by the server.`
            : `The disruption budget ${budget.metadata.name} needs ${budget.status?.desiredHealthy ?? 0} healthy pods and has ${budget.status?.currentHealthy ?? 0} currently`,
        },
      ],
    });
  }
  return {
    ...budget,
    status: {
      ...budget.status,
      disruptionsAllowed: allowed - 1,
      disruptedPods: {
        ...budget.status?.disruptedPods,
        [pod]: timeNow(engine),
      },
    },
  };
}
