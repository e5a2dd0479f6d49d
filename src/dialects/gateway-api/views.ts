// The inputs, reduced to what the translation reads: a status, an annotation or a heartbeat that changes recomputes the
// reduced value, finds it equal, and stops there.

import type { Gateway, GatewaySpec, HTTPRoute, HTTPRouteSpec, Service } from "../../api/kinds.ts";
import { type KubeObject, objectName } from "../../api/object.ts";
import type { Labels } from "../../api/selectors.ts";
import type { GatewayKey, RouteKey } from "./names.ts";

export interface RouteView {
  readonly key: RouteKey;
  readonly namespace: string;
  readonly name: string;
  readonly generation: number;
  /** RFC 3339 with seconds, so that its text sorts by time; empty when the object was never stored. */
  readonly created: string;
  readonly spec: HTTPRouteSpec;
  /** The entries of `status.parents` that other controllers wrote, which stay. */
  readonly parents: readonly { readonly controllerName: string }[];
  /** Whether `status.parents` has an entry of this stack. */
  readonly answered: boolean;
}

export function routeView(object: KubeObject, isOwn: (controllerName: string) => boolean): RouteView {
  const route = object as HTTPRoute;
  const parents = route.status?.parents ?? [];
  return {
    key: objectName(route),
    namespace: route.metadata.namespace ?? "default",
    name: route.metadata.name,
    generation: route.metadata.generation ?? 1,
    created: route.metadata.creationTimestamp ?? "",
    spec: route.spec ?? {},
    parents: parents.filter((parent) => !isOwn(parent.controllerName)),
    answered: parents.some((parent) => isOwn(parent.controllerName)),
  };
}

export interface GatewayView {
  readonly key: GatewayKey;
  readonly namespace: string;
  readonly name: string;
  readonly generation: number;
  readonly created: string;
  readonly spec: GatewaySpec;
}

export function gatewayView(object: KubeObject): GatewayView {
  const gateway = object as Gateway;
  return {
    key: objectName(gateway),
    namespace: gateway.metadata.namespace ?? "default",
    name: gateway.metadata.name,
    generation: gateway.metadata.generation ?? 1,
    created: gateway.metadata.creationTimestamp ?? "",
    spec: gateway.spec ?? { gatewayClassName: "", listeners: [] },
  };
}

/** Older first, then by name: who goes first among objects that want one thing (Gateway API, conflict resolution). */
export function byAge(
  a: { readonly created: string; readonly key: string },
  b: { readonly created: string; readonly key: string },
): number {
  if (a.created !== b.created) return a.created < b.created ? -1 : 1;
  return a.key < b.key ? -1 : a.key > b.key ? 1 : 0;
}

export interface NamespaceView {
  readonly name: string;
  readonly labels: Labels;
}

/** The label that Kubernetes gives every namespace is there even when the object came from a file. */
export function namespaceView(object: KubeObject): NamespaceView {
  const { name, labels } = object.metadata;
  return { name, labels: { ...labels, "kubernetes.io/metadata.name": name } };
}

export interface ServiceView {
  readonly key: string;
  readonly external: boolean;
  readonly ports: readonly { readonly port: number; readonly protocol: string; readonly appProtocol?: string }[];
}

export function serviceView(object: KubeObject): ServiceView {
  const service = object as Service;
  return {
    key: objectName(service),
    external: service.spec?.type === "ExternalName",
    ports: (service.spec?.ports ?? []).map(({ port, protocol, appProtocol }) => ({
      port,
      protocol: protocol ?? "TCP",
      ...(appProtocol ? { appProtocol } : {}),
    })),
  };
}
