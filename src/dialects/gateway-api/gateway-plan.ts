// What a Gateway asks for, listener by listener, and which of it can be had: protocols, conflicts, certificates, route kinds.
// The plan says nothing of routes and addresses: routes are attached to it, and a change of theirs does not change it.
// Follows Gateway API's Gateway and Listener (gateway.networking.k8s.io/v1) and GEP-1364 for conditions.

import type { GatewayListener, ReferenceGrant } from "../../api/kinds.ts";
import type { LabelSelectorObject } from "../../api/selectors.ts";
import { ipFamily } from "../../base/ip.ts";
import { covers } from "../../model/host-pattern.ts";
import type { HostPattern, RouteTableName, SecretName } from "../../model/model.ts";
import { kubernetesSecretName } from "../../model/names.ts";
import type { Finding } from "../../model/status-update.ts";
import type { CertificateView } from "./certificates.ts";
import { finding } from "./findings.ts";
import { grantRemedy, isGranted } from "./grants.ts";
import { type GatewayKey, gatewayGroup, tableName } from "./names.ts";
import type { GatewayView } from "./views.ts";

/** The making of a condition: whether it holds, and why. */
export interface Verdict {
  readonly ok: boolean;
  readonly reason: string;
  readonly message: string;
}

export interface ListenerPlan {
  readonly name: string;
  /** `spec.listeners[0]`. */
  readonly field: string;
  readonly port: number;
  readonly protocol: string;
  /** `*` when the listener names none. */
  readonly hostname: HostPattern;
  /** Where its routes go; undefined for a protocol that is not served. */
  readonly table: RouteTableName | undefined;
  /** Whether HTTPRoutes may attach, by kind. */
  readonly takesHttpRoutes: boolean;
  readonly supportedKinds: readonly { readonly group: string; readonly kind: string }[];
  readonly namespaces: { readonly from: string; readonly selector: LabelSelectorObject | undefined };
  readonly accepted: Verdict;
  readonly resolved: Verdict;
  /** `ok` is "no conflict". */
  readonly conflicts: Verdict;
  /** Those that can serve, in the order of the references. */
  readonly certificates: readonly SecretName[];
  /** Whether a proxy is to open it. */
  readonly served: boolean;
}

export interface GatewayPlan {
  readonly key: GatewayKey;
  readonly namespace: string;
  readonly name: string;
  readonly controllerName: string;
  readonly accepted: Verdict;
  /** The addresses that `spec.addresses` asks for by value. */
  readonly requestedAddresses: readonly string[];
  readonly listeners: readonly ListenerPlan[];
}

/** What a plan reads from other objects. */
export interface GatewayContext {
  readonly controllerName: string;
  /** Undefined when the Secret is not there. */
  certificate(key: string): CertificateView | undefined;
  grants(namespace: string): readonly ReferenceGrant[];
  /** The older Gateway that has this port on the same address already. */
  portTakenBy(port: number): GatewayKey | undefined;
}

export interface GatewayResult {
  readonly plan: GatewayPlan;
  readonly findings: readonly Finding[];
}

const accepted: Verdict = { ok: true, reason: "Accepted", message: "accepted" };
const resolvedRefs: Verdict = { ok: true, reason: "ResolvedRefs", message: "all references resolve" };
const noConflicts: Verdict = { ok: true, reason: "NoConflicts", message: "no other listener is in its way" };

