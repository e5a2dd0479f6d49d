// What an update of a Service keeps of what was allocated, and what it drops because the type no longer has it
// (pkg/registry/core/service/storage patchAllocatedValues, normalizeClusterIPs; strategy.go dropTypeDependentFields). Pure.

import type { ServicePort as ServicePortSpec, ServiceSpec } from "../api/kinds.ts";
import { deepEqual } from "../collections/equal.ts";
import { needsClusterIP } from "./ip-families.ts";

export function needsNodePorts(spec: ServiceSpec): boolean {
  return spec.type === "NodePort" || spec.type === "LoadBalancer";
}

export function needsHealthCheckPort(spec: ServiceSpec): boolean {
  return spec.type === "LoadBalancer" && spec.externalTrafficPolicy === "Local";
}

/** The new spec, with allocated values of the old one where the writer left them out. */
export function carryOver(spec: ServiceSpec, before: ServiceSpec | undefined): ServiceSpec {
  const next: { -readonly [Field in keyof ServiceSpec]: ServiceSpec[Field] } = { ...spec };
  if (!before) {
    if (next.clusterIP && !next.clusterIPs?.length) next.clusterIPs = [next.clusterIP];
    return next;
  }
  carryClusterIPs(next, before);
  if (!needsClusterIP(next) && needsClusterIP(before)) {
    if (deepEqual(next.clusterIPs ?? [], before.clusterIPs ?? [])) drop(next, "clusterIP", "clusterIPs");
    if (deepEqual(next.ipFamilies, before.ipFamilies)) drop(next, "ipFamilies");
    if (next.ipFamilyPolicy === before.ipFamilyPolicy) drop(next, "ipFamilyPolicy");
  }
  if (needsNodePorts(next) && needsNodePorts(before)) next.ports = carryNodePorts(next.ports, before.ports);
  else if (needsNodePorts(before) && samePorts(next.ports, before.ports)) next.ports = withoutNodePorts(next.ports);
  if (needsHealthCheckPort(next) && needsHealthCheckPort(before)) {
    next.healthCheckNodePort ||= before.healthCheckNodePort;
  } else if (needsHealthCheckPort(before) && next.healthCheckNodePort === before.healthCheckNodePort) {
    drop(next, "healthCheckNodePort");
  }
  if (before.type === "LoadBalancer" && next.type !== "LoadBalancer") {
    if (next.allocateLoadBalancerNodePorts === before.allocateLoadBalancerNodePorts) {
      drop(next, "allocateLoadBalancerNodePorts");
    }
    if (next.loadBalancerClass === before.loadBalancerClass) drop(next, "loadBalancerClass");
  }
  if (isExternal(before) && !isExternal(next) && next.externalTrafficPolicy === before.externalTrafficPolicy) {
    drop(next, "externalTrafficPolicy");
  }
  return next;
}

function isExternal(spec: ServiceSpec): boolean {
  return needsNodePorts(spec) || (spec.type !== "ExternalName" && (spec.externalIPs?.length ?? 0) > 0);
}

function carryClusterIPs(
  next: { clusterIP?: string; clusterIPs?: readonly string[]; type?: string },
  before: ServiceSpec,
) {
  const both = next.type !== "ExternalName" && needsClusterIP(before);
  const sameList = deepEqual(next.clusterIPs ?? [], before.clusterIPs ?? []);
  if (both) {
    if (!next.clusterIP && !next.clusterIPs?.length) next.clusterIP = before.clusterIP;
    if (!next.clusterIPs?.length && next.clusterIP === before.clusterIP) next.clusterIPs = before.clusterIPs;
  }
  // One of the two was changed by a writer that knows only it: the other follows.
  if (next.clusterIP !== before.clusterIP && sameList && next.clusterIPs?.length) {
    next.clusterIPs = next.clusterIP ? [next.clusterIP, ...next.clusterIPs.slice(1)] : [];
  } else if (next.clusterIP && !next.clusterIPs?.length) next.clusterIPs = [next.clusterIP];
}

function carryNodePorts(
  ports: readonly ServicePortSpec[] | undefined,
  before: readonly ServicePortSpec[] | undefined,
): readonly ServicePortSpec[] {
  const key = (port: ServicePortSpec) => `${port.port}/${port.protocol ?? "TCP"}`;
  const known = new Map((before ?? []).flatMap((port) => (port.nodePort ? [[key(port), port.nodePort]] : [])));
  const used = new Set((ports ?? []).flatMap((port) => (port.nodePort ? [port.nodePort] : [])));
  return (ports ?? []).map((port) => {
    const nodePort = port.nodePort ? undefined : known.get(key(port));
    return nodePort === undefined || used.has(nodePort as number) ? port : { ...port, nodePort: nodePort as number };
  });
}

function samePorts(a: readonly ServicePortSpec[] | undefined, b: readonly ServicePortSpec[] | undefined): boolean {
  const numbers = (ports: readonly ServicePortSpec[] | undefined) =>
    new Set((ports ?? []).flatMap((port) => (port.nodePort ? [port.nodePort] : [])));
  const before = numbers(b);
  return [...numbers(a)].every((port) => before.has(port));
}

function withoutNodePorts(ports: readonly ServicePortSpec[] | undefined): readonly ServicePortSpec[] {
  return (ports ?? []).map(({ nodePort: _dropped, ...port }) => port);
}

function drop(spec: Record<string, unknown>, ...fields: (keyof ServiceSpec)[]): void {
  for (const field of fields) delete spec[field];
}
