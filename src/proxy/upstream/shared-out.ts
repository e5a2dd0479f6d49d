// A backend as one of several workers on the same ports sees it: what bounds the load on its endpoints is shared out evenly, so that
// all workers together keep to about what was said. Bounds of each connection, and shares of a worker's own requests, stay.

import type { Backend } from "../../model/model.ts";
import type { Limits, RetryBudget } from "../../model/upstream-policies.ts";

const counted = ["connections", "pending", "requests", "retries", "idleConnections"] as const;

/** Each worker has at least 1 of what is not 0. The same object where there is nothing to be shared out. */
export function sharedOut(backend: Backend, workers: number): Backend {
  const { limits, retryBudget, warm } = backend;
  if (workers === 1 || (!limits && !retryBudget && !warm?.connections)) return backend;
  const share = (all: number) => Math.ceil(all / workers);
  return {
    ...backend,
    ...(limits ? { limits: sharedLimits(limits, share) } : {}),
    ...(retryBudget ? { retryBudget: sharedBudget(retryBudget, workers) } : {}),
    ...(warm?.connections ? { warm: { ...warm, connections: share(warm.connections) } } : {}),
  };
}

function sharedLimits(limits: Limits, share: (all: number) => number): Limits {
  const shared = counted.flatMap((name) => (limits[name] === undefined ? [] : [[name, share(limits[name])]]));
  return { ...limits, ...Object.fromEntries(shared) };
}

/** Its percentage is of a worker's own requests already; its floor is not. */
function sharedBudget(budget: RetryBudget, workers: number): RetryBudget {
  return budget.kind === "ratio"
    ? { ...budget, minPerSecond: budget.minPerSecond / workers }
    : { ...budget, minimum: Math.ceil(budget.minimum / workers) };
}