export function planGateway(gateway: GatewayView, context: GatewayContext): GatewayResult {
  const findings: Finding[] = [];
  const object = { kind: "Gateway", namespace: gateway.namespace, name: gateway.name };
  const say = (field: string, code: string, severity: Finding["severity"], problem: string, remedy: string) =>
    findings.push(finding(object, field, code, severity, problem, remedy));

  const { accepted: ownVerdict, requestedAddresses } = judgeGateway(gateway, say);
  const conflicts = findConflicts(gateway.spec.listeners);
  const listeners = gateway.spec.listeners.map((listener, i): ListenerPlan => {
    const field = `spec.listeners[${i}]`;
    const kinds = routeKinds(listener, field, say);
    const conflict = conflicts.get(listener.name);
    const refused = conflict ?? refusal(gateway, listener, field, context, say);
    const certificates = resolveCertificates(gateway, listener, field, context, say);
    const broken = certificates.problems[0];
    const resolved: Verdict = broken
      ? { ok: false, reason: broken.reason, message: certificates.problems.map((one) => one.message).join("; ") }
      : (kinds.problem ?? resolvedRefs);
    if (conflict) {
      say(
        field,
        conflict.reason,
        "error",
        conflict.message,
        "give each listener of a port its own hostname, and one protocol",
      );
    }
    const supported = isSupported(listener);
    return {
      name: listener.name,
      field,
      port: listener.port,
      protocol: listener.protocol,
      hostname: listener.hostname || "*",
      table: supported
        ? tableName(gateway.key, listener.port, listener.protocol === "HTTPS" ? listener.name : undefined)
        : undefined,
      takesHttpRoutes: kinds.httpRoute,
      supportedKinds: kinds.httpRoute && conflict?.reason !== "ProtocolConflict" ? [httpRouteKind] : [],
      namespaces: {
        from: listener.allowedRoutes?.namespaces?.from ?? "Same",
        selector: listener.allowedRoutes?.namespaces?.selector,
      },
      accepted: refused ?? accepted,
      resolved,
      conflicts: conflict ?? noConflicts,
      certificates: certificates.names,
      served: ownVerdict.ok && !refused && (listener.protocol === "HTTP" || certificates.names.length > 0),
    };
  });
  noteWhatIsNotRead(gateway, say);

  return {
    plan: {
      key: gateway.key,
      namespace: gateway.namespace,
      name: gateway.name,
      controllerName: context.controllerName,
      accepted: ownVerdict,
      requestedAddresses,
      listeners,
    },
    findings,
  };
}

type Say = (field: string, code: string, severity: Finding["severity"], problem: string, remedy: string) => void;

/** What of the Gateway itself cannot be had. Listeners are judged apart. */
export function judgeGateway(
  gateway: GatewayView,
  say: Say,
): { accepted: Verdict; requestedAddresses: readonly string[] } {
  const parameters = gateway.spec.infrastructure?.parametersRef;
  if (parameters) {
    const message = `${parameters.kind} ${parameters.name} is not known: Fairlead has no parameters for Gateways`;
    const field = "spec.infrastructure.parametersRef";
    say(field, "InvalidParameters", "error", message, `remove ${field}`);
    return {
      accepted: { ok: false, reason: "InvalidParameters", message: `${field}: ${message}` },
      requestedAddresses: [],
    };
  }
  const addresses = gateway.spec.addresses ?? [];
  for (const [i, { type = "IPAddress", value }] of addresses.entries()) {
    const field = `spec.addresses[${i}]`;
    let message: string | undefined;
    if (type !== "IPAddress") message = `an address of type ${type} cannot be had, only IPAddress`;
    else if (value && ipFamily(value) === undefined) message = `"${value}" is no IP address`;
    if (message === undefined) continue;
    say(field, "UnsupportedAddress", "error", message, "ask for one IPAddress, or leave spec.addresses out");
    return {
      accepted: { ok: false, reason: "UnsupportedAddress", message: `${field}: ${message}` },
      requestedAddresses: [],
    };
  }
  return { accepted, requestedAddresses: addresses.flatMap(({ value }) => (value ? [value] : [])) };
}

function isSupported(listener: GatewayListener): boolean {
  return listener.protocol === "HTTP" || listener.protocol === "HTTPS";
}

