// The nodes of an embedded stack: the network, and on each node its Service rules, its stand-ins and its agent. Started in two
// steps, because the network can be made while the API server starts.

import { join } from "node:path";
import project from "../../package.json" with { type: "json" };
import type { Pod } from "../api/kinds.ts";
import type { Clock } from "../base/clock.ts";
import type { AsyncDisposable, Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { IpFamily } from "../base/ip.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import type { Distribution } from "../distribution/distribution.ts";
import { hostResolvConf, resolvConf } from "../dns/resolv-conf.ts";
import { type NodeAgent, startNodeAgent } from "../node/agent.ts";
import { type ConntrackCleaner, startConntrackCleaner } from "../node/conntrack/cleaner.ts";
import { type UdpService, udpServices } from "../node/conntrack/udp-services.ts";
import type { HostPorts } from "../node/host-ports/host-ports.ts";
import { kernelHostPorts } from "../node/host-ports/kernel.ts";
import { userspaceHostPorts } from "../node/host-ports/userspace.ts";
import { type LoadBalancer, startLoadBalancer } from "../node/load-balancer/load-balancer.ts";
import { LoopbackNetwork } from "../node/loopback/loopback-network.ts";
import { listeningPorts } from "../node/netns/listeners.ts";
import { fabricNetns, netnsPath } from "../node/netns/names.ts";
import { NetnsNetwork } from "../node/netns/netns-network.ts";
import { type NftEvents, nftEvents } from "../node/netns/nft-events.ts";
import { writeSettings } from "../node/netns/sysctl.ts";
import type { NodePlace, PodNetwork } from "../node/network.ts";
import type { Run } from "../node/service-rules.ts";
import { StandInProcess } from "../node/standin/stand-ins.ts";
import { endpointsChangedAt } from "../services/changed-at.ts";
import { eventRecorder } from "../services/events.ts";
import { serviceTable } from "../services/node-table.ts";
import type { SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { dnsAddress } from "./dns-service.ts";
import { endpointsGone, type NodeRules, type RulesOfFamily } from "./endpoints-gone.ts";
import { kernelRules, tellsChanges } from "./kernel-rules.ts";
import { startNodeHealth } from "./node-health.ts";
import { watchNodePortUse } from "./node-port-use.ts";
import type { StackObjects } from "./objects.ts";
import type { Pipeline } from "./pipeline.ts";
import { conntrackSettings } from "./proxy-flags.ts";
import { familiesOfRanges } from "./ranges-from-options.ts";
import { followServiceRanges } from "./service-ranges.ts";
import type { StackPaths, StackSettings } from "./stack.ts";
import { userspaceRules } from "./userspace-rules.ts";

export interface MadeNetwork {
  readonly network: PodNetwork;
  readonly places: readonly NodePlace[];
}

/** Makes the network, or takes up what is there. */
export async function makeNetwork(settings: StackSettings, paths: StackPaths, log: Logger): Promise<MadeNetwork> {
  const { name: stack, ranges } = settings;
  const network: PodNetwork =
    settings.network === "netns"
      ? new NetnsNetwork({ stack, stateDir: paths.runtime, ranges, log })
      : new LoopbackNetwork({ ranges });
  const names = Array.from({ length: settings.nodes }, (_, at) => `node-${at + 1}`);
  return { network, places: await network.ensureNodes(names) };
}

/** Where a node's agent keeps its pods' files and logs. */
export function nodeDirectory(paths: StackPaths, node: string): string {
  return join(paths.directory, "nodes", node);
}

export interface NodesOptions extends MadeNetwork {
  readonly settings: StackSettings;
  readonly paths: StackPaths;
  readonly store: SqliteStore;
  readonly objects: StackObjects;
  readonly pipeline: Pipeline;
  readonly distribution: Distribution;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface StackNode {
  readonly place: NodePlace;
  readonly rules: NodeRules;
  readonly standIns: StandInProcess;
  readonly agent: NodeAgent;
}

export interface StackNodes extends AsyncDisposable {
  readonly all: readonly StackNode[];
  /** The ranges that Service addresses come from now. */
  serviceRanges(): readonly string[];
  /** What is refused of the nodes' rules, in words that begin with the node's name. */
  ruleProblems(): readonly string[];
  /** Resolves when the rules of every node are as their tables say now. */
  settled(): Promise<void>;
}

export async function startNodes(options: NodesOptions): Promise<StackNodes> {
  const { settings, paths, store, objects, pipeline, network, places, distribution, clock, log } = options;
  const changedAt = endpointsChangedAt(pipeline.inputs);
  const told = await tellsChanges(settings.proxyMode, runOn(network, places[0]!));
  const rules = places.map((place) => {
    const table = serviceTable(pipeline.inputs, place.name);
    const own = log.child("rules", { node: place.name });
    const sink =
      settings.proxyMode === "userspace"
        ? userspaceRules(options, place, table, own)
        : kernelRules({
            ...{ settings, network, place, table, changedAt, told, clock, log: own },
            run: runOn(network, place),
          });
    // Its settings are there once rules use connection tracking.
    void sink.settled().then(() => setConntrack(options, place));
    return { table, sink };
  });
  const serviceRanges = followServiceRanges({
    serviceCidrs: objects.serviceCidrs,
    own: settings.ranges.map(({ services }) => services),
    network,
    changed: (ranges) => {
      for (const { sink } of rules) sink.serviceCidrs?.(ranges);
    },
    log: log.child("service ranges"),
  });
  const udp = udpServices(pipeline.inputs.resolved);
  const cleaners =
    settings.network === "netns"
      ? places.flatMap((place, at) =>
          rules[at]!.sink.families.map((family) => cleaner(options, udp, place, rules[at]!, family)),
        )
      : [];
  const health = places.map((place, at) =>
    startNodeHealth({
      ...{ settings, network, place, objects, clock, rules: rules[at]! },
      log: log.child("health", { node: place.name }),
      record: eventRecorder({ store, clock, log, component: "kube-proxy", host: place.name }),
    }),
  );
  const nodePortUse =
    settings.network === "netns" ? places.map((place, at) => nodePortWatch(options, place, rules[at]!)) : [];
  const balancer = await loadBalancer(options, rules);
  const gone = endpointsGone({ nodes: rules, endpoints: pipeline.model.endpoints, distribution, clock });
  const nameservers = settings.ranges.map(({ services }) => dnsAddress(services));
  const toolTells = await tellsChanges(ruleTool(settings), runOn(network, places[0]!));
  const ports = places.map((place) => hostPorts(options, place, toolTells));
  const all = await Promise.all(
    places.map(async (place, at): Promise<StackNode> => {
      const standIns = new StandInProcess({
        node: place.name,
        stateDir: paths.runtime,
        logDir: paths.logs,
        log,
        clock,
      });
      standIns.start();
      const agent = await startNodeAgent({
        place,
        ...zoneOf(settings, at),
        version: `v${project.version}`,
        store,
        pods: objects.pods,
        sources: objects,
        network,
        standIns,
        hostPorts: ports[at]!,
        commands: settings.images,
        stateDir: nodeDirectory(paths, place.name),
        workingDir: settings.workingDirectory,
        clock,
        log,
        resolvConf: (pod) => resolvConf(pod, { nameservers, host: hostResolvConf() }),
        endpointsGone: async (pod: Pod) => {
          await Promise.all((pod.status?.podIPs ?? []).map(({ ip }) => gone(ip)));
          await balancer?.settled();
        },
      });
      return { place, rules: rules[at]!, standIns, agent };
    }),
  );
  return {
    all,
    serviceRanges: () => serviceRanges.now(),
    ruleProblems: () =>
      places.flatMap(({ name }, at) => rules[at]!.sink.problems().map((problem) => `${name}: ${problem}`)),
    settled: async () => {
      await serviceRanges.settled();
      await Promise.all(rules.map(({ sink }) => sink.settled()));
      await Promise.all([balancer?.settled(), ...cleaners.map((one) => one.settled())]);
    },
    async dispose() {
      for (const one of [serviceRanges, ...health, ...nodePortUse, ...cleaners]) one.dispose();
      balancer?.dispose();
      for (const { rules, standIns, agent } of all) {
        await rules.sink.dispose();
        standIns.release();
        await agent.dispose();
      }
    },
  };
}

/** Where there is more than one node to choose from. */
async function loadBalancer(
  { network, settings, clock, log }: NodesOptions,
  rules: readonly NodeRules[],
): Promise<LoadBalancer | undefined> {
  if (!(network instanceof NetnsNetwork) || rules.length < 2) return undefined;
  const run: Run = async (argv, stdin) => {
    const { exitCode, stdout, stderr } = await network.runOutside(argv, stdin === undefined ? {} : { stdin });
    return { code: exitCode, stdout, stderr };
  };
  const tool = ruleTool(settings);
  const families = familiesOfRanges(settings.ranges);
  const told = await tellsChanges(tool, run);
  const events = told ? eventsOf(netnsPath(fabricNetns(settings.name)), families) : undefined;
  const balancer = startLoadBalancer({
    nodes: rules.map(({ table, sink }) => ({ table, settled: () => sink.settled() })),
    ...{ tool, families, run, events, clock },
    log: log.child("load balancer"),
  });
  return {
    ...balancer,
    dispose() {
      balancer.dispose();
      events?.dispose();
    },
  };
}

/** Zones are given to the nodes in turn. */
function zoneOf({ zones }: Pick<StackSettings, "zones">, node: number): { readonly zone?: string } {
  const zone = zones?.[node % zones.length];
  return zone === undefined ? {} : { zone };
}

/** Runs programs in a node's network. */
function runOn(network: PodNetwork, place: NodePlace): Run {
  return async (argv, stdin) => {
    const given = stdin === undefined ? {} : { stdin };
    const { exitCode, stdout, stderr } = await network.run({ node: place.name }, argv, given);
    return { code: exitCode, stdout, stderr };
  };
}

/** Events for node ports that a program on the node listens on. Without kernel rules the forwarder listens itself, and tells. */
function nodePortWatch(
  { network, objects, store, clock, log }: NodesOptions,
  { name: node }: NodePlace,
  { table }: NodeRules,
): Disposable {
  const record = eventRecorder({ store, clock, log, component: "kube-proxy", host: node });
  return watchNodePortUse({
    ...{ table, node, clock, log: log.child("node ports", { node }) },
    listening: () => listeningPorts(network.place({ node })?.netns),
    tell({ namespace, service }, message) {
      const object = objects.services.get(`${namespace}/${service}`);
      if (object) record(object, { type: "Warning", reason: "NodePortInUse", message });
    },
  });
}

/** Clears what a node's connection tracking remembers of UDP endpoints that are gone. */
function cleaner(
  { network, clock, log }: NodesOptions,
  services: Collection<UdpService>,
  place: NodePlace,
  { sink }: NodeRules,
  { family, measures }: RulesOfFamily,
): ConntrackCleaner {
  return startConntrackCleaner({
    services,
    family,
    settled: () => sink.settled(),
    run: runOn(network, place),
    nodeAddresses: [...place.addresses, "127.0.0.1", "::1"],
    measures,
    clock,
    log: log.child("conntrack", { node: place.name }),
  });
}

/** The tool for rules beside those of Services. */
function ruleTool({ proxyMode }: StackSettings): "nftables" | "iptables" {
  return proxyMode === "nftables" ? "nftables" : "iptables";
}

/** Host ports are told to the kernel with the tool that the node's Service rules are written with, or that ipvs has beside it. */
function hostPorts(
  { settings, network, clock, log }: NodesOptions,
  place: NodePlace,
  told: boolean,
): HostPorts & Partial<Disposable> {
  if (settings.network === "loopback") {
    const effectivePort = (port: number) => network.effectivePort(port);
    return userspaceHostPorts({ nodeAddresses: place.addresses, effectivePort, clock });
  }
  const foreign = settings.ranges.flatMap(({ services, loadBalancers }) => [services, loadBalancers]);
  const families = familiesOfRanges(settings.ranges);
  const events = told ? eventsOf(network.place({ node: place.name })?.netns, families) : undefined;
  const ports = kernelHostPorts({
    tool: ruleTool(settings),
    run: runOn(network, place),
    families,
    foreign: (family) => foreign.filter((range) => range.includes(":") === (family === 6)),
    ...{ events, clock },
    log: log.child("host ports", { node: place.name }),
  });
  return {
    ...ports,
    dispose() {
      ports.dispose();
      events?.dispose();
    },
  };
}

/** Changes of the rules of any of these families; undefined where the kernel tells none. */
function eventsOf(netns: string | undefined, families: readonly IpFamily[]): NftEvents | undefined {
  const all = families.flatMap((family) => nftEvents(netns, family) ?? []);
  const dispose = () => {
    for (const one of all) one.dispose();
  };
  if (all.length < families.length) {
    dispose();
    return undefined;
  }
  // Each is asked, so that none keeps what it heard for the next look.
  return { changed: () => all.filter((one) => one.changed()).length > 0, dispose };
}

/** Connection tracking as kube-proxy sets it up. A kernel that has not all of it is told of, and works on as it is. */
function setConntrack({ settings, network, log }: NodesOptions, place: NodePlace): void {
  const path = network.place({ node: place.name })?.netns;
  if (path === undefined) return;
  try {
    const missing = writeSettings(path, conntrackSettings(settings.proxyFlags ?? {}));
    if (missing.length > 0) log.warn("this kernel has not all settings of connection tracking", { missing });
  } catch (error) {
    log.warn("connection tracking was not set up", { node: place.name, error: messageOf(error) });
  }
}
