// Which listeners a route is attached to, parent by parent, and if to none, why. Follows Gateway API's ParentReference,
// AllowedRoutes and HTTPRoute.hostnames; it looks at no rule of the route.

import type { HTTPRouteParentRef } from "../../api/kinds.ts";
import { matchesLabelSelector } from "../../api/selectors.ts";
import { compareHostPatterns, covers, intersectHosts } from "../../model/host-pattern.ts";
import type { HostPattern, RouteTableName } from "../../model/model.ts";
import type { GatewayPlan, ListenerPlan, Verdict } from "./gateway-plan.ts";
import { type GatewayKey, gatewayGroup, type RouteKey } from "./names.ts";
import type { NamespaceView, RouteView } from "./views.ts";

/** A place in a route table: the hosts for which a listener serves the route. */
export interface Place {
  readonly gateway: GatewayKey;
  readonly listener: string;
  readonly port: number;
  /** Undefined when the listener is not served; the route is attached nevertheless. */
  readonly table: RouteTableName | undefined;
  readonly hosts: readonly HostPattern[];
}

export interface ParentAttachment {
  /** Its place in `spec.parentRefs`. */
  readonly index: number;
  /** As declared, with group and kind filled. */
  readonly parentRef: Readonly<Record<string, unknown>>;
  readonly controllerName: string;
  readonly accepted: Verdict;
}

export interface Attachment {
  readonly key: RouteKey;
  /** Parents that this stack answers for, in the order of the references. */
  readonly parents: readonly ParentAttachment[];
  /** At most one a listener. */
  readonly places: readonly Place[];
  /** Host names of the route that no listener takes, while others are taken. */
  readonly homeless: readonly { readonly index: number; readonly host: string }[];
  /** Parents that this stack cannot serve, for findings. */
  readonly foreign: readonly { readonly index: number; readonly what: string; readonly code: string }[];
}

export interface AttachmentContext {
  /** Undefined when there is no such Gateway, or it is another controller's. */
  gateway(key: GatewayKey): GatewayPlan | undefined;
  namespace(name: string): NamespaceView | undefined;
  /** The controller to answer as when there is no such Gateway; undefined leaves the parent unanswered. */
  readonly answerForMissing: string | undefined;
}

export function attach(route: RouteView, context: AttachmentContext): Attachment {
  const parents: ParentAttachment[] = [];
  const places = new Map<string, Place>();
  const foreign: { index: number; what: string; code: string }[] = [];
  const routeHosts = route.spec.hostnames?.length ? route.spec.hostnames : ["*"];
  const housed = new Set<string>();
  let joined = false;

  for (const [i, ref] of (route.spec.parentRefs ?? []).entries()) {
    const { group = gatewayGroup, kind = "Gateway", namespace = route.namespace, name } = ref;
    if (group !== gatewayGroup || kind !== "Gateway") {
      foreign.push({ index: i, what: `parents of kind ${kind} are not served yet`, code: "ParentKindNotSupported" });
      continue;
    }
    const key = `${namespace}/${name}`;
    const plan = context.gateway(key);
    if (!plan) {
      foreign.push({ index: i, what: `there is no Gateway ${key} that this stack serves`, code: "NoMatchingParent" });
      if (context.answerForMissing === undefined) continue;
    }
    const found = plan ? attachTo(plan, route, ref, routeHosts, context) : undefined;
    for (const { place, taken } of found?.places ?? []) {
      joined = true;
      places.set(`${place.gateway}/${place.listener}`, place);
      for (const host of taken) housed.add(host);
    }
    parents.push({
      index: i,
      parentRef: { ...ref, group, kind },
      controllerName: plan?.controllerName ?? context.answerForMissing ?? "",
      accepted: found?.verdict ?? no("NoMatchingParent", `there is no Gateway ${key}`),
    });
  }
  const homeless = routeHosts.map((host, index) => ({ index, host })).filter(({ host }) => joined && !housed.has(host));
  return { key: route.key, parents, places: [...places.values()], homeless, foreign };
}

interface Found {
  readonly verdict: Verdict;
  readonly places: readonly { readonly place: Place; readonly taken: readonly string[] }[];
}