/** Why a listener is not accepted, on its own; undefined when it is. */
function refusal(
  gateway: GatewayView,
  listener: GatewayListener,
  field: string,
  context: GatewayContext,
  say: Say,
): Verdict | undefined {
  const refuse = (reason: string, at: string, message: string, remedy: string): Verdict => {
    say(at, reason, "error", message, remedy);
    return { ok: false, reason, message: `${at}: ${message}` };
  };
  if (!isSupported(listener)) {
    return refuse(
      "UnsupportedProtocol",
      `${field}.protocol`,
      `protocol ${listener.protocol} is not served yet`,
      "use HTTP or HTTPS",
    );
  }
  if (listener.protocol === "HTTPS" && listener.tls?.mode === "Passthrough") {
    return refuse(
      "UnsupportedValue",
      `${field}.tls.mode`,
      "an HTTPS listener cannot pass TLS through",
      "use Terminate",
    );
  }
  if (listener.protocol === "HTTPS") {
    const frontend = gateway.spec.tls?.frontend;
    const perPort = frontend?.perPort?.find((one) => one.port === listener.port);
    const validation = perPort ? perPort.tls.validation : frontend?.default.validation;
    if (validation) {
      return refuse(
        "UnsupportedValue",
        "spec.tls.frontend",
        `client certificates are not checked yet, so listener "${listener.name}" is not opened without the check`,
        "remove spec.tls.frontend if clients may come without a certificate",
      );
    }
  }
  const taken = context.portTakenBy(listener.port);
  if (taken) {
    return refuse(
      "PortUnavailable",
      `${field}.port`,
      `port ${listener.port} of this address is Gateway ${taken}'s, which is older`,
      "ask for another address in spec.addresses, or another port",
    );
  }
  return undefined;
}

/**
 * Listeners that cannot be told apart: two of one port that speak different protocols, or the same protocol for the same
 * hostname. All of them are refused (Gateway API, Listener: "indistinct"), but only those that could be served otherwise count.
 */
function findConflicts(listeners: readonly GatewayListener[]): ReadonlyMap<string, Verdict> {
  const found = new Map<string, Verdict>();
  const candidates = listeners.filter(isSupported);
  for (const listener of candidates) {
    const others = candidates.filter((other) => other !== listener && other.port === listener.port);
    const foreign = others.find((other) => other.protocol !== listener.protocol);
    if (foreign) {
      const message = `port ${listener.port} is also listener "${foreign.name}"'s, with protocol ${foreign.protocol}`;
      found.set(listener.name, { ok: false, reason: "ProtocolConflict", message });
      continue;
    }
    const same = others.find((other) => (other.hostname || "*") === (listener.hostname || "*"));
    if (same) {
      const what = listener.hostname ? `hostname "${listener.hostname}"` : "every hostname";
      const message = `${what} of port ${listener.port} is also listener "${same.name}"'s`;
      found.set(listener.name, { ok: false, reason: "HostnameConflict", message });
    }
  }
  return found;
}

const httpRouteKind = { group: gatewayGroup, kind: "HTTPRoute" };

function routeKinds(
  listener: GatewayListener,
  field: string,
  say: Say,
): { readonly httpRoute: boolean; readonly problem: Verdict | undefined } {
  const asked = listener.allowedRoutes?.kinds ?? [];
  if (!isSupported(listener)) return { httpRoute: false, problem: undefined };
  if (asked.length === 0) return { httpRoute: true, problem: undefined };
  const isHttpRoute = (kind: { readonly group?: string; readonly kind: string }) =>
    (kind.group ?? gatewayGroup) === gatewayGroup && kind.kind === "HTTPRoute";
  const unknown = asked.findIndex((kind) => !isHttpRoute(kind));
  const httpRoute = asked.some(isHttpRoute);
  if (unknown < 0) return { httpRoute, problem: undefined };
  const at = `${field}.allowedRoutes.kinds[${unknown}]`;
  const { group, kind } = asked[unknown]!;
  const message = `routes of kind ${kind}${group && group !== gatewayGroup ? ` (${group})` : ""} cannot attach to an ${listener.protocol} listener; HTTPRoute can`;
  say(at, "InvalidRouteKinds", "error", message, "use HTTPRoute");
  return { httpRoute, problem: { ok: false, reason: "InvalidRouteKinds", message: `${at}: ${message}` } };
}

interface Certificates {
  readonly names: readonly SecretName[];
  readonly problems: readonly { readonly reason: string; readonly message: string }[];
}

