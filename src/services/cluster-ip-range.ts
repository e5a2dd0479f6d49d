// One family's range of ClusterIPs. An address is taken when there is an IPAddress object of its name, which is written and
// removed in the transaction that writes the Service (pkg/registry/core/service/ipallocator, KEP-1880), or when the Service that
// had it is still there (one that waits for its finalizers).

import type { IPAddress, Service } from "../api/kinds.ts";
import { objectName, splitName } from "../api/object.ts";
import { addressAt, type Cidr, formatCidr, offsetOf, parseCidr } from "../base/cidr.ts";
import { canonicalAddress as canonical } from "../base/ip.ts";
import type { TransactionView } from "../store/admission.ts";
import type { FamilyName } from "./objects.ts";
import { RandomRange, staticBand } from "./random-range.ts";
import { defaultServiceCidr, readyCondition, serviceCidrFinalizer, serviceCidrsKey } from "./service-cidrs.ts";

export interface ServiceCidrs {
  /** The range that Services without a wish get their address from, `10.96.0.0/16`. */
  readonly serviceCidr: string;
  /** The range of the other family, in a dual-stack cluster. */
  readonly secondaryServiceCidr?: string;
}

const addresses = "ipaddresses.networking.k8s.io";

/** Of a large IPv6 range only so many addresses are given out. */
const mostAddresses = 2 ** 40;

export class ClusterIpRange {
  readonly family: FamilyName;
  readonly cidr: string;
  readonly #cidr: Cidr;
  readonly #range: RandomRange;
  readonly #owners = new Map<string, string>();
  #started = false;

  /** Throws a RangeError for what is no range, or one without room. */
  constructor(text: string, random?: () => number) {
    const cidr = parseCidr(text);
    if (!cidr) throw new RangeError(`Service range ${text}: not a range of addresses such as 10.96.0.0/16`);
    if (cidr.family === 6 && cidr.prefix < 64) {
      throw new RangeError(`Service range ${text}: shortest allowed prefix length for service CIDR is 64`);
    }
    this.#cidr = cidr;
    this.cidr = formatCidr(cidr);
    this.family = cidr.family === 4 ? "IPv4" : "IPv6";
    // Without the network's own address, and in IPv4 without the broadcast address.
    const usable = Math.min(Number(cidr.size), mostAddresses) - (cidr.family === 4 ? 2 : 1);
    if (usable < 1) throw new RangeError(`Service range ${text}: too small to hold a Service`);
    this.#range = new RandomRange(usable, staticBand(Number(cidr.size), 16, 256), random);
  }

  /** Learns, once, what is taken. */
  start(view: TransactionView): void {
    if (this.#started) return;
    for (const object of view.list(addresses)) this.#hint(object.metadata.name);
    for (const service of view.list("services") as readonly Service[]) {
      for (const address of service.spec?.clusterIPs ?? []) this.#remember(address, objectName(service));
    }
    this.#started = true;
  }

  /** Why an address that was asked for cannot be had; undefined when it can. */
  refuse(address: string, view: TransactionView): string | undefined {
    const offset = offsetOf(this.#cidr, address);
    if (offset === undefined) return "the provided network does not match the current range";
    if (offset === 0n || (this.#cidr.family === 4 && offset === this.#cidr.size - 1n)) {
      return `the provided IP (${address}) is not in the valid range. The range of valid IPs is ${this.cidr}`;
    }
    return this.#isTaken(view, address) ? "provided IP is already allocated" : undefined;
  }

  /** A free address, picked at random; undefined when there is none. */
  pick(view: TransactionView): string | undefined {
    const offset = this.#range.pick((at) => !this.#isTaken(view, addressAt(this.#cidr, at + 1)));
    return offset === undefined ? undefined : addressAt(this.#cidr, offset + 1);
  }

  take(address: string, service: Service, view: TransactionView): void {
    this.#remember(address, objectName(service));
    view.put(addresses, addressObject(address, service));
  }

  /** Whether an address is of this range. */
  contains(address: string): boolean {
    return offsetOf(this.#cidr, address) !== undefined;
  }

  #remember(address: string, owner: string): void {
    if (offsetOf(this.#cidr, address) === undefined) return;
    this.#hint(address);
    this.#owners.set(canonical(address), owner);
  }

  #isTaken(view: TransactionView, address: string): boolean {
    const name = canonical(address);
    if (view.get(addresses, undefined, name) !== undefined) return true;
    const owner = this.#owners.get(name);
    if (owner === undefined) return false;
    const service = splitName(owner);
    const holder = view.get("services", service.namespace, service.name) as Service | undefined;
    if (holder?.spec?.clusterIPs?.some((one) => canonical(one) === name)) return true;
    this.#owners.delete(name);
    return false;
  }

  #hint(address: string): void {
    const offset = offsetOf(this.#cidr, address);
    if (offset !== undefined && offset > 0n) this.#range.hint(Number(offset) - 1);
  }

  /** Writes the range into the cluster's own ServiceCIDR where it is missing. */
  announce(view: TransactionView): void {
    const now = view.get(serviceCidrsKey, undefined, defaultServiceCidr);
    const listed: readonly string[] = now?.spec?.cidrs ?? [];
    if (listed.includes(this.cidr)) return;
    const time = `${new Date().toISOString().slice(0, 19)}Z`;
    view.put(serviceCidrsKey, {
      ...now,
      apiVersion: "networking.k8s.io/v1",
      kind: "ServiceCIDR",
      metadata: { finalizers: [serviceCidrFinalizer], ...now?.metadata, name: defaultServiceCidr },
      spec: { cidrs: [...listed, this.cidr] },
      status: now?.status ?? {
        conditions: [readyCondition("Kubernetes default Service CIDR is ready", time)],
      },
    });
  }
}

/** The object that stands for a taken address. */
export function addressObject(address: string, service: Service): IPAddress {
  const { namespace, name } = service.metadata;
  return {
    apiVersion: "networking.k8s.io/v1",
    kind: "IPAddress",
    metadata: {
      name: canonical(address),
      labels: {
        "ipaddress.kubernetes.io/ip-family": address.includes(":") ? "IPv6" : "IPv4",
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
      },
    },
    spec: { parentRef: { group: "", resource: "services", ...(namespace ? { namespace } : {}), name } },
  };
}

/** Removes an address's object, where it is this Service's. */
export function releaseAddress(address: string, service: Service, view: TransactionView): void {
  const parent = view.get(addresses, undefined, canonical(address))?.spec?.parentRef;
  if (parent?.name !== service.metadata.name || parent?.namespace !== service.metadata.namespace) return;
  view.remove(addresses, undefined, canonical(address));
}