function attachTo(
  plan: GatewayPlan,
  route: RouteView,
  ref: HTTPRouteParentRef,
  routeHosts: readonly HostPattern[],
  context: AttachmentContext,
): Found {
  const refuse = (reason: string, message: string): Found => ({ verdict: no(reason, message), places: [] });

  const named = plan.listeners.filter(
    (listener) =>
      (ref.sectionName === undefined || listener.name === ref.sectionName) &&
      (ref.port === undefined || listener.port === ref.port),
  );
  if (named.length === 0) return refuse("NoMatchingParent", `Gateway ${plan.key} has no ${describeSection(ref)}`);

  const reasons: string[] = [];
  const allowing = named.filter((listener) => {
    const reason = notAllowed(plan, listener, route, context);
    if (reason) reasons.push(`listener "${listener.name}" ${reason}`);
    return reason === undefined;
  });
  if (allowing.length === 0) {
    return refuse("NotAllowedByListeners", `Gateway ${plan.key}: ${reasons.join("; ")}`);
  }

  const places = allowing.map((listener) => {
    const hosts = new Set<HostPattern>();
    const taken: string[] = [];
    for (const host of routeHosts) {
      const common = intersectHosts(listener.hostname, host);
      if (common === undefined) continue;
      taken.push(host);
      hosts.add(common);
    }
    const place: Place = {
      gateway: plan.key,
      listener: listener.name,
      port: listener.port,
      table: listener.served ? listener.table : undefined,
      hosts: ownHosts([...hosts].sort(compareHostPatterns), listener, plan),
    };
    return { place, taken };
  });
  const met = places.filter(({ taken }) => taken.length > 0);
  if (met.length === 0) {
    const wanted = allowing.map((listener) => `"${listener.hostname}"`).join(", ");
    const given = routeHosts.map((host) => `"${host}"`).join(", ");
    return refuse("NoMatchingListenerHostname", `the listeners take ${wanted}, and the route is for ${given}`);
  }
  return { verdict: { ok: true, reason: "Accepted", message: `attached to Gateway ${plan.key}` }, places: met };
}

/**
 * Listener isolation: of the listeners that share a port, the one with the most specific hostname owns a request, and routes of
 * the others do not see it. So a host pattern that lies below a more specific listener of the same port is not this one's.
 */
function ownHosts(hosts: readonly HostPattern[], listener: ListenerPlan, plan: GatewayPlan): readonly HostPattern[] {
  const rivals = plan.listeners.filter(
    (other) =>
      other.served &&
      other.port === listener.port &&
      other.hostname !== listener.hostname &&
      covers(listener.hostname, other.hostname),
  );
  return rivals.length === 0 ? hosts : hosts.filter((host) => !rivals.some((rival) => covers(rival.hostname, host)));
}

/** Why a listener does not let a route in; undefined when it does. */
function notAllowed(
  plan: GatewayPlan,
  listener: ListenerPlan,
  route: RouteView,
  context: AttachmentContext,
): string | undefined {
  if (!listener.takesHttpRoutes) return "takes no HTTPRoutes";
  const { from, selector } = listener.namespaces;
  switch (from) {
    case "All":
      return undefined;
    case "Same":
      return route.namespace === plan.namespace ? undefined : `takes routes of namespace ${plan.namespace} only`;
    case "Selector": {
      const labels = context.namespace(route.namespace)?.labels;
      if (labels && matchesLabelSelector(selector, labels)) return undefined;
      return `takes routes of namespaces with ${describeSelector(listener)}, and namespace ${route.namespace} has not`;
    }
    default:
      return `takes routes from "${from}", which is not known`;
  }
}

function describeSelector(listener: ListenerPlan): string {
  const { selector } = listener.namespaces;
  const labels = Object.entries(selector?.matchLabels ?? {}).map(([key, value]) => `${key}=${value}`);
  const expressions = (selector?.matchExpressions ?? []).map(({ key, operator, values }) =>
    values?.length ? `${key} ${operator} (${values.join(",")})` : `${key} ${operator}`,
  );
  return [...labels, ...expressions].join(",") || "a selector (none is given)";
}

function describeSection(ref: HTTPRouteParentRef): string {
  const parts: string[] = [];
  if (ref.sectionName !== undefined) parts.push(`named "${ref.sectionName}"`);
  if (ref.port !== undefined) parts.push(`on port ${ref.port}`);
  return ["listener", parts.join(" ")].join(" ").trim();
}

function no(reason: string, message: string): Verdict {
  return { ok: false, reason, message };
}
