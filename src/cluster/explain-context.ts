// What `explain` looks up beside the model, from the collections of a stack: Services by the names that clients use, pods'
// addresses, and files with lines.

import type { Service } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { canonicalAddress } from "../base/ip.ts";
import type { Collection } from "../collections/collection.ts";
import type { Endpoints } from "../model/model.ts";
import { serviceBackendName } from "../model/names.ts";
import type { Finding } from "../model/status-update.ts";
import { endpointText } from "../services/service-table.ts";
import type { ExplainContext, ServiceAnswer } from "./explain.ts";
import { locate, type SourceRecord } from "./sources.ts";

export interface ExplainCollections {
  readonly services: Collection<KubeObject>;
  readonly pods: Collection<KubeObject>;
  readonly endpoints: Collection<Endpoints>;
  readonly findings: Collection<Finding>;
}

export function explainContext(collections: ExplainCollections, sources: () => SourceRecord): ExplainContext {
  return {
    findings: () => collections.findings.values(),
    locate: (from) => locate(sources(), from),
    podAddress: (namespace, name) => collections.pods.get(`${namespace}/${name}`)?.status?.podIP,
    service(host, port, namespace) {
      const service = serviceNamed(collections.services as Collection<Service>, host, namespace);
      const at = service?.spec?.ports?.findIndex((one) => one.port === port) ?? -1;
      return service && at >= 0 ? answerOf(service, at, collections.endpoints) : undefined;
    },
  };
}

function answerOf(service: Service, at: number, endpoints: Collection<Endpoints>): ServiceAnswer {
  const { namespace = "default", name } = service.metadata;
  const { port, protocol = "TCP" } = service.spec!.ports![at]!;
  return {
    name: `${namespace}/${name}:${port}`,
    from: { kind: "Service", namespace, name, field: `spec.ports[${at}]` },
    address: `${endpointText({ address: service.spec!.clusterIP ?? "no address", port })}/${protocol}`,
    endpoints: endpoints.get(serviceBackendName(namespace, name, port))?.endpoints ?? [],
  };
}

/** By ClusterIP, or by `name`, `name.namespace`, `name.namespace.svc` and the full name, as a pod's resolver finds it. */
function serviceNamed(services: Collection<Service>, host: string, namespace: string): Service | undefined {
  if (/^[\d.]+$|:/.test(host)) {
    const address = canonicalAddress(host.replace(/^\[|\]$/g, ""));
    for (const service of services.values()) if (service.spec?.clusterIPs?.includes(address)) return service;
    return undefined;
  }
  const [name, space = namespace, svc = "svc", ...zone] = host.replace(/\.$/, "").split(".");
  if (svc !== "svc" || (zone.length > 0 && zone.join(".") !== "cluster.local")) return undefined;
  return services.get(`${space}/${name}`);
}
