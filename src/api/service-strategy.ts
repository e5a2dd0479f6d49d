// What happens to a Service's own fields when it is written: values that were allocated stay, values that its new type has no
// use for go (pkg/registry/core/service/strategy.go, pkg/registry/core/service/storage normalizeClusterIPs and
// patchAllocatedValues). Allocation itself is not here; `services` does it.

import { equal } from "./data.ts";
import type { ServicePort, ServiceSpec } from "./generated/core.ts";
import type { KubeObject } from "./object.ts";

type Spec = { -readonly [K in keyof ServiceSpec]: ServiceSpec[K] };

const needsClusterIP = (spec: ServiceSpec) => spec.type !== "ExternalName";
const needsNodePorts = (spec: ServiceSpec) =>
  spec.type === "NodePort" || (spec.type === "LoadBalancer" && spec.allocateLoadBalancerNodePorts !== false);
const external = (spec: ServiceSpec) =>
  spec.type === "NodePort" || spec.type === "LoadBalancer" || (spec.externalIPs?.length ?? 0) > 0;
const needsHealthPort = (spec: ServiceSpec) => spec.type === "LoadBalancer" && spec.externalTrafficPolicy === "Local";

/** `clusterIP` and `clusterIPs` say the same thing twice; a new Service may give either. */
export function normalizeService(object: KubeObject): KubeObject {
  const spec = object.spec as ServiceSpec | undefined;
  if (spec?.clusterIP && !spec.clusterIPs?.length)
    return { ...object, spec: { ...spec, clusterIPs: [spec.clusterIP] } };
  return object;
}

/** A Service as it is before validation of an update. */
export function serviceUpdate(next: KubeObject, old: KubeObject): KubeObject {
  if (!next.spec || !old.spec) return next;
  const before = old.spec as ServiceSpec;
  const spec: Spec = { ...(next.spec as ServiceSpec) };
  keepAllocated(spec, before);
  if ((spec.clusterIP ?? "") !== (before.clusterIP ?? "") && equal(spec.clusterIPs, before.clusterIPs)) {
    if (spec.clusterIP) spec.clusterIPs = [spec.clusterIP];
    else delete spec.clusterIPs;
  } else if (spec.clusterIP && !spec.clusterIPs?.length) spec.clusterIPs = [spec.clusterIP];
  dropUnused(spec, before);
  return { ...next, spec };
}

/** A write without addresses and ports (a PUT of the original manifest) keeps those that the Service has. */
function keepAllocated(spec: Spec, old: ServiceSpec): void {
  if (needsClusterIP(old) && needsClusterIP(spec)) {
    if (!spec.clusterIP && !spec.clusterIPs?.length) {
      if (old.clusterIP) spec.clusterIP = old.clusterIP;
      if (old.clusterIPs) spec.clusterIPs = old.clusterIPs;
    } else if (!spec.clusterIPs?.length && spec.clusterIP === old.clusterIP && old.clusterIPs) {
      spec.clusterIPs = old.clusterIPs;
    }
    if (spec.ipFamilies === undefined && old.ipFamilies) spec.ipFamilies = old.ipFamilies;
    if (spec.ipFamilyPolicy === undefined && old.ipFamilyPolicy) spec.ipFamilyPolicy = old.ipFamilyPolicy;
  }
  if (needsNodePorts(old) && needsNodePorts(spec)) {
    const id = (port: ServicePort) => `${port.protocol ?? "TCP"}/${port.port}`;
    const had = new Map((old.ports ?? []).map((port) => [id(port), port.nodePort]));
    const taken = new Set((spec.ports ?? []).map((port) => port.nodePort).filter((port) => port));
    spec.ports = (spec.ports ?? []).map((port) => {
      const nodePort = had.get(id(port));
      return port.nodePort || !nodePort || taken.has(nodePort) ? port : { ...port, nodePort };
    });
  }
  if (needsHealthPort(old) && needsHealthPort(spec) && !spec.healthCheckNodePort && old.healthCheckNodePort) {
    spec.healthCheckNodePort = old.healthCheckNodePort;
  }
}

/** Fields that belonged to the old type and were not changed with it. */
function dropUnused(spec: Spec, old: ServiceSpec): void {
  const drop = (...fields: (keyof ServiceSpec)[]) => {
    for (const field of fields) if (equal(spec[field], old[field])) delete spec[field];
  };
  if (needsClusterIP(old) && !needsClusterIP(spec)) {
    drop("clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy", "internalTrafficPolicy");
  }
  if (needsNodePorts(old) && !needsNodePorts(spec) && spec.ports) {
    const had = new Map((old.ports ?? []).map((port) => [`${port.protocol ?? "TCP"}/${port.port}`, port.nodePort]));
    spec.ports = spec.ports.map((port) => {
      if (had.get(`${port.protocol ?? "TCP"}/${port.port}`) !== port.nodePort) return port;
      const { nodePort: _gone, ...rest } = port;
      return rest;
    });
  }
  if (needsHealthPort(old) && !needsHealthPort(spec)) drop("healthCheckNodePort");
  if (old.type === "LoadBalancer" && spec.type !== "LoadBalancer")
    drop("allocateLoadBalancerNodePorts", "loadBalancerClass");
  if (external(old) && !external(spec)) drop("externalTrafficPolicy");
}
