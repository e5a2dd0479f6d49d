// Rules of Ingress, IngressClass, NetworkPolicy and EndpointSlice (pkg/apis/networking/validation, pkg/apis/discovery/validation).

import { parseCidr } from "../../base/cidr.ts";
import { ipFamily } from "../../base/ip.ts";
import { isEmpty } from "../data.ts";
import type { EndpointSlice } from "../generated/discovery.ts";
import type { Ingress, IngressBackend, NetworkPolicy, NetworkPolicyPeer } from "../generated/networking.ts";
import type { KubeObject } from "../object.ts";
import {
  child,
  duplicate,
  type FieldError,
  forbidden,
  invalidValue,
  notSupported,
  required,
  tooMany,
} from "./field-error.ts";
import { immutableField } from "./metadata.ts";
import {
  dnsLabelProblems,
  dnsSubdomainProblems,
  ipProblem,
  labelNameProblems,
  portNameProblems,
  portProblems,
  wildcardSubdomainProblems,
} from "./names.ts";
import { validateLoadBalancerStatus } from "./service.ts";
import { validateLabelSelector } from "./workloads.ts";

const pathTypes = ["Exact", "ImplementationSpecific", "Prefix"];
const forbiddenSequences = ["//", "/./", "/../", "%2f", "%2F"];
const forbiddenSuffixes = ["/..", "/."];

export function validateIngress(ingress: Ingress): FieldError[] {
  const spec = ingress.spec ?? {};
  const errors: FieldError[] = [];
  if (isEmpty(spec.rules) && spec.defaultBackend === undefined) {
    errors.push(invalidValue("spec", null, "either `defaultBackend` or `rules` must be specified"));
  }
  if (spec.defaultBackend) errors.push(...validateBackend(spec.defaultBackend, "spec.defaultBackend"));
  for (const [index, rule] of (spec.rules ?? []).entries()) {
    const path = `spec.rules[${index}]`;
    let wildcard = false;
    if (rule.host) {
      if (ipFamily(rule.host) !== undefined)
        errors.push(invalidValue(`${path}.host`, rule.host, "must be a DNS name, not an IP address"));
      wildcard = rule.host.includes("*");
      const problems = wildcard ? wildcardSubdomainProblems(rule.host) : dnsSubdomainProblems(rule.host);
      for (const problem of problems) errors.push(invalidValue(`${path}.host`, rule.host, problem));
    }
    if (!rule.http) continue;
    if (isEmpty(rule.http.paths)) errors.push(required(`${path}.http.paths`));
    for (const [number, one] of (rule.http.paths ?? []).entries()) {
      const at = `${path}.http.paths[${number}]`;
      errors.push(...validatePath(one.path ?? "", one.pathType, at));
      errors.push(...validateBackend(one.backend, `${at}.backend`));
    }
  }
  for (const [index, tls] of (spec.tls ?? []).entries()) {
    for (const [number, host] of (tls.hosts ?? []).entries()) {
      const problems = host.includes("*") ? wildcardSubdomainProblems(host) : dnsSubdomainProblems(host);
      for (const problem of problems) errors.push(invalidValue(`spec.tls[${index}].hosts[${number}]`, host, problem));
    }
    if (tls.secretName)
      for (const problem of dnsSubdomainProblems(tls.secretName))
        errors.push(invalidValue(`spec.tls[${index}].secretName`, tls.secretName, problem));
  }
  if (spec.ingressClassName !== undefined) {
    for (const problem of dnsSubdomainProblems(spec.ingressClassName))
      errors.push(invalidValue("spec.ingressClassName", spec.ingressClassName, problem));
  }
  return errors;
}

function validatePath(path: string, type: string | undefined, at: string): FieldError[] {
  const errors: FieldError[] = [];
  if (type === undefined) return [required(`${at}.pathType`, "pathType must be specified")];
  if (type === "Exact" || type === "Prefix") {
    if (!path.startsWith("/")) errors.push(invalidValue(`${at}.path`, path, "must be an absolute path"));
    if (path.length > 0) {
      for (const bad of forbiddenSequences)
        if (path.includes(bad)) errors.push(invalidValue(`${at}.path`, path, `must not contain '${bad}'`));
      for (const bad of forbiddenSuffixes)
        if (path.endsWith(bad)) errors.push(invalidValue(`${at}.path`, path, `cannot end with '${bad}'`));
    }
  } else if (type === "ImplementationSpecific") {
    if (path.length > 0 && !path.startsWith("/"))
      errors.push(invalidValue(`${at}.path`, path, "must be an absolute path"));
  } else errors.push(notSupported(`${at}.pathType`, type, pathTypes));
  return errors;
}

