// What objects refer to, for `--fill`: the Services that routes and Ingresses send to, the TLS Secrets that listeners and
// Ingresses serve with, the classes, and the labels that a Gateway asks of a namespace. Pure; a Reference knows who made it.

import type { KubeObject } from "../api/object.ts";
import { nameOf } from "../api/object.ts";
import { parseApiVersion } from "../api/resource.ts";
import { type LabelSelectorObject, matchesLabelSelector } from "../api/selectors.ts";
import { describeProvenance } from "../model/provenance.ts";

/** `HTTPRoute shop/orders spec.rules[0].backendRefs[0]`. */
export type Place = string;

export interface ServiceReference {
  readonly namespace: string;
  readonly name: string;
  /** A port number or, from an Ingress, a port's name. */
  readonly port: number | string | undefined;
  readonly protocol: "TCP" | "UDP";
  /** What speaks there, where the kind of route says so. */
  readonly appProtocol?: string;
  readonly by: Place;
}

export interface SecretReference {
  readonly namespace: string;
  readonly name: string;
  /** DNS names to be served with it; never empty. */
  readonly hosts: readonly string[];
  readonly by: Place;
}

const routeKinds = new Set(["HTTPRoute", "GRPCRoute", "TCPRoute", "TLSRoute", "UDPRoute"]);
const gatewayGroup = "gateway.networking.k8s.io";

export const isGateway = (object: KubeObject) => object.kind === "Gateway" && groupOf(object) === gatewayGroup;
export const isRoute = (object: KubeObject) => routeKinds.has(object.kind) && groupOf(object) === gatewayGroup;
export const isIngress = (object: KubeObject) => object.kind === "Ingress" && groupOf(object) === "networking.k8s.io";

function groupOf(object: KubeObject): string {
  return parseApiVersion(object.apiVersion).group;
}

/** All Services that an object sends traffic to. `namespace` is the one it lives in. */
export function serviceReferences(object: KubeObject, namespace: string): readonly ServiceReference[] {
  if (isRoute(object)) return ofRoute(object, namespace);
  return isIngress(object) ? ofIngress(object, namespace) : [];
}

interface BackendRef {
  readonly group?: string;
  readonly kind?: string;
  readonly namespace?: string;
  readonly name: string;
  readonly port?: number;
  readonly filters?: readonly Filter[];
}
interface Filter {
  readonly requestMirror?: { readonly backendRef?: BackendRef };
}
interface Rule {
  readonly backendRefs?: readonly BackendRef[];
  readonly filters?: readonly Filter[];
}

function ofRoute(route: KubeObject, namespace: string): readonly ServiceReference[] {
  const found: ServiceReference[] = [];
  const add = (ref: BackendRef | undefined, field: string) => {
    if (!ref?.name || (ref.group ?? "") !== "" || (ref.kind ?? "Service") !== "Service") return;
    found.push({
      namespace: ref.namespace ?? namespace,
      name: ref.name,
      port: ref.port,
      protocol: route.kind === "UDPRoute" ? "UDP" : "TCP",
      ...(route.kind === "GRPCRoute" ? { appProtocol: "kubernetes.io/h2c" } : {}),
      by: place(route, namespace, field),
    });
  };
  const addMirrors = (filters: readonly Filter[] | undefined, field: string) => {
    for (const [at, filter] of list(filters).entries()) {
      add(filter.requestMirror?.backendRef, `${field}.filters[${at}].requestMirror.backendRef`);
    }
  };
  for (const [ruleAt, rule] of list<Rule>(route.spec?.rules).entries()) {
    const field = `spec.rules[${ruleAt}]`;
    for (const [refAt, ref] of list(rule.backendRefs).entries()) {
      add(ref, `${field}.backendRefs[${refAt}]`);
      addMirrors(ref.filters, `${field}.backendRefs[${refAt}]`);
    }
    addMirrors(rule.filters, field);
  }
  return found;
}

interface IngressBackend {
  readonly service?: { readonly name: string; readonly port?: { readonly number?: number; readonly name?: string } };
}
interface IngressRule {
  readonly host?: string;
  readonly http?: { readonly paths?: readonly { readonly backend?: IngressBackend }[] };
}

function ofIngress(ingress: KubeObject, namespace: string): readonly ServiceReference[] {
  const found: ServiceReference[] = [];
  const add = (backend: IngressBackend | undefined, field: string) => {
    if (!backend?.service?.name) return;
    const { name, port } = backend.service;
    const by = place(ingress, namespace, `${field}.service`);
    found.push({ namespace, name, port: port?.number ?? port?.name, protocol: "TCP", by });
  };
  add(ingress.spec?.defaultBackend, "spec.defaultBackend");
  for (const [ruleAt, rule] of list<IngressRule>(ingress.spec?.rules).entries()) {
    for (const [pathAt, path] of list(rule.http?.paths).entries()) {
      add(path.backend, `spec.rules[${ruleAt}].http.paths[${pathAt}].backend`);
    }
  }
  return found;
}

export interface Listener {
  readonly name: string;
  readonly port?: number;
  readonly protocol?: string;
  readonly hostname?: string;
  readonly tls?: { readonly mode?: string; readonly certificateRefs?: readonly BackendRef[] };
  readonly allowedRoutes?: {
    readonly namespaces?: { readonly from?: string; readonly selector?: LabelSelectorObject };
  };
}

/** An object with the namespace that it is applied to. */
export interface Placed {
  readonly object: KubeObject;
  readonly namespace: string;
}

