// What `fairlead status` shows, collected from the parts of a running stack.

import type { ApiServer } from "../apiserver/api-server.ts";
import type { Clock } from "../base/clock.ts";
import type { Collection } from "../collections/collection.ts";
import { defaultGraph } from "../collections/graph.ts";
import type { Distribution } from "../distribution/distribution.ts";
import type { Finding } from "../model/status-update.ts";
import type { NetworkRanges } from "../node/network.ts";
import type { SupervisedState } from "../node/supervisor.ts";
import type { ProcessStatus, StackStatus } from "./control-api.ts";
import type { StackNodes } from "./embedded-nodes.ts";
import { findingInWords } from "./explain.ts";
import type { StackObjects } from "./objects.ts";
import { proxyStatuses } from "./proxy-status.ts";
import { rangeOptions } from "./ranges-from-options.ts";
import type { StackSettings } from "./stack.ts";
import type { StackDns } from "./stack-dns.ts";
import type { StackProxy } from "./stack-proxy.ts";

export interface StatusParts {
  readonly settings: StackSettings;
  readonly api: ApiServer;
  readonly objects: StackObjects;
  readonly nodes: StackNodes;
  readonly proxy: StackProxy;
  readonly dns: StackDns;
  readonly distribution: Distribution;
  readonly clock: Clock;
  readonly moved: StackStatus["movedPorts"];
  readonly findings: Collection<Finding>;
}

export async function stackStatus(parts: StatusParts): Promise<StackStatus> {
  const { settings, api, objects, nodes, proxy, dns, distribution, moved } = parts;
  const podsOn = new Map<string, number>();
  for (const pod of objects.pods.values()) podsOn.set(pod.spec?.nodeName, (podsOn.get(pod.spec?.nodeName) ?? 0) + 1);
  return {
    name: settings.name,
    network: settings.network,
    nodes: nodes.all.map(({ place }) => ({
      name: place.name,
      ready: isReady(objects.nodes.get(place.name)?.status?.conditions),
      address: place.addresses.join(", "),
      pods: podsOn.get(place.name) ?? 0,
    })),
    ranges: Object.fromEntries(
      Object.keys(rangeOptions).map((name) => [
        name,
        settings.ranges.map((ranges) => ranges[name as keyof NetworkRanges]).join(", "),
      ]),
    ),
    apiServer: api.url,
    processes: [
      { component: "control", pid: process.pid, state: "running", restarts: 0 },
      processStatus("proxy", proxy.process.state()),
      processStatus("dns", dns.process.state()),
      ...nodes.all.map(({ place, standIns }) => processStatus(`stand-ins ${place.name}`, standIns.process())),
    ],
    proxies: proxyStatuses(distribution.proxyStates()),
    ...(proxy.pending === undefined ? {} : { pendingUpgrade: proxy.pending }),
    errors: [
      ...defaultGraph.errors().map(({ collection, key, message }) => `${collection} ${key}: ${message}`),
      ...nodes.ruleProblems().map((problem) => `Service rules of ${problem}`),
      ...dns.problems(),
    ],
    findings: [...parts.findings.values()].map((finding) => `${finding.severity}: ${findingInWords(finding)}`).sort(),
    movedPorts: moved,
  };
}

function isReady(conditions: readonly { type: string; status: string }[] | undefined): boolean {
  return conditions?.some(({ type, status }) => type === "Ready" && status === "True") ?? false;
}

function processStatus(component: string, state: SupervisedState): ProcessStatus {
  return {
    component,
    pid: state.pid,
    state: state.pid === undefined ? "restarting" : "running",
    restarts: state.restarts,
  };
}