function validateBackend(backend: IngressBackend | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const service = backend?.service;
  const resource = backend?.resource;
  if (service && resource) return [invalidValue(path, "", "cannot set both resource and service backends")];
  if (resource) {
    if (!resource.kind) errors.push(required(`${path}.resource.kind`));
    if (!resource.name) errors.push(required(`${path}.resource.name`));
    return errors;
  }
  if (!service) return [invalidValue(path, "", "resource or service backend is required")];
  const at = `${path}.service`;
  if (!service.name) errors.push(required(`${at}.name`));
  else
    for (const problem of dnsLabelProblems(service.name))
      errors.push(invalidValue(`${at}.name`, service.name, problem));
  const port = service.port ?? {};
  const [hasName, hasNumber] = [Boolean(port.name), Boolean(port.number)];
  if (hasName && hasNumber) errors.push(invalidValue(path, "", "cannot set both port name & port number"));
  else if (hasName)
    for (const problem of portNameProblems(port.name!))
      errors.push(invalidValue(`${at}.port.name`, port.name, problem));
  else if (hasNumber)
    for (const problem of portProblems(port.number))
      errors.push(invalidValue(`${at}.port.number`, port.number, problem));
  else errors.push(required(path, "port name or number is required"));
  return errors;
}

export function validateIngressStatus(object: KubeObject, old: KubeObject): FieldError[] {
  return validateLoadBalancerStatus(object.status, old.status);
}

export function validateIngressClass(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const spec = object.spec ?? {};
  if (!spec.controller) errors.push(required("spec.controller"));
  else {
    if (spec.controller.length > 250)
      errors.push({
        type: "FieldValueTooLong",
        field: "spec.controller",
        message: "Too long: may not be more than 250 bytes",
      });
    if (
      !/^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*\/[A-Za-z0-9/\-._~%!$&'()*+,;=:]+$/.test(
        spec.controller,
      )
    ) {
      errors.push(
        invalidValue("spec.controller", spec.controller, 'must be a domain-prefixed path (such as "acme.io/foo")'),
      );
    }
  }
  const parameters = spec.parameters;
  if (parameters) {
    if (!parameters.kind) errors.push(required("spec.parameters.kind", "kind is required"));
    if (!parameters.name) errors.push(required("spec.parameters.name", "name is required"));
    if (!["Cluster", "Namespace"].includes(parameters.scope))
      errors.push(notSupported("spec.parameters.scope", parameters.scope, ["Cluster", "Namespace"]));
    if (parameters.scope === "Namespace" && !parameters.namespace) {
      errors.push(required("spec.parameters.namespace", "`parameters.scope` is set to 'Namespace'"));
    }
    if (parameters.scope === "Cluster" && parameters.namespace) {
      errors.push(forbidden("spec.parameters.namespace", "`parameters.scope` is set to 'Cluster'"));
    }
  }
  return errors;
}

export function validateIngressClassUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  return [
    ...immutableField("spec.controller", object.spec?.controller, old.spec?.controller),
    ...validateIngressClass(object),
  ];
}

