// The pod network for people without privileges: every node, pod, Service and load balancer is an address of 127.0.0.0/8, all of
// which are local on Linux. There is no isolation, and clients appear with the address 127.0.0.1. Nothing is made
// on the machine, so that there is nothing to remove.

import { addressAt, formatCidr, parseCidr, subCidr } from "../../base/cidr.ts";
import { UserError } from "../../base/errors.ts";
import {
  type CommandResult,
  type NetworkRanges,
  type NetworkTarget,
  type NodePlace,
  type Place,
  type PodNetwork,
  type PodSandbox,
  type RunOptions,
  runCommand,
} from "../network.ts";
import { lowPortsAllowed, movedPort } from "./low-ports.ts";

export interface LoopbackNetworkOptions {
  /** One, within 127.0.0.0/8: the only IPv6 address that every machine has is ::1. */
  readonly ranges: readonly NetworkRanges[];
  /** Whether ports below 1024 may be had; found out by trying unless given. */
  readonly lowPortsAllowed?: boolean;
}

/** Throws a UserError for ranges that this network cannot have. */
export function checkLoopbackRanges(families: readonly NetworkRanges[]): void {
  for (const [what, text] of families.flatMap((ranges) => Object.entries(ranges))) {
    const cidr = parseCidr(text);
    if (cidr?.family === 4 && addressAt(cidr, 0).startsWith("127.") && cidr.prefix >= 8) continue;
    if (cidr?.family === 6) {
      throw new UserError(
        `the ${what} range ${text}: the loopback network has no IPv6, whose only loopback address is ::1`,
        {
          remedy: "use --network netns (as root), or leave IPv6 out",
          exitCode: 2,
        },
      );
    }
    throw new UserError(`the ${what} range ${text} is not within 127.0.0.0/8`, {
      remedy: "choose one there, or use --network netns",
      exitCode: 2,
    });
  }
}

export class LoopbackNetwork implements PodNetwork {
  readonly kind = "loopback";
  readonly ranges: readonly NetworkRanges[];
  readonly #lowPorts: boolean;
  readonly #nodes = new Map<string, NodePlace>();
  readonly #pods = new Map<string, readonly string[]>();

  constructor(options: LoopbackNetworkOptions) {
    this.ranges = options.ranges;
    checkLoopbackRanges(this.ranges);
    const nodes = parseCidr(this.ranges[0]!.nodes)!;
    this.#lowPorts = options.lowPortsAllowed ?? lowPortsAllowed(addressAt(nodes, nodes.size - 2n));
  }

  async ensureNodes(names: readonly string[]): Promise<readonly NodePlace[]> {
    const nodes = parseCidr(this.ranges[0]!.nodes)!;
    const pods = parseCidr(this.ranges[0]!.pods)!;
    const places = names.map((name, index): NodePlace => {
      try {
        return {
          name,
          addresses: [addressAt(nodes, index + 1)],
          podRanges: [formatCidr(subCidr(pods, 24, index))],
        };
      } catch (error) {
        throw new UserError(`there is no room for node number ${index + 1}: ${(error as Error).message}`);
      }
    });
    for (const place of places) this.#nodes.set(place.name, place);
    return places;
  }

  async addPods(pods: readonly PodSandbox[]): Promise<void> {
    for (const pod of pods) {
      const node = this.#nodes.get(pod.node);
      if (!node) throw new UserError(`Pod ${pod.namespace}/${pod.name}: there is no node ${pod.node}`);
      this.#pods.set(pod.uid, pod.hostNetwork ? node.addresses : pod.addresses);
    }
  }

  async removePods(uids: readonly string[]): Promise<void> {
    for (const uid of uids) this.#pods.delete(uid);
  }

  async removePodsExcept(keep: readonly { readonly uid: string; readonly name: string }[]): Promise<void> {
    const kept = new Set(keep.map(({ uid }) => uid));
    for (const uid of [...this.#pods.keys()]) if (!kept.has(uid)) this.#pods.delete(uid);
  }

  pods(): readonly string[] {
    return [...this.#pods.keys()];
  }

  place(target: NetworkTarget): Place | undefined {
    const addresses = "node" in target ? this.#nodes.get(target.node)?.addresses : this.#pods.get(target.pod);
    return addresses && { netns: undefined, addresses };
  }

  /** Addresses of 127.0.0.0/8 are there anyway; others cannot be served without privileges. */
  async routeServices(ranges: readonly string[]): Promise<readonly string[]> {
    const beyond = ranges.filter((range) => !(range.startsWith("127.") && parseCidr(range)?.family === 4));
    return beyond.map((range) => `${range}: the loopback network serves only addresses of 127.0.0.0/8`);
  }

  loadBalancerNetns(): undefined {
    return undefined;
  }

  effectivePort(port: number): number {
    return movedPort(port, this.#lowPorts);
  }

  command(target: NetworkTarget, argv: readonly string[]): string[] {
    if (!this.place(target)) {
      throw new UserError(
        "node" in target ? `there is no node ${target.node}` : `the pod ${target.pod} has no network yet`,
      );
    }
    return [...argv];
  }

  async run(target: NetworkTarget, argv: readonly string[], options?: RunOptions): Promise<CommandResult> {
    return runCommand(this.command(target, argv), options);
  }

  async remove(): Promise<void> {
    this.#nodes.clear();
    this.#pods.clear();
  }
}