/** The TLS Secrets that an object serves with, and for which names. `routes` are all routes that might attach. */
export function secretReferences({ object, namespace }: Placed, routes: readonly Placed[]): readonly SecretReference[] {
  if (isGateway(object)) {
    return list<Listener>(object.spec?.listeners).flatMap((listener, at) => {
      if ((listener.tls?.mode ?? "Terminate") !== "Terminate") return [];
      const hosts = hostsOf({ object, namespace }, listener, routes);
      return list(listener.tls?.certificateRefs).flatMap((ref, refAt) => {
        if (!ref.name || (ref.group ?? "") !== "" || (ref.kind ?? "Secret") !== "Secret") return [];
        const by = place(object, namespace, `spec.listeners[${at}].tls.certificateRefs[${refAt}]`);
        return [{ namespace: ref.namespace ?? namespace, name: ref.name, hosts, by }];
      });
    });
  }
  if (!isIngress(object)) return [];
  const tls = list<{ hosts?: readonly string[]; secretName?: string }>(object.spec?.tls);
  return tls.flatMap(({ hosts, secretName }, at) => {
    if (!secretName) return [];
    const named =
      list(hosts).length > 0 ? list(hosts) : list<IngressRule>(object.spec?.rules).flatMap((rule) => rule.host ?? []);
    const by = place(object, namespace, `spec.tls[${at}].secretName`);
    return [{ namespace, name: secretName, hosts: orLocalhost(named), by }];
  });
}

/** The listener's own host name and those of the routes attached to it. */
function hostsOf(gateway: Placed, listener: Listener, routes: readonly Placed[]): readonly string[] {
  const named = routes
    .filter((route) => parentListeners(route, gateway).includes(listener))
    .flatMap(({ object }) => list<string>(object.spec?.hostnames));
  return orLocalhost([...(listener.hostname ? [listener.hostname] : []), ...named]);
}

function orLocalhost(hosts: readonly string[]): readonly string[] {
  const distinct = [...new Set(hosts.filter((host) => typeof host === "string").map((host) => host.toLowerCase()))];
  return distinct.length > 0 ? distinct : ["localhost"];
}

/** The listeners of `gateway` that a route's parentRefs name, whether or not they allow it. */
function parentListeners(route: Placed, gateway: Placed): readonly Listener[] {
  const listeners = list<Listener>(gateway.object.spec?.listeners);
  interface ParentRef {
    readonly group?: string;
    readonly kind?: string;
    readonly namespace?: string;
    readonly name: string;
    readonly sectionName?: string;
    readonly port?: number;
  }
  return list<ParentRef>(route.object.spec?.parentRefs).flatMap((ref) => {
    if ((ref.group ?? gatewayGroup) !== gatewayGroup || (ref.kind ?? "Gateway") !== "Gateway") return [];
    if (ref.name !== gateway.object.metadata.name || (ref.namespace ?? route.namespace) !== gateway.namespace)
      return [];
    return listeners.filter(
      (listener) =>
        (ref.sectionName === undefined || listener.name === ref.sectionName) &&
        (ref.port === undefined || listener.port === ref.port),
    );
  });
}

/**
 * Labels that let the routes of a namespace attach: those that the selectors of their Gateways' listeners ask for. A selector
 * that contradicts an earlier one, or that no labels can satisfy, adds nothing.
 */
export function labelsForRoutes(namespace: string, routes: readonly Placed[], gateways: readonly Placed[]) {
  let labels: Readonly<Record<string, string>> = {};
  const asked: Place[] = [];
  for (const route of routes) {
    if (route.namespace !== namespace) continue;
    for (const gateway of gateways) {
      for (const listener of parentListeners(route, gateway)) {
        const { from, selector } = listener.allowedRoutes?.namespaces ?? {};
        if (from !== "Selector" || !selector) continue;
        const all = (extra: Readonly<Record<string, string>>) => ({
          ...extra,
          "kubernetes.io/metadata.name": namespace,
        });
        if (matchesLabelSelector(selector, all(labels))) continue;
        const wanted = { ...labels, ...labelsOf(selector) };
        const contradicts = Object.entries(labels).some(([key, value]) => wanted[key] !== value);
        if (contradicts || !matchesLabelSelector(selector, all(wanted))) continue;
        labels = wanted;
        const at = list<Listener>(gateway.object.spec?.listeners).indexOf(listener);
        asked.push(place(gateway.object, gateway.namespace, `spec.listeners[${at}].allowedRoutes.namespaces.selector`));
      }
    }
  }
  const { "kubernetes.io/metadata.name": _own, ...rest } = labels;
  return { labels: rest, asked };
}

/** The fewest labels that a selector asks for. */
function labelsOf(selector: LabelSelectorObject): Readonly<Record<string, string>> {
  const labels: Record<string, string> = {};
  for (const { key, operator, values } of selector.matchExpressions ?? []) {
    if (operator === "In" && values?.[0] !== undefined) labels[key] = values[0];
    if (operator === "Exists") labels[key] = "true";
  }
  return { ...labels, ...selector.matchLabels };
}

/** How an object, or a field of it, is named to people. */
export function place(object: KubeObject, namespace: string | undefined, field: string): Place {
  const { kind, metadata } = object;
  return describeProvenance({ kind, ...(namespace ? { namespace } : {}), name: metadata.name, field });
}

/** Files may hold anything where a list belongs; the API server will say so, this only has to survive it. */
export function list<T>(value: readonly T[] | undefined): readonly T[] {
  return Array.isArray(value) ? (value as readonly T[]).filter((one) => one !== null && one !== undefined) : [];
}

export const keyOf = (kind: string, namespace: string | undefined, name: string) =>
  `${kind} ${nameOf(namespace, name)}`;
