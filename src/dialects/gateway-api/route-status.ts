// HTTPRoute.status.parents (Gateway API, RouteStatus): one entry for each declared parent that this stack answers for.

import type { Condition, Finding, StatusUpdate } from "../../model/status-update.ts";
import type { Attachment, ParentAttachment } from "./attachment.ts";
import { finding } from "./findings.ts";
import { condition, gatewayGroup, listenerName } from "./names.ts";
import type { RouteRules } from "./route-rules.ts";
import type { RouteView } from "./views.ts";

/** `after` names what the status speaks of: the tables the route is in and their listeners. */
export function routeStatus(route: RouteView, attachment: Attachment, rules: RouteRules): StatusUpdate {
  const parents = attachment.parents.map((parent) => ({
    parentRef: parent.parentRef,
    controllerName: parent.controllerName,
    conditions: conditions(parent, rules, route.generation),
  }));
  const after = new Map<string, StatusUpdate["after"][number]>();
  for (const place of attachment.places) {
    if (place.table === undefined) continue;
    const listener = listenerName(place.gateway, place.port);
    after.set(`listeners ${listener}`, { type: "listeners", name: listener });
    after.set(`routeTables ${place.table}`, { type: "routeTables", name: place.table });
  }
  return {
    resource: `httproutes.${gatewayGroup}`,
    namespace: route.namespace,
    name: route.name,
    generation: route.generation,
    status: { parents: [...parents, ...route.parents] },
    after: [...after.values()],
  };
}

function conditions(parent: ParentAttachment, rules: RouteRules, generation: number): readonly Condition[] {
  const { accepted } = parent;
  const refused = accepted.ok && rules.hopeless && !rules.complete.ok;
  const verdict = refused ? rules.complete : accepted;
  const list = [
    condition("Accepted", verdict.ok, verdict.reason, verdict.message, generation),
    condition("ResolvedRefs", rules.resolved.ok, rules.resolved.reason, rules.resolved.message, generation),
  ];
  if (accepted.ok && !refused && !rules.complete.ok) {
    const message = `Dropped Rule: requests of it are answered 500: ${rules.complete.message}`;
    list.push(condition("PartiallyInvalid", true, rules.complete.reason, message, generation));
  }
  return list;
}

export function routeFindings(route: RouteView, attachment: Attachment): readonly Finding[] {
  const object = { kind: "HTTPRoute", namespace: route.namespace, name: route.name };
  const findings: Finding[] = [];
  for (const { index, what, code } of attachment.foreign) {
    const field = `spec.parentRefs[${index}]`;
    findings.push(finding(object, field, code, "error", what, "name a Gateway that exists"));
  }
  const unfound = new Set(attachment.foreign.map(({ index }) => index));
  for (const parent of attachment.parents) {
    if (parent.accepted.ok || unfound.has(parent.index)) continue;
    const field = `spec.parentRefs[${parent.index}]`;
    findings.push(finding(object, field, parent.accepted.reason, "error", parent.accepted.message, remedy(parent)));
  }
  for (const { index, host } of attachment.homeless) {
    const problem = `no listener of the route's parents takes "${host}", so it is not served`;
    const field = `spec.hostnames[${index}]`;
    findings.push(
      finding(object, field, "HostnameNotServed", "warning", problem, "add a listener for it, or remove it"),
    );
  }
  return findings;
}

function remedy(parent: ParentAttachment): string {
  switch (parent.accepted.reason) {
    case "NotAllowedByListeners":
      return "change the listener's allowedRoutes, or the labels of the route's namespace";
    case "NoMatchingParent":
      return "name a listener of the Gateway in sectionName, with its port";
    default:
      return "make the hostnames of the route and of the listener overlap";
  }
}
