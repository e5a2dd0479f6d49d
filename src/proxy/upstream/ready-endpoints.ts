// A backend's next endpoints made ready beside those that it has, in steps, so that thousands of them do not hold requests up. Changes
// nothing that is live: `backend.ts` takes what comes of it in one step.

import type { Steps } from "../../base/steps.ts";
import type { Endpoint, Endpoints } from "../../model/model.ts";
import type { EndpointPool } from "./pool.ts";

/** All endpoints by address and port, and how they differ from those before. */
export interface ReadyEndpoints {
  readonly pools: Map<string, EndpointPool>;
  readonly fresh: readonly EndpointPool[];
  readonly changed: readonly (readonly [EndpointPool, Endpoint])[];
  readonly gone: readonly EndpointPool[];
}

/** Pools of endpoints that stay are kept. Of an endpoint that is there twice the last counts. */
export function* readyEndpoints(
  { endpoints }: Endpoints,
  before: ReadonlyMap<string, EndpointPool>,
  make: (endpoint: Endpoint) => EndpointPool,
): Steps<ReadyEndpoints> {
  const pools = new Map<string, EndpointPool>();
  const fresh: EndpointPool[] = [];
  const changed: [EndpointPool, Endpoint][] = [];
  const gone: EndpointPool[] = [];
  let steps = 0;
  for (const endpoint of endpoints) {
    if (++steps % 16 === 0) yield;
    const key = `${endpoint.address} ${endpoint.port}`;
    const twice = pools.has(key);
    let pool = pools.get(key) ?? before.get(key);
    if (!pool) {
      pool = make(endpoint);
      place(pool, endpoint);
      fresh.push(pool);
    } else if (twice || differs(pool, endpoint)) changed.push([pool, endpoint]);
    pools.set(key, pool);
  }
  for (const [key, pool] of before) {
    if (++steps % 64 === 0) yield;
    if (!pools.has(key)) gone.push(pool);
  }
  return { pools, fresh, changed, gone };
}

/** Of nothing. */
export function noEndpoints(before: ReadonlyMap<string, EndpointPool>): ReadyEndpoints {
  return { pools: new Map(), fresh: [], changed: [], gone: [...before.values()] };
}

export function place(pool: EndpointPool, { weight, priority = 0, zone }: Endpoint): void {
  pool.weight = weight;
  pool.priority = priority;
  pool.zone = zone;
}

function differs(pool: EndpointPool, { weight, priority = 0, zone }: Endpoint): boolean {
  return pool.weight !== weight || pool.priority !== priority || pool.zone !== zone;
}
