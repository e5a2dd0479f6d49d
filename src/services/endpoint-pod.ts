// What an EndpointSlice says of a Pod, and nothing else of it (pkg/controller/util/endpoint ShouldPodBeInEndpoints,
// staging endpointslice utils.go podToEndpoint). A Pod that changes in other ways changes no slice.

import type { Pod } from "../api/kinds.ts";
import { nameOf } from "../api/object.ts";
import type { Protocol } from "./objects.ts";

export interface EndpointPod {
  readonly key: string;
  readonly namespace: string;
  readonly name: string;
  readonly uid: string;
  readonly labels: Readonly<Record<string, string>>;
  readonly addresses: readonly string[];
  readonly node: string;
  readonly serving: boolean;
  readonly terminating: boolean;
  readonly hostname: string | undefined;
  readonly subdomain: string | undefined;
  readonly namedPorts: readonly { readonly name: string; readonly protocol: Protocol; readonly port: number }[];
  /** When it last became ready or unready, RFC 3339: what the latency of endpoint changes is measured from. */
  readonly changedAt: string | undefined;
}

/** Undefined for a Pod that cannot be an endpoint: finished, without an address, or not yet on a node. */
export function endpointPodOf(pod: Pod): EndpointPod | undefined {
  const { metadata, spec, status } = pod;
  if (status?.phase === "Failed" || status?.phase === "Succeeded") return undefined;
  const addresses = status?.podIPs?.flatMap((one) => (one.ip ? [one.ip] : [])) ?? [];
  if (addresses.length === 0 && status?.podIP) addresses.push(status.podIP);
  if (addresses.length === 0 || !spec?.nodeName) return undefined;
  const ready = status?.conditions?.find((one) => one.type === "Ready");
  const sidecars = (spec.initContainers ?? []).filter((one) => one.restartPolicy === "Always");
  return {
    key: nameOf(metadata.namespace, metadata.name),
    namespace: metadata.namespace ?? "default",
    name: metadata.name,
    uid: metadata.uid ?? "",
    labels: metadata.labels ?? {},
    addresses,
    node: spec.nodeName,
    serving: ready?.status === "True",
    terminating: metadata.deletionTimestamp !== undefined,
    hostname: spec.hostname,
    subdomain: spec.subdomain,
    namedPorts: [...spec.containers, ...sidecars].flatMap((container) =>
      (container.ports ?? []).flatMap((port) =>
        port.name ? [{ name: port.name, protocol: port.protocol ?? "TCP", port: port.containerPort }] : [],
      ),
    ),
    changedAt: ready?.lastTransitionTime,
  };
}

/** The buckets of a Pod in an index by label: `shop/app=cart`. */
export function podLabelKeys(pod: EndpointPod): readonly string[] {
  return Object.entries(pod.labels).map(([label, value]) => podLabelKey(pod.namespace, label, value));
}

export function podLabelKey(namespace: string, label: string, value: string): string {
  return `${namespace}/${label}=${value}`;
}

/** Whether a Service's selector, which is never empty here, selects the Pod. */
export function selects(selector: Readonly<Record<string, string>>, pod: EndpointPod): boolean {
  return Object.entries(selector).every(([label, value]) => pod.labels[label] === value);
}
