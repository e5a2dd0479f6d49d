// The addresses of LoadBalancer Services and Gateways in one IP family: one range, one address an owner. An address that was given back is not
// given out again before the whole range has been gone through, so that clients which still remember it do not reach somebody
// else. Who wants one is decided in `load-balancer.ts`.

import { addressAt, type Cidr, formatCidr, offsetOf, parseCidr } from "../base/cidr.ts";
import { UserError } from "../base/errors.ts";
import { canonicalAddress, type IpFamily } from "../base/ip.ts";

/** `service/shop/cart` or `gateway/shop/web`. */
export type AddressOwner = string;

export interface LoadBalancerPool {
  readonly range: string;
  readonly family: IpFamily;
  /**
   * The owner's address: the one it has, the wanted one, or the next free one. Throws a UserError when the wanted one is outside
   * of the range or somebody else's, and when none is free. A different wanted address replaces the one it has.
   */
  request(owner: AddressOwner, wanted?: string): string;
  release(owner: AddressOwner): void;
  ownerOf(address: string): AddressOwner | undefined;
  addressOf(owner: AddressOwner): string | undefined;
  /** Whether the range has this address to give. */
  contains(address: string): boolean;
}

/** Throws a UserError for what is no range. */
export function loadBalancerPool(text: string): LoadBalancerPool {
  const cidr = parseCidr(text);
  if (!cidr) {
    throw new UserError(`load-balancer range ${text}: not a range of addresses`, {
      remedy: "use one such as 10.97.0.0/16",
    });
  }
  const { first, last } = usable(cidr);
  const owners = new Map<string, AddressOwner>();
  const held = new Map<AddressOwner, string>();
  let cursor = first;

  function next(): string | undefined {
    if (owners.size > last - first) return undefined;
    for (let step = 0; step <= last - first; step++) {
      const offset = cursor + step > last ? cursor + step - (last - first + 1) : cursor + step;
      const address = addressAt(cidr!, offset);
      if (owners.has(address)) continue;
      cursor = offset === last ? first : offset + 1;
      return address;
    }
    return undefined;
  }

  function inRange(address: string): boolean {
    const offset = offsetOf(cidr!, address);
    return offset !== undefined && offset >= first && offset <= last;
  }

  function checkWanted(owner: AddressOwner, wanted: string): void {
    if (!inRange(wanted)) {
      throw new UserError(
        `${owner}: the address ${wanted} is outside of the load-balancer range ${formatCidr(cidr!)}`,
        {
          remedy: "ask for an address of the range, or for none",
        },
      );
    }
    const other = owners.get(wanted);
    if (other !== undefined && other !== owner) {
      throw new UserError(`${owner}: the address ${wanted} is taken by ${other}`, {
        remedy: "ask for another, or for none",
      });
    }
  }

  function give(owner: AddressOwner, address: string): string {
    const before = held.get(owner);
    if (before !== undefined) owners.delete(before);
    owners.set(address, owner);
    held.set(owner, address);
    // After a restart the addresses that were in use are adopted first: what is given out now comes after them.
    const offset = Number(offsetOf(cidr!, address)!);
    if (offset >= cursor) cursor = offset === last ? first : offset + 1;
    return address;
  }

  return {
    range: formatCidr(cidr),
    family: cidr.family,
    request(owner, asked) {
      const wanted = asked === undefined ? undefined : canonicalAddress(asked);
      const now = held.get(owner);
      if (now !== undefined && (wanted === undefined || wanted === now)) return now;
      if (wanted !== undefined) {
        checkWanted(owner, wanted);
        return give(owner, wanted);
      }
      const address = next();
      if (address === undefined) {
        const count = last - first + 1;
        throw new UserError(
          `${owner}: no load-balancer address is free: all ${count} of ${formatCidr(cidr)} are taken`,
          { remedy: "delete what is not needed, or start with a larger range" },
        );
      }
      return give(owner, address);
    },
    release(owner) {
      const address = held.get(owner);
      if (address === undefined) return;
      held.delete(owner);
      owners.delete(address);
    },
    ownerOf: (address) => owners.get(canonicalAddress(address)),
    addressOf: (owner) => held.get(owner),
    contains: inRange,
  };
}

/** Offsets that may be given out: not the network's own address, and in IPv4 not the broadcast address. */
function usable(cidr: Cidr): { first: number; last: number } {
  const size = Number(cidr.size < 2n ** 40n ? cidr.size : 2n ** 40n);
  if (size < 4) return { first: 0, last: size - 1 };
  return { first: 1, last: cidr.family === 4 ? size - 2 : size - 1 };
}
