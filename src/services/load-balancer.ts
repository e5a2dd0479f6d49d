// Gives addresses of the load-balancer pools, one of each family, to LoadBalancer Services and Gateways, and writes them into the Services' status
// (the part of a cloud provider's service controller that is left when the "load balancer" is this machine). Gateways' statuses
// are written by their dialect, which reads the pool's collection.

import { type Gateway, type Service, Services } from "../api/kinds.ts";
import { type KubeObject, objectName, splitName } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { type IpFamily, ipFamily } from "../base/ip.ts";
import type { Logger } from "../base/log.ts";
import type { Change, Collection } from "../collections/collection.ts";
import { type Derived, derive } from "../collections/derive.ts";
import type { Graph } from "../collections/graph.ts";
import { source } from "../collections/source.ts";
import type { Store } from "../store/store.ts";
import type { AddressOwner, LoadBalancerPool } from "./load-balancer-pool.ts";

/** The class of Services that are ours beside those that name none. */
export const loadBalancerClass = "fairlead.dev/load-balancer";

/** Somebody who should have an address, or one of each of several families. */
export interface AddressWant {
  readonly owner: AddressOwner;
  readonly families: readonly FamilyWant[];
}

export interface FamilyWant {
  /** The primary one of the stack unless given. */
  readonly family: IpFamily | undefined;
  /** Asked for by the user; nothing else will do. */
  readonly wanted: string | undefined;
  /** What its status says it has: taken up again after a restart, where it is still free. */
  readonly held: string | undefined;
}

/** What an owner has; `address` is the first one. */
export interface AddressAllocation {
  readonly owner: AddressOwner;
  readonly address: string;
  /** In the order of the families that it wants. */
  readonly addresses: readonly string[];
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
  return derive(services as Collection<Service>, (service) => (isOurs(service) ? serviceWant(service) : undefined), {
    name: "addresses wanted by services",
    key: (want) => want.owner,
  });
}

/** One address for each family of the Service; `loadBalancerIP` is the wish for its own family's. */
function serviceWant(service: Service): AddressWant {
  const { ipFamilies = ["IPv4"], loadBalancerIP } = service.spec ?? {};
  const wanted = loadBalancerIP || undefined;
  const families = ipFamilies.map((name): IpFamily => (name === "IPv6" ? 6 : 4));
  const wishes = families.find((family) => family === ipFamily(wanted ?? "")) ?? families[0];
  const held = (service.status?.loadBalancer?.ingress ?? []).flatMap(({ ip }) => (ip ? [ip] : []));
  return {
    owner: serviceOwner(objectName(service)),
    families: families.map((family) => ({
      family,
      wanted: family === wishes ? wanted : undefined,
      held: held.find((address) => ipFamily(address) === family),
    })),
  };
}

/** One address for each Gateway; the first of `spec.addresses` that is an IP address is the one it wants. */
export function gatewayWants(gateways: Collection<KubeObject>): Derived<AddressWant> {
  const isAddress = (one: { readonly type?: string }) => (one.type ?? "IPAddress") === "IPAddress";
  return derive(
    gateways as Collection<Gateway>,
    (gateway) => {
      const wanted = gateway.spec?.addresses?.find(isAddress)?.value || undefined;
      const held = gateway.status?.addresses?.find(isAddress)?.value;
      return {
        owner: gatewayOwner(objectName(gateway)),
        families: [{ family: wanted === undefined ? undefined : ipFamily(wanted), wanted, held }],
      };
    },
    { name: "addresses wanted by gateways", key: (want) => want.owner },
  );
}

/** An owner that could not be given an address, and why. */
export interface AddressFailure {
  readonly owner: AddressOwner;
  readonly message: string;
}

export interface Allocations extends Disposable {
  /** By owner. */
  readonly allocations: Collection<AddressAllocation>;
  /** Who lacks an address that it wants, and why. */
  readonly failures: Collection<AddressFailure>;
}

/**
 * Gives out the pools' addresses as `wants` says; the first pool is of the stack's primary family. What is there at the start is
 * taken up in two rounds, addresses that are in use first, so `wants` should hold all kinds of owners (`union`) and be complete.
 */
