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
  const running = pod.status?.phase !== "Succeeded" && pod.status?.phase !== "Failed";
  if (running && pod.spec?.nodeName) {
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
    if (budget) {
      const resource = engine.scheme.byKey(budgets)!;
      transaction.put(budgets, withOneLess(engine, budget, key.name));
      finish(engine, transaction, { resource, namespace: key.namespace, name: budget.metadata.name }, options.dryRun);
    }
  }
  return deleteObject(engine, key, options);
}

function withOneLess(engine: Engine, budget: KubeObject, pod: string): KubeObject {
  const allowed: number = budget.status?.disruptionsAllowed ?? 0;
  if (allowed <= 0) {
    throw new StatusError(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.", {
      causes: [
        {
          reason: "DisruptionBudget",
          message: `The disruption budget ${budget.metadata.name} needs ${budget.status?.desiredHealthy ?? 0} healthy pods and has ${budget.status?.currentHealthy ?? 0} currently`,
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
        [pod]: new Date(engine.clock.now()).toISOString().replace(/\.\d+Z$/, "Z"),
      },
    },
  };
}
