// The pod network made of Linux network namespaces: the edge that runs what `plan.ts` says, lists it in `made.ts` before, and
// takes it away again. Needs root. Node 1 is joined to the host by one link; nothing else of the host changes.

import { existsSync, mkdirSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { UserError } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
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
import { hostRoutes, type IpBatch, runBatch, runBatches } from "./ip.ts";
import { MadeList } from "./made.ts";
import { fabricNetns, hostLink, isPodNetns, netnsEtcFolder, netnsPath, nodeNetns, podNetns } from "./names.ts";
import {
  fabricBatch,
  fabricLinksBatch,
  fabricRulesBatches,
  hostBatch,
  hostJoinBatch,
  hostServicesBatch,
  nodeBatch,
  nodePlace,
  nodeRoutesBatch,
  podBatch,
  podLinksBatch,
} from "./plan.ts";
import { checkRanges } from "./ranges.ts";
import { findByName, removeLeftovers } from "./removal.ts";
import { fabricSettings, nodeSettings, podSettings, writeSettings } from "./sysctl.ts";

export interface NetnsNetworkOptions {
  /** A DNS label; part of every name on the host. */
  readonly stack: string;
  /** Where the list of what was made is kept. */
  readonly stateDir: string;
  /** One of each family, the primary one first. */
  readonly ranges: readonly NetworkRanges[];
  readonly log: Logger;
}

/** Whether this process may make namespaces here; otherwise the reason, for one line to the user. */
export function netnsSupport(): { readonly ok: true } | { readonly ok: false; readonly reason: string } {
  if (process.platform !== "linux")
    return { ok: false, reason: `network namespaces need Linux, not ${process.platform}` };
  if (process.getuid?.() !== 0) return { ok: false, reason: "network namespaces need root" };
  if (!Bun.which("ip")) return { ok: false, reason: "the program `ip` (package iproute2) is not installed" };
  return { ok: true };
}

/** Removes everything under this stack's name, with no state in hand. */
export async function removeByName(stack: string): Promise<void> {
  await removeLeftovers(findByName(stack));
}

export class NetnsNetwork implements PodNetwork {
  readonly kind = "netns";
  readonly ranges: readonly NetworkRanges[];
  readonly #stack: string;
  readonly #made: MadeList;
  readonly #log: Logger;
  readonly #nodes = new Map<string, NodePlace>();
  readonly #pods = new Map<string, { netns: string; sandbox: PodSandbox }>();

  constructor(options: NetnsNetworkOptions) {
    this.ranges = options.ranges;
    this.#stack = options.stack;
    this.#made = new MadeList(join(options.stateDir, "network"));
    this.#log = options.log;
  }

  async ensureNodes(names: readonly string[]): Promise<readonly NodePlace[]> {
    const stack = this.#stack;
    const link = hostLink(stack);
    const places = names.map((name, index) => nodePlace(this.ranges, name, index));
    const first = places[0];
    if (!first) throw new UserError("a network needs at least one node");
    checkRanges(this.ranges, await hostRoutes(), link);

    const fabric = fabricNetns(stack);
    const fabricThere = this.#isThere(fabric);
    const fresh = places.filter((place) => !fabricThere || !this.#isThere(nodeNetns(stack, place.name)));
    const freshNames = fresh.map((place) => nodeNetns(stack, place.name));
    const hostThere = fabricThere && this.#made.isComplete("link", link) && existsSync(`/sys/class/net/${link}`);
    const making = [...(fabricThere ? [] : [fabric]), ...freshNames];
    // Pods lose their links with their node: what was made for a node that is made anew is made anew as well.
    const known = new Set(this.#made.all().map(({ name }) => name));
    if (!fabricThere || freshNames.some((name) => known.has(name))) await this.#remove(this.#podNetns());

    await this.#makeNetns(making);
    if (!fabricThere) writeSettings(netnsPath(fabric), fabricSettings);
    for (const name of freshNames) writeSettings(netnsPath(name), nodeSettings);
    if (!hostThere) {
      this.#made.willMake("link", [link]);
      if (existsSync(`/sys/class/net/${link}`)) await runBatch({ netns: undefined, lines: [`link del ${link}`] });
    }
    const fabricLines = [
      ...(fabricThere ? [] : fabricBatch(stack, this.ranges, first).lines),
      ...fabricLinksBatch(stack, fresh, places).lines,
    ];
    // The links first, from both ends that are not nodes; then what the nodes say about them.
    await Promise.all([
      runBatch({ netns: fabric, lines: fabricLines }),
      hostThere ? undefined : runBatch(hostBatch(stack, this.ranges, first)),
    ]);
    await runBatches([
      ...(hostThere ? [] : [hostJoinBatch(stack, this.ranges)]),
      ...(fresh.length > 0 ? fabricRulesBatches(stack, this.ranges, places.length) : []),
      ...places.map((place): IpBatch => {
        const parts = [
          fresh.includes(place) ? nodeBatch(stack, this.ranges, place, place === first) : undefined,
          fresh.length > 0 ? nodeRoutesBatch(stack, this.ranges, place, places) : undefined,
        ];
        return { netns: nodeNetns(stack, place.name), lines: parts.flatMap((part) => part?.lines ?? []) };
      }),
    ]);
    this.#made.completed("netns", making);
    if (!hostThere) this.#made.completed("link", [link]);
    for (const place of places) this.#nodes.set(place.name, place);
    return places;
  }

  async addPods(pods: readonly PodSandbox[]): Promise<void> {
    const stack = this.#stack;
    const own: PodSandbox[] = [];
    for (const pod of pods) {
      const node = this.#nodes.get(pod.node);
      if (!node) throw new UserError(`Pod ${pod.namespace}/${pod.name}: there is no node ${pod.node}`);
      this.#pods.set(pod.uid, {
        netns: pod.hostNetwork ? nodeNetns(stack, pod.node) : podNetns(stack, pod),
        sandbox: pod.hostNetwork ? { ...pod, addresses: node.addresses } : pod,
      });
      if (!pod.hostNetwork) own.push(pod);
    }
    const fresh = own.filter((pod) => !this.#isThere(podNetns(stack, pod)));
    if (fresh.length > 0) {
      const names = fresh.map((pod) => podNetns(stack, pod));
      await this.#makeNetns(names);
      for (const name of names) writeSettings(netnsPath(name), podSettings);
      const byNode = Map.groupBy(fresh, (pod) => pod.node);
      await runBatches([...byNode].map(([node, list]) => podLinksBatch(stack, this.#nodes.get(node)!, list)));
      await runBatches(fresh.map((pod) => podBatch(stack, this.#nodes.get(pod.node)!, pod)));
      this.#made.completed("netns", names);
    }
    for (const pod of pods) this.#writeEtc(pod);
  }

  async removePods(uids: readonly string[]): Promise<void> {
    const names: string[] = [];
    for (const uid of uids) {
      const pod = this.#pods.get(uid);
      this.#pods.delete(uid);
      if (pod?.sandbox.hostNetwork) await this.#removeEtc(podNetns(this.#stack, pod.sandbox));
      else if (pod) names.push(pod.netns);
    }
    await this.#remove(names);
  }

  pods(): readonly string[] {
    return [...this.#pods.keys()];
  }

  /** Removes the sandboxes of pods that no longer exist, after a restart: all but those of `keep`. */
  async removePodsExcept(keep: readonly { readonly uid: string; readonly name: string }[]): Promise<void> {
    const kept = new Set(keep.map((pod) => podNetns(this.#stack, pod)));
    await this.#remove(this.#podNetns().filter((name) => !kept.has(name)));
  }

  place(target: NetworkTarget): Place | undefined {
    if ("node" in target) {
      const node = this.#nodes.get(target.node);
      return node && { netns: netnsPath(nodeNetns(this.#stack, node.name)), addresses: node.addresses };
    }
    const pod = this.#pods.get(target.pod);
    return pod && { netns: netnsPath(pod.netns), addresses: pod.sandbox.addresses };
  }

  async routeServices(ranges: readonly string[]): Promise<readonly string[]> {
    const first = this.#nodes.values().next().value;
    if (!first) return [];
    const { batch, problems } = hostServicesBatch(this.#stack, this.ranges, first, ranges, await hostRoutes());
    if (batch.lines.length > 0) await runBatch(batch);
    return problems;
  }

  loadBalancerNetns(): string | undefined {
    const first = this.#nodes.keys().next().value;
    return first === undefined ? undefined : netnsPath(nodeNetns(this.#stack, first));
  }

  async runOutside(argv: readonly string[], options?: RunOptions): Promise<CommandResult> {
    return runCommand(["ip", "netns", "exec", fabricNetns(this.#stack), ...argv], options);
  }

  effectivePort(port: number): number {
    return port;
  }

  command(target: NetworkTarget, argv: readonly string[]): string[] {
    const name =
      "node" in target
        ? this.#nodes.has(target.node) && nodeNetns(this.#stack, target.node)
        : this.#pods.get(target.pod)?.netns;
    if (!name) {
      throw new UserError(
        "node" in target ? `there is no node ${target.node}` : `the pod ${target.pod} has no network yet`,
      );
    }
    const inside = ["ip", "netns", "exec", name];
    const pod = "pod" in target ? this.#pods.get(target.pod)?.sandbox : undefined;
    const own = pod?.hostNetwork && join(netnsEtcFolder, podNetns(this.#stack, pod), "resolv.conf");
    if (!own || !existsSync(own)) return [...inside, ...argv];
    // The node's namespace has the host's file; in the command's own mount namespace the pod's lies over it.
    return [...inside, "/bin/sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"', own, ...argv];
  }

  async run(target: NetworkTarget, argv: readonly string[], options?: RunOptions): Promise<CommandResult> {
    return runCommand(this.command(target, argv), options);
  }

  async remove(): Promise<void> {
    const found = findByName(this.#stack);
    const made = this.#made.all();
    const listed = (kind: string) => made.filter((one) => one.kind === kind).map((one) => one.name);
    await removeLeftovers({
      netns: [...new Set([...found.netns, ...listed("netns")])],
      links: [...new Set([...found.links, ...listed("link")])],
      folders: [...new Set([...found.folders, ...listed("folder")])],
    });
    this.#nodes.clear();
    this.#pods.clear();
    this.#made.delete();
  }

  /** The namespaces of pods, those that are only listed included. */
  #podNetns(): string[] {
    const names = new Set(findByName(this.#stack).netns);
    for (const { kind, name } of this.#made.all()) if (kind === "netns") names.add(name);
    return [...names].filter((name) => isPodNetns(this.#stack, name));
  }

  /** Makes namespaces anew; what an interrupted start left half-made goes first. */
  async #makeNetns(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    const half = names.filter((name) => existsSync(netnsPath(name)));
    if (half.length > 0) {
      this.#log.info("half-made namespaces are made anew", { namespaces: half });
      await removeLeftovers({ netns: half, links: [], folders: [] });
    }
    this.#made.willMake("netns", names);
    await runBatch({ netns: undefined, lines: names.map((name) => `netns add ${name}`) });
  }

  async #remove(names: readonly string[]): Promise<void> {
    if (names.length === 0) return;
    const folders = names.map((name) => join(netnsEtcFolder, name));
    await removeLeftovers({ netns: names, links: [], folders });
    this.#made.removed("netns", names);
    this.#made.removed("folder", folders);
  }

  async #removeEtc(name: string): Promise<void> {
    const folders = [join(netnsEtcFolder, name)].filter((folder) => existsSync(folder));
    if (folders.length === 0) return;
    await removeLeftovers({ netns: [], links: [], folders });
    this.#made.removed("folder", folders);
  }

  #isThere(name: string): boolean {
    return this.#made.isComplete("netns", name) && isNamespace(netnsPath(name));
  }

  #writeEtc(pod: PodSandbox): void {
    if (pod.resolvConf === undefined && pod.hosts === undefined) return;
    const folder = join(netnsEtcFolder, podNetns(this.#stack, pod));
    if (!existsSync(folder)) {
      this.#made.willMake("folder", [folder]);
      mkdirSync(folder, { recursive: true });
    }
    if (pod.resolvConf !== undefined) writeFileSync(join(folder, "resolv.conf"), pod.resolvConf);
    if (pod.hosts !== undefined) writeFileSync(join(folder, "hosts"), pod.hosts);
  }
}

/** Whether a namespace is mounted here; after a reboot the file may be gone, after a crash an empty file may be left. */
function isNamespace(path: string): boolean {
  try {
    return statSync(path).dev !== statSync("/run/netns").dev;
  } catch {
    return false;
  }
}