export function validateNetworkPolicy(policy: NetworkPolicy): FieldError[] {
  const spec = policy.spec;
  const errors: FieldError[] = [...validateLabelSelector(spec?.podSelector, "spec.podSelector")];
  for (const [direction, peerField] of [
    ["ingress", "from"],
    ["egress", "to"],
  ] as const) {
    for (const [index, rule] of (
      (spec?.[direction] ?? []) as readonly {
        ports?: readonly { protocol?: string; port?: number | string; endPort?: number }[];
      }[]
    ).entries()) {
      const path = `spec.${direction}[${index}]`;
      for (const [number, port] of (rule.ports ?? []).entries()) {
        const at = `${path}.ports[${number}]`;
        if (port.protocol !== undefined && !["SCTP", "TCP", "UDP"].includes(port.protocol))
          errors.push(notSupported(`${at}.protocol`, port.protocol, ["SCTP", "TCP", "UDP"]));
        if (typeof port.port === "number")
          for (const problem of portProblems(port.port)) errors.push(invalidValue(`${at}.port`, port.port, problem));
        else if (typeof port.port === "string")
          for (const problem of portNameProblems(port.port))
            errors.push(invalidValue(`${at}.port`, port.port, problem));
        if (port.endPort !== undefined) {
          if (typeof port.port === "string")
            errors.push(invalidValue(`${at}.endPort`, port.endPort, "may not be specified when `port` is non-numeric"));
          else if (port.port === undefined)
            errors.push(
              invalidValue(`${at}.endPort`, port.endPort, "may not be specified when `port` is not specified"),
            );
          else if (port.endPort < port.port)
            errors.push(invalidValue(`${at}.endPort`, port.endPort, "must be greater than or equal to `port`"));
        }
      }
      const peers = ((rule as Record<string, unknown>)[peerField] ?? []) as readonly NetworkPolicyPeer[];
      for (const [number, peer] of peers.entries())
        errors.push(...validatePeer(peer, `${path}.${peerField}[${number}]`));
    }
  }
  const types = spec?.policyTypes ?? [];
  if (types.length > 2)
    errors.push(invalidValue("spec.policyTypes", types, "may not specify more than two policyTypes"));
  else
    for (const [index, type] of types.entries())
      if (type !== "Ingress" && type !== "Egress")
        errors.push(notSupported(`spec.policyTypes[${index}]`, type, ["Egress", "Ingress"]));
  return errors;
}

function validatePeer(peer: NetworkPolicyPeer, path: string): FieldError[] {
  const errors: FieldError[] = [];
  const count =
    Number(peer.podSelector !== undefined) +
    Number(peer.namespaceSelector !== undefined) +
    Number(peer.ipBlock !== undefined);
  if (peer.podSelector) errors.push(...validateLabelSelector(peer.podSelector, `${path}.podSelector`));
  if (peer.namespaceSelector)
    errors.push(...validateLabelSelector(peer.namespaceSelector, `${path}.namespaceSelector`));
  if (peer.ipBlock) {
    if (!parseCidr(peer.ipBlock.cidr ?? ""))
      errors.push(
        invalidValue(
          `${path}.ipBlock.cidr`,
          peer.ipBlock.cidr ?? "",
          "must be a valid CIDR value, (e.g. 10.9.8.0/24 or 2001:db8::/64)",
        ),
      );
    if (count > 1) errors.push(forbidden(path, "may not specify both ipBlock and another peer"));
  }
  if (count === 0) errors.push(required(path, "must specify a peer"));
  return errors;
}

const addressTypes = ["FQDN", "IPv4", "IPv6"];
const maxEndpoints = 1000;
const maxPorts = 20000;

export function validateEndpointSlice(slice: EndpointSlice): FieldError[] {
  const errors: FieldError[] = [];
  const type = (slice as KubeObject)["addressType"] as string | undefined;
  if (!type) errors.push(required("addressType"));
  else if (!addressTypes.includes(type)) errors.push(notSupported("addressType", type, addressTypes));
  const endpoints = slice.endpoints ?? [];
  if (endpoints.length > maxEndpoints) errors.push(tooMany("endpoints", endpoints.length, maxEndpoints));
  for (const [index, endpoint] of endpoints.entries()) {
    const path = `endpoints[${index}]`;
    const addresses = endpoint.addresses ?? [];
    if (addresses.length === 0) errors.push(required(`${path}.addresses`, "must contain at least 1 address"));
    if (addresses.length > 100) errors.push(tooMany(`${path}.addresses`, addresses.length, 100));
    for (const [number, address] of addresses.entries())
      errors.push(...validateAddress(address, type, `${path}.addresses[${number}]`));
    if (endpoint.nodeName !== undefined)
      for (const problem of dnsSubdomainProblems(endpoint.nodeName))
        errors.push(invalidValue(`${path}.nodeName`, endpoint.nodeName, problem));
    if (endpoint.hostname !== undefined)
      for (const problem of dnsLabelProblems(endpoint.hostname))
        errors.push(invalidValue(`${path}.hostname`, endpoint.hostname, problem));
  }
  const ports = slice.ports ?? [];
  if (ports.length > maxPorts) errors.push(tooMany("ports", ports.length, maxPorts));
  const names = new Set<string>();
  for (const [index, port] of ports.entries()) {
    const path = `ports[${index}]`;
    const name = port.name ?? "";
    if (name !== "")
      for (const problem of dnsLabelProblems(name)) errors.push(invalidValue(`${path}.name`, name, problem));
    if (names.has(name)) errors.push(duplicate(`${path}.name`, name));
    names.add(name);
    if (!port.protocol) errors.push(required(`${path}.protocol`));
    else if (!["SCTP", "TCP", "UDP"].includes(port.protocol))
      errors.push(notSupported(`${path}.protocol`, port.protocol, ["SCTP", "TCP", "UDP"]));
    if (port.port !== undefined)
      for (const problem of portProblems(port.port)) errors.push(invalidValue(child(path, "port"), port.port, problem));
    if (port.appProtocol !== undefined)
      for (const problem of labelNameProblems(port.appProtocol))
        errors.push(invalidValue(`${path}.appProtocol`, port.appProtocol, problem));
  }
  return errors;
}

