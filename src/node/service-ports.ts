// The ports of a pod that Services send to without the pod declaring them (`containerPort` is informational in Kubernetes; many
// manifests leave it out). A stand-in, which has no program of its own to listen there, serves these as well.

import type { Pod, Service } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import type { Disposable } from "../base/disposal.ts";
import type { Collection, Index } from "../collections/collection.ts";
import { index } from "../collections/index.ts";

export interface WantedPort {
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
}

/** Services by one pair of their selector, so that a pod finds its own without a look at all. */
export function servicesBySelector(services: Collection<KubeObject>, node: string): Index<KubeObject> & Disposable {
  return index(services, `services by selector for ${node}`, (object) => {
    const service = object as Service;
    const [pair] = Object.entries(service.spec?.selector ?? {});
    return pair ? [selectorKey(service.metadata.namespace, pair)] : [];
  });
}

export function servicePortsFor(pod: Pod, services: Index<KubeObject>): readonly WantedPort[] {
  const labels = pod.metadata.labels ?? {};
  const wanted = new Map<string, WantedPort>();
  for (const pair of Object.entries(labels)) {
    for (const object of services.where(selectorKey(pod.metadata.namespace, pair))) {
      const service = object as Service;
      if (!selects(service, pod)) continue;
      for (const { targetPort, port, protocol = "TCP" } of service.spec?.ports ?? []) {
        const number = targetPort ?? port;
        // A name stands for a port that is declared; SCTP is not served.
        if (typeof number !== "number" || protocol === "SCTP") continue;
        wanted.set(`${number}/${protocol}`, { port: number, protocol });
      }
    }
  }
  return [...wanted.values()].sort((a, b) => a.port - b.port);
}

export function selects(service: Service | undefined, pod: Pod): boolean {
  const selector = Object.entries(service?.spec?.selector ?? {});
  if (selector.length === 0 || service?.metadata.namespace !== pod.metadata.namespace) return false;
  return selector.every(([label, value]) => pod.metadata.labels?.[label] === value);
}

function selectorKey(namespace: string | undefined, [label, value]: readonly [string, string]): string {
  return `${namespace}/${label}=${value}`;
}