function resolveCertificates(
  gateway: GatewayView,
  listener: GatewayListener,
  field: string,
  context: GatewayContext,
  say: Say,
): Certificates {
  if (listener.protocol !== "HTTPS") return { names: [], problems: [] };
  const names: SecretName[] = [];
  const covered: string[] = [];
  const problems: { reason: string; message: string }[] = [];
  const broken = (at: string, reason: string, message: string, remedy: string) => {
    say(at, reason, "error", message, remedy);
    problems.push({ reason, message: `${at}: ${message}` });
  };
  const refs = listener.tls?.certificateRefs ?? [];
  if (refs.length === 0) {
    const at = `${field}.tls.certificateRefs`;
    broken(
      at,
      "InvalidCertificateRef",
      "an HTTPS listener needs a certificate",
      "name a Secret of type kubernetes.io/tls",
    );
  }
  for (const [i, { group = "", kind = "Secret", namespace = gateway.namespace, name }] of refs.entries()) {
    const at = `${field}.tls.certificateRefs[${i}]`;
    if (group !== "" || kind !== "Secret") {
      const what = group === "" ? kind : `${kind} (${group})`;
      broken(at, "InvalidCertificateRef", `${what} is no kind that holds certificates`, "refer to a Secret");
      continue;
    }
    const referrer = { kind: "Gateway", namespace: gateway.namespace } as const;
    const referent = { group, kind, name };
    if (namespace !== gateway.namespace && !isGranted(context.grants(namespace), referrer, referent)) {
      const message = `Secret ${namespace}/${name} is in another namespace, which does not permit the reference`;
      broken(at, "RefNotPermitted", message, grantRemedy(referrer, referent, namespace));
      continue;
    }
    const certificate = context.certificate(`${namespace}/${name}`);
    if (!certificate) {
      broken(
        at,
        "InvalidCertificateRef",
        `Secret ${namespace}/${name} does not exist`,
        "create it, of type kubernetes.io/tls",
      );
      continue;
    }
    if (!certificate.names) {
      const message = `Secret ${namespace}/${name} ${certificate.problem}`;
      broken(at, "InvalidCertificateRef", message, "put a PEM certificate and its key into tls.crt and tls.key");
      continue;
    }
    names.push(kubernetesSecretName(namespace, name));
    covered.push(...certificate.names);
  }
  const hostname = listener.hostname;
  if (hostname && names.length > 0 && !covered.some((name) => certificateCovers(name, hostname))) {
    say(
      `${field}.tls.certificateRefs`,
      "CertificateNameMismatch",
      "warning",
      `no certificate is for "${hostname}" (they are for ${covered.map((name) => `"${name}"`).join(", ") || "no name"})`,
      "use a certificate for the listener's hostname: clients will refuse this one",
    );
  }
  return { names, problems };
}

/** A wildcard of a certificate takes one label (RFC 6125 §6.4.3); of a listener's wildcard, the certificate must have the same. */
function certificateCovers(name: string, hostname: string): boolean {
  const lower = name.toLowerCase();
  if (lower === hostname) return true;
  return (
    !hostname.startsWith("*.") && covers(lower, hostname) && hostname.split(".").length === lower.split(".").length
  );
}

/** Fields that ask for what is not done yet. */
function noteWhatIsNotRead(gateway: GatewayView, say: Say): void {
  const { allowedListeners, tls, listeners } = gateway.spec;
  const from = allowedListeners?.namespaces?.from ?? "None";
  if (from !== "None") {
    say(
      "spec.allowedListeners",
      "NotSupported",
      "warning",
      "ListenerSets are not served yet",
      "put the listeners into the Gateway",
    );
  }
  if (tls?.backend?.clientCertificateRef) {
    const field = "spec.tls.backend.clientCertificateRef";
    say(
      field,
      "NotSupported",
      "warning",
      "connections to backends present no client certificate yet",
      `remove ${field}`,
    );
  }
  listeners.forEach((listener, i) => {
    const options = Object.keys(listener.tls?.options ?? {});
    if (options.length === 0) return;
    const field = `spec.listeners[${i}].tls.options`;
    say(field, "NotSupported", "warning", `options are not read: ${options.join(", ")}`, `remove ${field}`);
  });
}
