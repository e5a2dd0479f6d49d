// `fairlead dns`: the cluster DNS server alone, in one process, over the objects of an API server (any Kubernetes) or of
// files. It writes nothing: no Service, no endpoints, no events.

import { ConfigMaps, EndpointSlices, Namespaces, Nodes, Pods, Services } from "../api/kinds.ts";
import { type KubeObject, objectName } from "../api/object.ts";
import { builtinScheme } from "../api/scheme.ts";
import { systemClock } from "../base/clock.ts";
import { UserError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Collection } from "../collections/collection.ts";
import { fromStore } from "../collections/from-store.ts";
import { type Source, source } from "../collections/source.ts";
import type { DnsConfig } from "../dns/config.ts";
import { parseConfig } from "../dns/config-map.ts";
import { serviceNamesCollection } from "../dns/names.ts";
import { type DnsService, startDnsService } from "../dns/service.ts";
import { zoneFeed } from "../dns/zone-changes.ts";
import { ZoneTable } from "../dns/zone-table.ts";
import { serviceInputs } from "../services/inputs.ts";
import { readKubeconfig } from "../store/remote/kubeconfig.ts";
import { openRemoteStore } from "../store/remote/remote-store.ts";
import { readManifests } from "./manifests.ts";

export interface DnsAloneOptions {
  readonly from: { readonly kubeconfig: string } | { readonly files: readonly string[] };
  readonly address: string;
  readonly port: number;
  readonly metricsPort?: number;
  /** Where the ConfigMap `kube-system/fairlead-dns` says nothing. */
  readonly config: DnsConfig;
  /** Ranges of clients whose questions about names of others are taken; everybody's when empty. */
  readonly clients: readonly string[];
  readonly log: Logger;
}

/** Which kinds DNS is made from. */
const kinds = {
  services: Services,
  endpointSlices: EndpointSlices,
  pods: Pods,
  nodes: Nodes,
  namespaces: Namespaces,
  configMaps: ConfigMaps,
};
type Objects = { readonly [K in keyof typeof kinds]: Collection<KubeObject> };

const configMapKey = "kube-system/fairlead-dns";

/** Serves until the process ends. Until the objects are known, the cluster's names are answered with SERVFAIL. */
export async function startDnsAlone(options: DnsAloneOptions): Promise<DnsService> {
  const { address, port, metricsPort, clients, log, from } = options;
  const { zones, ttl, pods } = options.config;
  const table = new ZoneTable({ zone: zones[0]!, nameservers: [address], ttl, pods });
  const { objects, ready } = "files" in from ? await ofFiles(from.files) : await ofCluster(from.kubeconfig, log);
  const service = await startDnsService({
    ...{ table, config: options.config, addresses: [address], port, clients, clock: systemClock, log },
    ...(metricsPort === undefined ? {} : { metricsPort }),
  });
  const inputs = serviceInputs(objects);
  const names = serviceNamesCollection(inputs.resolved);
  const { namespaces } = objects;
  const feed = zoneFeed({ names, namespaces, pods: objects.pods, slices: inputs.slicesByService });
  feed.subscribe((changes) => {
    table.apply(changes);
    for (const time of changes.triggered ?? []) service.metrics.programmed((Date.now() - time) / 1000);
  });
  for (const changes of feed.snapshot()) table.apply(changes);
  const configure = (configMap: KubeObject | undefined) => {
    const read = parseConfig((configMap?.["data"] as Record<string, string> | undefined) ?? {}, options.config);
    if (read.config) service.configure(read.config);
    for (const { field, message } of read.problems ?? []) {
      log.warn("DNS configuration refused; the one before stays", { configMap: configMapKey, field, reason: message });
    }
  };
  objects.configMaps.subscribe((batch) => {
    const change = batch.find(({ key }) => key === configMapKey);
    if (change) configure(change.after);
  });
  if (objects.configMaps.has(configMapKey)) configure(objects.configMaps.get(configMapKey));
  void ready.then(() => table.end());
  return service;
}

interface Given {
  readonly objects: Objects;
  readonly ready: Promise<unknown>;
}

async function ofCluster(kubeconfig: string, log: Logger): Promise<Given> {
  const store = await openRemoteStore({ connection: readKubeconfig(kubeconfig), userAgent: "fairlead-dns", log });
  // Of ConfigMaps only the one, so that the server needs no right to read the others.
  const followed = Object.entries(kinds).map(
    ([name, resource]) =>
      [name, fromStore(store, resource, name === "configMaps" ? { namespace: "kube-system", log } : { log })] as const,
  );
  return {
    objects: Object.fromEntries(followed) as unknown as Objects,
    ready: Promise.all(followed.map(([, collection]) => collection.ready)),
  };
}

/** Namespaces that objects are in exist. */
async function ofFiles(files: readonly string[]): Promise<Given> {
  const scheme = builtinScheme();
  const objects = Object.fromEntries(Object.keys(kinds).map((name) => [name, source<KubeObject>(`files ${name}`)])) as {
    readonly [K in keyof typeof kinds]: Source<KubeObject>;
  };
  for (const { object, source: place } of await readManifests(files, { lists: true })) {
    const resource = scheme.byKind(object.apiVersion, object.kind);
    const name = Object.entries(kinds).find(([, kind]) => kind.kind === object.kind && kind.group === resource?.group);
    if (!resource || !name) continue;
    if (!object.metadata?.name) throw new UserError(`${place.file}:${place.line}: metadata.name is missing`);
    const namespace = resource.scope === "Namespaced" ? (object.metadata.namespace ?? "default") : undefined;
    const named = { ...object, metadata: { ...object.metadata, ...(namespace ? { namespace } : {}) } };
    objects[name[0] as keyof typeof kinds].set(objectName(named), named);
    if (namespace && !objects.namespaces.has(namespace))
      objects.namespaces.set(namespace, { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } });
  }
  return { objects, ready: Promise.resolve() };
}