function validateAddress(address: string, type: string | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (type === "FQDN") return dnsSubdomainProblems(address).map((problem) => invalidValue(path, address, problem));
  const family = ipFamily(address);
  if (type === "IPv4") {
    if (family === undefined) errors.push(invalidValue(path, address, ipProblem));
    else if (family !== 4) errors.push(invalidValue(path, address, "must be an IPv4 address"));
  } else if (type === "IPv6") {
    if (family === undefined) errors.push(invalidValue(path, address, ipProblem));
    else if (family !== 6) errors.push(invalidValue(path, address, "must be an IPv6 address"));
  }
  return errors.length > 0 || family === undefined ? errors : specialAddress(address, path);
}

/** Addresses that no endpoint may have. */
function specialAddress(address: string, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (address === "0.0.0.0" || address === "::")
    errors.push(invalidValue(path, address, "may not be unspecified (0.0.0.0 or ::)"));
  if (/^127\./.test(address) || address === "::1")
    errors.push(invalidValue(path, address, "may not be in the loopback range (127.0.0.0/8, ::1/128)"));
  if (/^(169\.254\.|fe[89ab])/i.test(address))
    errors.push(invalidValue(path, address, "may not be in the link-local range (169.254.0.0/16, fe80::/10)"));
  if (/^(224\.0\.0\.|ff02:)/i.test(address))
    errors.push(invalidValue(path, address, "may not be in the link-local multicast range (224.0.0.0/24, ff02::/10)"));
  return errors;
}

export function validateEndpointSliceUpdate(slice: EndpointSlice, old: EndpointSlice): FieldError[] {
  return [...validateEndpointSlice(slice), ...immutableField("addressType", slice["addressType"], old["addressType"])];
}

interface Subset {
  readonly addresses?: readonly { readonly ip?: string; readonly hostname?: string; readonly nodeName?: string }[];
  readonly notReadyAddresses?: Subset["addresses"];
  readonly ports?: readonly { readonly name?: string; readonly port?: number; readonly protocol?: string }[];
}

/** The older Endpoints (pkg/apis/core/validation ValidateEndpoints). */
export function validateEndpoints(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  for (const [index, subset] of ((object["subsets"] ?? []) as readonly Subset[]).entries()) {
    const path = `subsets[${index}]`;
    if (isEmpty(subset.addresses) && isEmpty(subset.notReadyAddresses)) {
      errors.push(required(path, "must specify `addresses` or `notReadyAddresses`"));
    }
    for (const list of ["addresses", "notReadyAddresses"] as const) {
      for (const [number, one] of (subset[list] ?? []).entries()) {
        const at = `${path}.${list}[${number}]`;
        if (ipFamily(one.ip ?? "") === undefined) errors.push(invalidValue(`${at}.ip`, one.ip ?? "", ipProblem));
        else errors.push(...specialAddress(one.ip!, `${at}.ip`));
        if (one.hostname)
          for (const problem of dnsLabelProblems(one.hostname))
            errors.push(invalidValue(`${at}.hostname`, one.hostname, problem));
      }
    }
    const ports = subset.ports ?? [];
    for (const [number, port] of ports.entries()) {
      const at = `${path}.ports[${number}]`;
      if (ports.length > 1 && !port.name) errors.push(required(`${at}.name`));
      else if (port.name)
        for (const problem of dnsLabelProblems(port.name)) errors.push(invalidValue(`${at}.name`, port.name, problem));
      for (const problem of portProblems(port.port)) errors.push(invalidValue(`${at}.port`, port.port, problem));
      if (!port.protocol) errors.push(required(`${at}.protocol`));
      else if (!["SCTP", "TCP", "UDP"].includes(port.protocol))
        errors.push(notSupported(`${at}.protocol`, port.protocol, ["SCTP", "TCP", "UDP"]));
    }
  }
  return errors;
}