export function keepAllocations(
  pools: readonly LoadBalancerPool[],
  wants: Collection<AddressWant>,
  log: Logger,
  graph?: Graph,
): Allocations {
  const options = graph ? { graph } : {};
  const allocations = source<AddressAllocation>("load-balancer addresses", options);
  const failures = source<AddressFailure>("load-balancer address failures", options);

  function serve({ owner, families }: AddressWant): void {
    const problems: string[] = [];
    const addresses: string[] = [];
    const used = new Set<LoadBalancerPool>();
    for (const want of families) {
      const pool = pools.find(({ family }) => want.family === undefined || family === want.family);
      if (!pool) {
        problems.push(`${owner}: this stack has no load-balancer range of IPv${want.family}`);
        continue;
      }
      used.add(pool);
      try {
        const adopted = pool.addressOf(owner) === undefined ? adoptable(pool, want.held) : undefined;
        addresses.push(pool.request(owner, want.wanted ?? adopted));
      } catch (error) {
        // A wish that cannot be met leaves the owner without an address rather than with another one.
        if (want.wanted !== undefined) pool.release(owner);
        problems.push(messageOf(error));
      }
    }
    for (const pool of pools) if (!used.has(pool)) pool.release(owner);
    const [address] = addresses;
    if (address === undefined) allocations.delete(owner);
    else allocations.set(owner, { owner, address, addresses });
    const message = problems.join("; ");
    if (message === "") failures.delete(owner);
    else if (failures.get(owner)?.message !== message) {
      log.warn(message, { owner });
      failures.set(owner, { owner, message });
    }
  }

  function release(owner: AddressOwner): void {
    for (const pool of pools) pool.release(owner);
    allocations.delete(owner);
    failures.delete(owner);
  }

  const wishes = (want: AddressWant | undefined) => want?.families.map(({ wanted }) => wanted).join();
  const subscription = wants.subscribe(
    (batch) => {
      for (const { before, after } of batch) if (before && !after) release(before.owner);
      const changed = batch.flatMap(({ after }) => (after ? [after] : []));
      const firm = ({ families }: AddressWant) => families.some(({ wanted, held }) => (wanted ?? held) !== undefined);
      for (const want of changed.filter(firm)) serve(want);
      for (const want of changed.filter((one) => !firm(one))) serve(want);
      // What was given back may be what somebody else waits for.
      const givesBack = ({ before, after }: Change<AddressWant>) =>
        before && (wishes(before) !== wishes(after) || before.families.length > (after?.families.length ?? 0));
      if (batch.some(givesBack)) {
        for (const { owner } of [...failures.values()]) {
          const want = wants.get(owner);
          if (want) serve(want);
        }
      }
    },
    { replay: true },
  );
  return { allocations, failures, ...disposeAll([subscription, allocations, failures]) };
}

function adoptable(pool: LoadBalancerPool, held: string | undefined): string | undefined {
  if (held === undefined || pool.ownerOf(held) !== undefined) return undefined;
  return pool.contains(held) ? held : undefined;
}

/** A status that has to be written: the addresses, or none for what is no load balancer of ours any more. */
interface IngressPlan {
  readonly service: string;
  readonly addresses: readonly string[];
}

function ingressPlan(service: Service, allocation: AddressAllocation | undefined): IngressPlan | undefined {
  const now = service.status?.loadBalancer?.ingress ?? [];
  const key = objectName(service);
  if (isOurs(service)) {
    const addresses = allocation?.addresses ?? [];
    const isSo =
      now.length === addresses.length && now.every(({ ip, ipMode }, at) => ip === addresses[at] && ipMode === "VIP");
    return isSo || addresses.length === 0 ? undefined : { service: key, addresses };
  }
  return service.spec?.type !== "LoadBalancer" && now.length > 0 ? { service: key, addresses: [] } : undefined;
}

export interface ServiceStatusOptions {
  readonly services: Collection<KubeObject>;
  readonly allocations: Collection<AddressAllocation>;
  readonly store: Store;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Writes `status.loadBalancer` of Services; tries again, with growing pauses, what fails. */
export function startLoadBalancerStatus(options: ServiceStatusOptions): Disposable {
  const { allocations, store, clock, log } = options;
  const plans = derive(
    options.services as Collection<Service>,
    (service, fetch) => ingressPlan(service, fetch.one(allocations, serviceOwner(objectName(service)))),
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
        const ingress =
          plan.addresses.length === 0 ? {} : { ingress: plan.addresses.map((ip) => ({ ip, ipMode: "VIP" })) };
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
