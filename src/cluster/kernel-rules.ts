// The Service rules of one node in its kernel, those of all its IP families as one: which backend and with which options, as the
// stack's settings and kube-proxy's flags say.

import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import type { IpFamily } from "../base/ip.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { iptables } from "../node/iptables/iptables.ts";
import { speaksNftables } from "../node/iptables/variant.ts";
import { ipvs } from "../node/ipvs/ipvs.ts";
import { type NftEvents, nftEvents } from "../node/netns/nft-events.ts";
import type { NodePlace, PodNetwork } from "../node/network.ts";
import { nftables } from "../node/nftables/nftables.ts";
import { type RulesSinkOptions, startRulesSink } from "../node/rules-sink.ts";
import type { Run, ServiceRules } from "../node/service-rules.ts";
import type { ServicePort } from "../services/service-table.ts";
import type { NodeRules } from "./endpoints-gone.ts";
import { commonOptions, ipvsOptions, localDetector, localhostNodePorts, nodePortAddresses } from "./proxy-flags.ts";
import { familiesOfRanges } from "./ranges-from-options.ts";
import type { StackSettings } from "./stack.ts";

export interface KernelRulesOptions {
  readonly settings: StackSettings;
  readonly network: PodNetwork;
  readonly place: NodePlace;
  /** Runs programs in the node's network. */
  readonly run: Run;
  readonly table: Collection<ServicePort>;
  readonly changedAt: NonNullable<RulesSinkOptions["changedAt"]>;
  /** Whether the kernel tells of changes of these rules (`tellsChanges`). */
  readonly told: boolean;
  readonly clock: Clock;
  readonly log: Logger;
}

/** Whether the kernel tells of changes of the rules that are written with this mode's tools. */
export async function tellsChanges(mode: string, run: Run): Promise<boolean> {
  return mode === "nftables" || (mode === "iptables" && (await speaksNftables(run)));
}

/** Keeps the rules of each family of the stack equal to the node's table. */
export function kernelRules(options: KernelRulesOptions): NodeRules["sink"] {
  const { settings, network, place, table, changedAt, told, clock, log } = options;
  const netns = network.place({ node: place.name })?.netns;
  const sinks = familiesOfRanges(settings.ranges).map((family) =>
    ofFamily({
      ...{ table, clock, log, changedAt },
      rules: nodeRules(options, family),
      events: told ? nftEvents(netns, family) : undefined,
    }),
  );
  return {
    families: sinks.flatMap(({ families }) => families),
    problems: () => sinks.flatMap((sink) => sink.problems()),
    serviceCidrs(ranges) {
      for (const sink of sinks) sink.serviceCidrs?.(ranges);
    },
    settled: async () => {
      await Promise.all(sinks.map((sink) => sink.settled()));
    },
    dispose: async () => {
      await Promise.all(sinks.map((sink) => sink.dispose()));
    },
  };
}

/** ipvs has a timer for real servers that finish their connections. */
type NodeServiceRules = ServiceRules & Partial<Disposable>;

/** The rules in a node's namespace. Traffic from the node's own pods is not masqueraded on its way to a ClusterIP. */
function nodeRules(
  { settings, network, run, place, clock, log }: KernelRulesOptions,
  family: IpFamily,
): NodeServiceRules {
  const { proxyMode: mode, proxyFlags: flags = {} } = settings;
  const ofFamily = (texts: readonly string[]) => texts.filter((text) => text.includes(":") === (family === 6));
  const detector = localDetector(flags, family, {
    cluster: network.ranges.map(({ pods }) => pods),
    node: place.podRanges,
  });
  const addresses = nodePortAddresses(flags, mode, family, ofFamily(place.addresses));
  const common = {
    family,
    ...commonOptions(flags),
    ...(detector ? { localDetector: detector } : {}),
    nodeAddress: ofFamily(place.addresses)[0]!,
    ...(addresses ? { nodePortAddresses: addresses } : {}),
  } as const;
  if (mode === "ipvs") {
    return ipvs(run, { ...common, ...ipvsOptions(flags), nodeAddresses: addresses ?? [] }, { clock, log });
  }
  if (mode === "nftables")
    return nftables(run, { ...common, serviceCidrs: ofFamily(settings.ranges.map(({ services }) => services)) });
  const localhost = localhostNodePorts(flags, family);
  const dropInvalid = !flags["conntrack-tcp-be-liberal"];
  return iptables(run, { ...common, localhostNodePorts: localhost, dropInvalid });
}

function ofFamily(
  options: RulesSinkOptions & { readonly rules: NodeServiceRules; readonly events: NftEvents | undefined },
): NodeRules["sink"] {
  const sink = startRulesSink(options);
  const { family } = options.rules;
  return {
    settled: () => sink.settled(),
    problems: () => (sink.state.inSync || sink.state.lastError === undefined ? [] : [sink.state.lastError]),
    families: [{ family, measures: sink.state.measures, rules: () => sink.rules }],
    serviceCidrs: (ranges) => sink.serviceCidrs(ranges),
    dispose: async () => {
      sink.dispose();
      options.events?.dispose();
      options.rules.dispose?.();
    },
  };
}
