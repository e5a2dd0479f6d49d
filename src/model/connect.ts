// CONNECT (RFC 9110 §9.3.6, RFC 9113 §8.5): which rules take it, and what its target must look like. A proxy of this model is a
// reverse one: the target is matched like any host and never says where a connection is made; the rule's backends do.

import { type Authority, parseAuthority } from "./host-pattern.ts";
import type { Rule } from "./model.ts";
import type { Problems } from "./problems.ts";

/** A target in authority form in its parts: a host and a port, both of which must be there; undefined when it is none. */
export function parseConnectTarget(target: string): (Authority & { readonly port: number }) | undefined {
  const parsed = parseAuthority(target);
  if (!parsed || parsed.host === "" || parsed.port === undefined) return undefined;
  return { host: parsed.host, port: parsed.port };
}

/**
 * Why a rule takes no CONNECT, whatever else it matches; undefined when it may. It must match the method by name, and say what
 * becomes of one: no rule that was written for requests opens a tunnel by chance.
 */
export function connectRefusal({ match, action }: Rule): string | undefined {
  if (match.method !== "CONNECT") return "a CONNECT is taken only by rules that match this method";
  if (action.kind === "forward" && action.connect === undefined) return "does not say what becomes of a CONNECT";
  return undefined;
}

/** What a rule's action, at `field`, says of CONNECT. */
export function checkConnect(problems: Problems, field: string, { match, action, from }: Rule): void {
  if (action.kind === "respond" && match.method === "CONNECT" && action.status < 300)
    problems.add(`${field}.status`, `${action.status} would promise a CONNECT a tunnel that is not there`, from);
  if (action.kind !== "forward" || action.connect === undefined) return;
  if (action.connect !== "terminate" && action.connect !== "pass")
    problems.add(`${field}.connect`, `${JSON.stringify(action.connect)} is none of terminate, pass`, from);
  if (match.method !== "CONNECT")
    problems.add(`${field}.connect`, "is for CONNECT only: match.method must be CONNECT", from);
}
