// An embedded stack: everything between the API server and the kernel, started in order in one process, each step named. This
// file holds the rooms together and computes nothing.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { CoreEndpoints, EndpointSlices, HTTPRoutes } from "../api/kinds.ts";
import { resourceKey } from "../api/resource.ts";
import { builtinScheme } from "../api/scheme.ts";
import { type ApiServer, startApiServer } from "../apiserver/api-server.ts";
import { addressAt, parseCidr } from "../base/cidr.ts";
import { systemClock } from "../base/clock.ts";
import type { AsyncDisposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { inNetns } from "../base/setns.ts";
import { defaultGraph } from "../collections/graph.ts";
import { Distribution, listenerStateSource } from "../distribution/distribution.ts";
import { serveProxies } from "../distribution/proxy-server.ts";
import type { Authority } from "../identity/authority.ts";
import { keptCertificate, openAuthority } from "../identity/authority-store.ts";
import type { NetworkRanges } from "../node/network.ts";
import { PodLogFiles } from "../node/pod-logs.ts";
import { serviceAdmission } from "../services/allocation.ts";
import { publishApiServer } from "../services/api-server-service.ts";
import type { PacketDecision } from "../services/packet.ts";
import { serviceCidrAdmission } from "../services/service-cidrs.ts";
import { openSqliteStore, type SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { startWorkloads } from "../workloads/start.ts";
import type { ExecPlan, StackStatus, WaitReport, WaitRequest } from "./control-api.ts";
import { publishDns } from "./dns-service.ts";
import { makeNetwork, nodeDirectory, startNodes } from "./embedded-nodes.ts";
import { execPlan } from "./exec-plan.ts";
import { type ExplainRequest, type Explanation, explain } from "./explain.ts";
import { explainContext } from "./explain-context.ts";
import { explainPacketOn, type PacketRequest } from "./explain-packet.ts";
import { kubeconfig } from "./kubeconfig.ts";
import { localVolumes } from "./local-volumes.ts";
import type { Manifest } from "./manifests.ts";
import { movedPorts, withEffectivePorts } from "./moved-ports.ts";
import { collectionOf, collector, followObjects, type StackObjects } from "./objects.ts";
import { modelOf, startPipeline } from "./pipeline.ts";
import { startRelay } from "./relay.ts";
import { rulesInTime } from "./rules-in-time.ts";
import { startServiceControllers } from "./service-controllers.ts";
import { openSources } from "./sources-file.ts";
import { readSettings, type StackPaths, type StackSettings, stackPaths, writeSettings } from "./stack.ts";
import { startStackDns } from "./stack-dns.ts";
import { startStackProxy } from "./stack-proxy.ts";
import { stackStatus } from "./stack-status.ts";
import { mergeParents } from "./status-merge.ts";
import { statusSink } from "./status-sink.ts";
import { waitForObjects } from "./waiting.ts";

export interface Embedded extends AsyncDisposable {
  status(): Promise<StackStatus>;
  wait(request: WaitRequest): Promise<WaitReport>;
  explain(request: ExplainRequest): Explanation;
  explainPacket(request: PacketRequest): PacketDecision;
  recordSources(manifests: readonly Manifest[]): void;
  execPlan(target: string): ExecPlan;
  /** To as many workers as there are, unless given; the number is kept for later starts. */
  replaceProxy(workers?: number): Promise<void>;
}

/** Runs a part of the start and tells whoever waits how long it took. */
export type Step = <T>(name: string, work: () => Promise<T> | T) => Promise<T>;

const apiAddress = "127.0.0.1";
/** Where pods find the API server, on the first node's address; on the host's loopback, the port that is taken first. */
const inClusterApiPort = 6443;

/** Starts all parts. When one fails, the error says which; what was started ends with the process. */
export async function startEmbedded(settings: StackSettings, log: Logger, step: Step): Promise<Embedded> {
  const clock = systemClock;
  const rangesOf = (name: keyof NetworkRanges) => settings.ranges.map((ranges) => ranges[name]);
  const paths = stackPaths(settings.name);
  defaultGraph.onComputeError = (error) =>
    log.warn("a value could not be computed; the last good one stays", { ...error });
  defaultGraph.onSubscriberError = (error) => log.error("a subscriber failed", { error: messageOf(error) });
  const network = step("network", () => makeNetwork(settings, paths, log));
  network.catch(() => {}); // awaited below; the API server starts meanwhile

  const { store, objects, authority, api } = await step("api server", () => startApi(settings, paths, log));
  const listenerStates = listenerStateSource();
  const pipeline = startPipeline({ objects, loadBalancers: rangesOf("loadBalancers"), listenerStates, log });
  const { network: pods, places } = await network;
  const first = places[0]!;
  const effectivePort = (port: number) => pods.effectivePort(port);
  const model = withEffectivePorts(pipeline.model, effectivePort);
  const distribution = new Distribution(model, { listenerStates, clock });
  const modelReady = Promise.withResolvers<void>();
  const proxies = serveProxies({
    path: paths.distributionSocket,
    distribution,
    ready: modelReady.promise,
    log: log.child("distribution"),
    clock,
  });
  const proxy = startStackProxy({
    ...{ settings, paths, distribution, proxies, clock, log },
    prefix: pods.command({ node: first.name }, []),
  });

  const dns = startStackDns({
    ...{ settings, paths, store, objects, inputs: pipeline.inputs, clock, log: log.child("dns") },
    ...{ addresses: first.addresses, port: effectivePort(53), metricsPort: effectivePort(9153) },
    netns: pods.place({ node: first.name })?.netns,
  });

  const nodes = await step("nodes", async () => {
    const started = await startNodes({
      settings,
      paths,
      store,
      objects,
      pipeline,
      distribution,
      network: pods,
      places,
      clock,
      log,
    });
    return started;
  });
  const bind = <T>(open: () => T): T => inNetns(pods.place({ node: first.name })?.netns, open);
  const apiPort = effectivePort(inClusterApiPort);
  const relay = startRelay({
    addresses: first.addresses,
    port: apiPort,
    bind,
    to: { address: apiAddress, port: api.port },
  });
  await publishApiServer(store, {
    addresses: first.addresses,
    port: apiPort,
    serviceCidrs: rangesOf("services"),
  });
  await step("dns", async () => {
    const { port } = await dns.started();
    const metricsPort = effectivePort(9153);
    await publishDns(store, rangesOf("services"), { addresses: first.addresses, port, metricsPort });
  });

  const serviceControllers = startServiceControllers({ objects, pipeline, store, clock, log });
  const statuses = statusSink({
    store,
    updates: [pipeline.gatewayApi.statuses],
    barrier: (after, signal) => distribution.barrier(after, signal),
    merge: { [resourceKey(HTTPRoutes)]: mergeParents((name) => isAdopted(name, objects)) },
    clock,
    log: log.child("status"),
  });
  const workloads = startWorkloads({
    store,
    clock,
    log,
    collect: collector(objects, store),
    volumes: localVolumes(join(paths.directory, "volumes")),
    rootCertificate: authority.certificate,
  });
  await step("controllers", () => workloads.ready);
  modelReady.resolve();
  await step("proxy", () => proxy.connected());
  await step("rules", () =>
    settings.proxyMode === "userspace"
      ? nodes.settled()
      : rulesInTime({ settled: () => nodes.settled(), problems: () => nodes.ruleProblems() }, clock),
  );

  const sources = openSources(paths.sources, log);
  const context = explainContext(
    { ...objects, endpoints: model.endpoints, findings: pipeline.gatewayApi.findings },
    () => sources.current(),
  );
  return {
    status: () =>
      stackStatus({
        settings,
        api,
        objects,
        nodes,
        proxy,
        dns,
        distribution,
        findings: pipeline.gatewayApi.findings,
        clock,
        moved: movedPorts(pipeline.model.listeners, effectivePort),
      }),
    async wait(request) {
      const report = await waitForObjects(
        request,
        ({ apiVersion, kind }) =>
          collectionOf(objects, (one) => one.kind === kind && apiVersion.split("/")[0] === (one.group || apiVersion)),
        clock,
      );
      await statuses.idle();
      await Promise.all([nodes.settled(), dns.settled()]);
      return report;
    },
    explain: (request) => explain(modelOf(pipeline.model), request, context),
    explainPacket: (request) =>
      explainPacketOn(
        {
          mode: settings.proxyMode,
          podRanges: rangesOf("pods"),
          serviceRanges: nodes.serviceRanges(),
          ...(settings.proxyFlags ? { proxyFlags: settings.proxyFlags } : {}),
          firstNodeRanges: rangesOf("loadBalancers"),
          nodes: places.map((place) => ({
            ...pipeline.inputs.nodes.get(place.name),
            ...place,
          })),
          pods: objects.pods,
          resolved: pipeline.inputs.resolved,
          table: (name) => nodes.all.find(({ place }) => place.name === name)?.rules.table,
          unserved: (node, protocol, address, port) =>
            nodes.all.find(({ place }) => place.name === node)?.rules.sink.unserved?.(protocol, address, port),
        },
        request,
      ),
    recordSources: (manifests) => sources.record(manifests),
    execPlan: (target) => execPlan(target, objects.pods, pods),
    async replaceProxy(workers) {
      await proxy.replace(workers);
      if (workers !== undefined) writeSettings({ ...readSettings(settings.name)!, proxyWorkers: workers });
    },
    async dispose() {
      for (const part of [relay, workloads, statuses, serviceControllers, pipeline, proxies, distribution])
        part.dispose();
      proxy.dispose();
      await Promise.all([nodes.dispose(), dns.dispose(), api.stop()]);
      store.close();
    },
  };
}

/** Whether a controller's Gateways are served here: that of any GatewayClass there is. */
function isAdopted(controllerName: string, objects: StackObjects): boolean {
  for (const { spec } of objects.gatewayClasses.values()) if (spec?.controllerName === controllerName) return true;
  return false;
}

async function startApi(
  settings: StackSettings,
  paths: StackPaths,
  log: Logger,
): Promise<{ store: SqliteStore; objects: StackObjects; authority: Authority; api: ApiServer }> {
  const authority = await openAuthority(paths.pki, `fairlead ${settings.name}`);
  const [serviceCidr = "", secondaryServiceCidr] = settings.ranges.map(({ services }) => services);
  const serverNames = [
    ...[apiAddress, "localhost"],
    ...settings.ranges.map(({ services }) => addressAt(parseCidr(services)!, 1)),
    ...["kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"],
  ];
  const [server, admin] = await Promise.all([
    keptCertificate(paths.pki, "apiserver", authority, serverNames, () => authority.issueServer(serverNames)),
    keptCertificate(paths.pki, "admin", authority, [], () =>
      authority.issueClient("fairlead-admin", ["system:masters"]),
    ),
  ]);
  const store = openSqliteStore({
    path: paths.store,
    scheme: builtinScheme(),
    admissions: [
      serviceAdmission({ serviceCidr, ...(secondaryServiceCidr ? { secondaryServiceCidr } : {}) }),
      serviceCidrAdmission(),
    ],
    // Upstream's rule against endpoints on the host itself; on the loopback network that is where pods are.
    tolerates: (resource, { message }) =>
      settings.network === "loopback" &&
      (resource === resourceKey(EndpointSlices) || resource === resourceKey(CoreEndpoints)) &&
      message.includes("may not be in the loopback range"),
    log: log.child("store"),
  });
  const objects = await followObjects(store);
  const api = await startApiServer({
    store,
    podLogs: new PodLogFiles({ pods: objects.pods, stateDir: (node) => nodeDirectory(paths, node) }),
    tls: { key: server.privateKey, cert: server.certificate, clientCa: authority.certificate },
    address: apiAddress,
    port: [settings.apiPort ?? inClusterApiPort, 0],
    log: log.child("apiserver"),
  });
  // Listening is what takes the port: whoever looks first and listens later may find it taken by then.
  if (settings.apiPort !== api.port) writeSettings({ ...settings, apiPort: api.port });
  const { certificate, privateKey } = admin;
  const text = kubeconfig({
    name: settings.name,
    server: api.url,
    authority: authority.certificate,
    certificate,
    privateKey,
  });
  writeFileSync(paths.kubeconfig, text, { mode: 0o600 });
  return { store, objects, authority, api };
}
