// Gives addresses of the load-balancer pool to LoadBalancer Services and Gateways, and writes them into the Services' status
// (the part of a cloud provider's service controller that is left when the "load balancer" is this machine). Gateways' statuses
// are written by their dialect, which reads the pool's collection.

import { type Gateway, type Service, Services } from "../api/kinds.ts";
import { type KubeObject, objectName, splitName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { type Derived, derive } from "../collections/derive.ts";
import { source } from "../collections/source.ts";
import type { Store } from "../store/store.ts";
import type { AddressAllocation, AddressOwner, LoadBalancerPool } from "./load-balancer-pool.ts";

/** The class of Services that are ours beside those that name none. */
export const loadBalancerClass = "fairlead.dev/load-balancer";

/** Somebody who should have an address. */
export interface AddressWant {
  readonly owner: AddressOwner;
  /** Asked for by the user; nothing else will do. */
  readonly wanted: string | undefined;
  /** What its status says it has: taken up again after a restart, where it is still free. */
  readonly held: string | undefined;
}

export function serviceOwner(name: string): AddressOwner {
  return `service/${name}`;
}

export function gatewayOwner(name: string): AddressOwner {
  return `gateway/${name}`;
}

/** Whether a Service's load balancer is this one. */
export function isOurs(service: Service): boolean {
  const { spec, metadata } = service;
  const ourClass = spec?.loadBalancerClass === undefined || spec.loadBalancerClass === loadBalancerClass;
  return spec?.type === "LoadBalancer" && ourClass && metadata.deletionTimestamp === undefined;
}

export function serviceWants(services: Collection<KubeObject>): Derived<AddressWant> {
  return derive(
    services as Collection<Service>,
    (service) =>
      isOurs(service)
        ? {
            owner: serviceOwner(objectName(service)),
            wanted: service.spec?.loadBalancerIP || undefined,
            held: service.status?.loadBalancer?.ingress?.[0]?.ip,
          }
        : undefined,
    { name: "addresses wanted by services", key: (want) => want.owner },
  );
}

/** One address for each Gateway; the first of `spec.addresses` that is an IP address is the one it wants. */
export function gatewayWants(gateways: Collection<KubeObject>): Derived<AddressWant> {
  const isAddress = (one: { readonly type?: string }) => (one.type ?? "IPAddress") === "IPAddress";
  return derive(
    gateways as Collection<Gateway>,
    (gateway) => ({
      owner: gatewayOwner(objectName(gateway)),
      wanted: gateway.spec?.addresses?.find(isAddress)?.value || undefined,
      held: gateway.status?.addresses?.find(isAddress)?.value,
    }),
    { name: "addresses wanted by gateways", key: (want) => want.owner },
  );
}

/** An owner that could not be given an address, and why. */
export interface AddressFailure {
  readonly owner: AddressOwner;
  readonly message: string;
}

/**
 * Keeps the pool's allocations as `wants` says. What is there at the start is taken up in two rounds, addresses that are in use
 * first, so `wants` should hold all kinds of owners (`union`) and be complete.
 */
export function keepAllocations(
  pool: LoadBalancerPool,
  wants: Collection<AddressWant>,
  log: Logger,
): { readonly failures: Collection<AddressFailure> } & Disposable {
  const failures = source<AddressFailure>("load-balancer address failures");
  const serve = (want: AddressWant) => {
    try {
      pool.request(want.owner, want.wanted ?? (pool.allocations.has(want.owner) ? undefined : adoptable(pool, want)));
      failures.delete(want.owner);
    } catch (error) {
      // A wish that cannot be met leaves the owner without an address rather than with another one.
      if (want.wanted !== undefined) pool.release(want.owner);
      if (failures.get(want.owner)?.message !== messageOf(error)) log.warn(messageOf(error), { owner: want.owner });
      failures.set(want.owner, { owner: want.owner, message: messageOf(error) });
    }
  };
  const subscription = wants.subscribe(
    (batch) => {
      for (const { before, after } of batch) {
        if (before && !after) {
          pool.release(before.owner);
          failures.delete(before.owner);
        }
      }
      const changed = batch.flatMap(({ after }) => (after ? [after] : []));
      const firm = (want: AddressWant) => want.wanted !== undefined || want.held !== undefined;
      for (const want of changed.filter(firm)) serve(want);
      for (const want of changed.filter((one) => !firm(one))) serve(want);
      // What was given back may be what somebody else waits for.
      if (batch.some(({ before, after }) => before && before.wanted !== after?.wanted)) {
        for (const { owner } of [...failures.values()]) {
          const want = wants.get(owner);
          if (want) serve(want);
        }
      }
    },
    { replay: true },
  );
  return {
    failures,
    dispose() {
      subscription.dispose();
      failures.dispose();
    },
  };
}

function adoptable(pool: LoadBalancerPool, want: AddressWant): string | undefined {
  if (want.held === undefined || pool.ownerOf(want.held) !== undefined) return undefined;
  return pool.contains(want.held) ? want.held : undefined;
}

/** A status that has to be written: the address, or none for what is no load balancer of ours any more. */
interface IngressPlan {
  readonly service: string;
  readonly address: string | undefined;
}

function ingressPlan(service: Service, allocation: AddressAllocation | undefined): IngressPlan | undefined {
  const now = service.status?.loadBalancer?.ingress ?? [];
  const key = objectName(service);
  if (isOurs(service)) {
    if (!allocation || (now.length === 1 && now[0]?.ip === allocation.address && now[0].ipMode === "VIP"))
      return undefined;
    return { service: key, address: allocation.address };
  }
  return service.spec?.type !== "LoadBalancer" && now.length > 0 ? { service: key, address: undefined } : undefined;
}

export interface ServiceStatusOptions {
  readonly services: Collection<KubeObject>;
  readonly pool: LoadBalancerPool;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Writes `status.loadBalancer` of Services; tries again, with growing pauses, what fails. */
export function startLoadBalancerStatus(options: ServiceStatusOptions): Disposable {
  const { pool, store, clock, log } = options;
  const plans = derive(
    options.services as Collection<Service>,
    (service, fetch) => ingressPlan(service, fetch.one(pool.allocations, serviceOwner(objectName(service)))),
    { name: "load-balancer statuses", key: (plan) => plan.service },
  );
  const attempts = new Map<string, number>();
  const timers = new Map<string, Disposable>();
  let disposed = false;

  async function write(key: string): Promise<void> {
    const plan = plans.get(key);
    if (!plan || disposed) return;
    const { namespace, name } = splitName(key);
    try {
      const service = await store.get({ resource: Services, name, ...(namespace ? { namespace } : {}) });
      if (service) {
        const ingress = plan.address === undefined ? {} : { ingress: [{ ip: plan.address, ipMode: "VIP" }] };
        await store.update(
          Services,
          { ...service, status: { ...service.status, loadBalancer: ingress } },
          { subresource: "status", fieldManager: "fairlead-load-balancer" },
        );
      }
      attempts.delete(key);
    } catch (error) {
      if (isStatusReason(error, "NotFound") || disposed) return;
      const attempt = attempts.get(key) ?? 0;
      attempts.set(key, attempt + 1);
      if (!isStatusReason(error, "Conflict")) {
        log.warn("a Service's load-balancer status was not written", { service: key, error: messageOf(error) });
      }
      timers.get(key)?.dispose();
      timers.set(
        key,
        clock.after(backoff(attempt, { initial: 50, max: 30_000 }), () => {
          timers.delete(key);
          void write(key);
        }),
      );
    }
  }

  const subscription = plans.subscribe(
    (batch) => {
      for (const { key, after } of batch) if (after) void write(key);
    },
    { replay: true },
  );
  return disposeAll([
    plans,
    subscription,
    {
      dispose() {
        disposed = true;
        for (const timer of timers.values()) timer.dispose();
      },
    },
  ]);
}
