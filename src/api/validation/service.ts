// Rules of Services (pkg/apis/core/validation ValidateService), without allocation: whether an address or port is free, in range
// and of a family that the cluster has, is asked where they are allocated.

import { parseCidr } from "../../base/cidr.ts";
import { ipFamily } from "../../base/ip.ts";
import { equal, semanticEqual } from "../data.ts";
import type { Service, ServicePort, ServiceSpec } from "../generated/core.ts";
import { child, duplicate, type FieldError, forbidden, invalidValue, notSupported, required } from "./field-error.ts";
import { validateLabels } from "./metadata.ts";
import {
  dnsLabelProblems,
  dnsSubdomainProblems,
  ipProblem,
  labelNameProblems,
  portNameProblems,
  portProblems,
} from "./names.ts";
import { validateIPFamilies } from "./service-ip-families.ts";

const types = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"];

export function validateService(service: Service): FieldError[] {
  const spec: ServiceSpec = service.spec ?? {};
  const path = "spec";
  const errors: FieldError[] = [];
  const type = spec.type ?? "";
  const ports = spec.ports ?? [];
  if (ports.length === 0 && !isHeadless(spec) && type !== "ExternalName") errors.push(required("spec.ports"));
  if (type === "LoadBalancer") {
    for (const [index, port] of ports.entries()) {
      if (port.port === 10250) {
        errors.push(
          invalidValue(
            `spec.ports[${index}].port`,
            port.port,
            "may not expose port 10250 externally since it is used by kubelet",
          ),
        );
      }
    }
    if (isHeadless(spec))
      errors.push(invalidValue("spec.clusterIPs[0]", "None", "may not be set to 'None' for LoadBalancer services"));
  } else if (type === "NodePort") {
    if (isHeadless(spec))
      errors.push(invalidValue("spec.clusterIPs[0]", "None", "may not be set to 'None' for NodePort services"));
  } else if (type === "ExternalName") {
    if (spec.clusterIPs?.length)
      errors.push(forbidden("spec.clusterIPs", "may not be set when `type` is 'ExternalName'"));
    if (spec.ipFamilies?.length) errors.push(forbidden("spec.ipFamilies", "may not be set for ExternalName services"));
    if (spec.ipFamilyPolicy !== undefined)
      errors.push(forbidden("spec.ipFamilyPolicy", "may not be set for ExternalName services"));
    const name = (spec.externalName ?? "").replace(/\.$/, "");
    if (name === "") errors.push(required("spec.externalName"));
    else
      for (const problem of dnsSubdomainProblems(name))
        errors.push(invalidValue("spec.externalName", spec.externalName, problem));
  }

  const many = ports.length > 1;
  const names = new Set<string>();
  for (const [index, port] of ports.entries()) errors.push(...validatePort(port, `spec.ports[${index}]`, many, names));
  if (spec.selector) errors.push(...validateLabels(spec.selector, "spec.selector"));

  if (!spec.sessionAffinity) errors.push(required("spec.sessionAffinity"));
  else if (!["ClientIP", "None"].includes(spec.sessionAffinity)) {
    errors.push(notSupported("spec.sessionAffinity", spec.sessionAffinity, ["ClientIP", "None"]));
  }
  const seconds = spec.sessionAffinityConfig?.clientIP?.timeoutSeconds;
  if (spec.sessionAffinity === "ClientIP" && seconds !== undefined && (seconds <= 0 || seconds > 86400)) {
    errors.push(
      invalidValue(
        "spec.sessionAffinityConfig.clientIP.timeoutSeconds",
        seconds,
        "must be greater than 0 and less than 86400",
      ),
    );
  } else if (spec.sessionAffinity === "None" && spec.sessionAffinityConfig !== undefined) {
    errors.push(forbidden("spec.sessionAffinityConfig", "must not be set when session affinity is None"));
  }

  if (type !== "ExternalName") errors.push(...validateIPFamilies(spec));
  for (const [index, ip] of (spec.externalIPs ?? []).entries()) {
    const at = `spec.externalIPs[${index}]`;
    if (ipFamily(ip) === undefined) errors.push(invalidValue(at, ip, ipProblem));
    else if (/^(0\.0\.0\.0|::)$/.test(ip)) errors.push(invalidValue(at, ip, "may not be unspecified (0.0.0.0 or ::)"));
    else if (/^(127\.|::1$)/.test(ip))
      errors.push(invalidValue(at, ip, "may not be in the loopback range (127.0.0.0/8, ::1/128)"));
    else if (/^(169\.254\.|fe80:)/i.test(ip)) {
      errors.push(invalidValue(at, ip, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
    }
  }
  if (!type) errors.push(required("spec.type"));
  else if (!types.includes(type)) errors.push(notSupported("spec.type", type, types));

  if (type === "ClusterIP") {
    for (const [index, port] of ports.entries()) {
      if (port.nodePort)
        errors.push(forbidden(`spec.ports[${index}].nodePort`, "may not be used when `type` is 'ClusterIP'"));
    }
  }
  const nodePorts = new Set<string>();
  for (const [index, port] of ports.entries()) {
    if (!port.nodePort) continue;
    const id = `${port.protocol}/${port.nodePort}`;
    if (nodePorts.has(id)) errors.push(duplicate(`spec.ports[${index}].nodePort`, port.nodePort));
    nodePorts.add(id);
  }
  const seen = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const id = `${port.protocol}/${port.port}`;
    if (seen.has(id)) errors.push(duplicate(`spec.ports[${index}]`, new DuplicatePort(port)));
    seen.add(id);
  }
  errors.push(...validateLoadBalancer(spec, path), ...validateTraffic(spec));
  return errors;
}

/** The internal struct that upstream prints for a duplicate port, in the order of its fields. */
class DuplicatePort {
  readonly #port: ServicePort;
  constructor(port: ServicePort) {
    this.#port = port;
  }
  toJSON(): unknown {
    const port = this.#port;
    return { Name: "", Protocol: port.protocol, AppProtocol: null, Port: port.port, TargetPort: 0, NodePort: 0 };
  }
}

function validatePort(port: ServicePort, path: string, many: boolean, names: Set<string>): FieldError[] {
  const errors: FieldError[] = [];
  if (many && !port.name) errors.push(required(child(path, "name")));
  else if (port.name) {
    for (const problem of dnsLabelProblems(port.name))
      errors.push(invalidValue(child(path, "name"), port.name, problem));
    if (names.has(port.name)) errors.push(duplicate(child(path, "name"), port.name));
    names.add(port.name);
  }
  for (const problem of portProblems(port.port)) errors.push(invalidValue(child(path, "port"), port.port, problem));
  if (!port.protocol) errors.push(required(child(path, "protocol")));
  else if (!["SCTP", "TCP", "UDP"].includes(port.protocol)) {
    errors.push(notSupported(child(path, "protocol"), port.protocol, ["SCTP", "TCP", "UDP"]));
  }
  const target = port.targetPort;
  if (typeof target === "number") {
    for (const problem of portProblems(target)) errors.push(invalidValue(child(path, "targetPort"), target, problem));
  } else if (typeof target === "string") {
    for (const problem of portNameProblems(target))
      errors.push(invalidValue(child(path, "targetPort"), target, problem));
  }
  if (port.appProtocol !== undefined) {
    for (const problem of labelNameProblems(port.appProtocol))
      errors.push(invalidValue(child(path, "appProtocol"), port.appProtocol, problem));
  }
  return errors;
}

function validateLoadBalancer(spec: ServiceSpec, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (spec.loadBalancerSourceRanges?.length) {
    if (spec.type !== "LoadBalancer") {
      errors.push(forbidden(`${path}.LoadBalancerSourceRanges`, "may only be used when `type` is 'LoadBalancer'"));
    }
    for (const [index, range] of spec.loadBalancerSourceRanges.entries()) {
      if (!parseCidr(range.trim())) {
        errors.push(
          invalidValue(
            `spec.LoadBalancerSourceRanges[${index}]`,
            range,
            "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
          ),
        );
      }
    }
  }
  if (spec.allocateLoadBalancerNodePorts !== undefined && spec.type !== "LoadBalancer") {
    errors.push(forbidden("spec.allocateLoadBalancerNodePorts", "may only be used when `type` is 'LoadBalancer'"));
  }
  if (spec.type === "LoadBalancer" && spec.allocateLoadBalancerNodePorts === undefined) {
    errors.push(required("spec.allocateLoadBalancerNodePorts", "field is required when `type` is 'LoadBalancer'"));
  }
  if (spec.loadBalancerClass !== undefined) {
    if (spec.type !== "LoadBalancer")
      errors.push(forbidden("spec.loadBalancerClass", "may only be used when `type` is 'LoadBalancer'"));
    for (const problem of labelNameProblems(spec.loadBalancerClass))
      errors.push(invalidValue("spec.loadBalancerClass", spec.loadBalancerClass, problem));
  }
  return errors;
}

const external = (spec: ServiceSpec) =>
  spec.type === "NodePort" ||
  spec.type === "LoadBalancer" ||
  (spec.type === "ClusterIP" && (spec.externalIPs?.length ?? 0) > 0);

function validateTraffic(spec: ServiceSpec): FieldError[] {
  const errors: FieldError[] = [];
  const policy = spec.externalTrafficPolicy;
  if (policy !== undefined) {
    if (!external(spec))
      errors.push(
        invalidValue("spec.externalTrafficPolicy", policy, "may only be set for externally-accessible services"),
      );
    else if (!["Cluster", "Local"].includes(policy))
      errors.push(notSupported("spec.externalTrafficPolicy", policy, ["Cluster", "Local"]));
  }
  if (spec.healthCheckNodePort && !(spec.type === "LoadBalancer" && policy === "Local")) {
    errors.push(
      invalidValue(
        "spec.healthCheckNodePort",
        spec.healthCheckNodePort,
        "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
      ),
    );
  }
  const internal = spec.internalTrafficPolicy;
  if (internal !== undefined && !["Cluster", "Local"].includes(internal)) {
    errors.push(notSupported("spec.internalTrafficPolicy", internal, ["Cluster", "Local"]));
  }
  const distribution = spec.trafficDistribution;
  const distributions = ["PreferClose", "PreferSameZone", "PreferSameNode"];
  if (distribution !== undefined && !distributions.includes(distribution)) {
    errors.push(notSupported("spec.trafficDistribution", distribution, distributions));
  }
  return errors;
}

/** What may not change while the type needs it. */
export function validateServiceUpdate(service: Service, old: Service): FieldError[] {
  const [now, was] = [service.spec ?? {}, old.spec ?? {}];
  const errors: FieldError[] = [];
  if (now.type !== "ExternalName" && was.type !== "ExternalName") {
    const [list, before] = [now.clusterIPs ?? [], was.clusterIPs ?? []];
    if (before[0] !== undefined && before[0] !== "" && list[0] !== before[0]) {
      errors.push(invalidValue("spec.clusterIPs[0]", list, "may not change once set"));
    } else if (before[1] !== undefined && list[1] !== undefined && list[1] !== before[1]) {
      errors.push(invalidValue("spec.clusterIPs[1]", list, "may not change once set"));
    }
    if (was.ipFamilies?.[0] !== undefined && now.ipFamilies?.[0] !== was.ipFamilies[0]) {
      errors.push(invalidValue("spec.ipFamilies[0]", now.ipFamilies ?? null, "may not change once set"));
    }
  }
  if (now.type === "LoadBalancer" && was.type === "LoadBalancer") {
    if (!equal(now.loadBalancerClass ?? null, was.loadBalancerClass ?? null)) {
      errors.push(invalidValue("spec.loadBalancerClass", now.loadBalancerClass ?? null, "may not change once set"));
    }
    if (was.healthCheckNodePort && now.healthCheckNodePort && now.healthCheckNodePort !== was.healthCheckNodePort) {
      errors.push(invalidValue("spec.healthCheckNodePort", now.healthCheckNodePort, "field is immutable"));
    }
  }
  return [...errors, ...validateService(service)];
}

interface LoadBalancerIngress {
  readonly ip?: string;
  readonly hostname?: string;
  readonly ipMode?: string;
}

/** `status.loadBalancer` of Services and Ingresses. */
export function validateLoadBalancerStatus(
  status: { readonly loadBalancer?: { readonly ingress?: readonly LoadBalancerIngress[] } } | undefined,
  old: unknown,
  service?: ServiceSpec,
): FieldError[] {
  const errors: FieldError[] = [];
  const list = status?.loadBalancer?.ingress ?? [];
  if (service && service.type !== "LoadBalancer" && list.length > 0 && !semanticEqual(status, old)) {
    return [forbidden("status.loadBalancer.ingress", "may only be used when `spec.type` is LoadBalancer")];
  }
  for (const [index, one] of list.entries()) {
    const path = `status.loadBalancer.ingress[${index}]`;
    if (one.ip && ipFamily(one.ip) === undefined) errors.push(invalidValue(`${path}.ip`, one.ip, ipProblem));
    if (service && one.ipMode !== undefined) {
      if (!one.ip) errors.push(forbidden(`${path}.ipMode`, "may not be specified when `ip` is not set"));
      else if (!["VIP", "Proxy"].includes(one.ipMode))
        errors.push(notSupported(`${path}.ipMode`, one.ipMode, ["VIP", "Proxy"]));
    }
    if (one.hostname) {
      for (const problem of dnsSubdomainProblems(one.hostname))
        errors.push(invalidValue(`${path}.hostname`, one.hostname, problem));
      if (ipFamily(one.hostname) !== undefined)
        errors.push(invalidValue(`${path}.hostname`, one.hostname, "must be a DNS name, not an IP address"));
    }
  }
  return errors;
}

const isHeadless = (spec: ServiceSpec) => spec.clusterIP === "None" || spec.clusterIPs?.[0] === "None";
