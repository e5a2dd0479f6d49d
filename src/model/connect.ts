// Methods that are served only where a rule names them: CONNECT (RFC 9110 §9.3.6, RFC 9113 §8.5) and TRACE (§9.3.8), whose answer
// repeats to whoever asks what the proxies on the way have added. And what the target of a CONNECT must look like: a proxy of this
// model is a reverse one, so that it is matched like any host and never says where a connection is made; the rule's backends do.

import { type Authority, parseAuthority } from "./host-pattern.ts";
import type { Rule } from "./model.ts";
import type { Problems } from "./problems.ts";

/** A target in authority form in its parts: a host and a port, both of which must be there; undefined when it is none. */
export function parseConnectTarget(target: string): (Authority & { readonly port: number }) | undefined {
  const parsed = parseAuthority(target);
  if (!parsed || parsed.host === "" || parsed.port === undefined) return undefined;
  return { host: parsed.host, port: parsed.port };
}

/** The method of these that a rule takes. */
export function namedMethod(rule: Rule): string | undefined {
  const { method = "" } = rule.match;
  return isNamedOnly(method) && methodRefusal(rule, method) === undefined ? method : undefined;
}

/** Whether only rules that name it take a method; where none does, it is not there (501). */
export function isNamedOnly(method: string): method is "CONNECT" | "TRACE" {
  return method === "CONNECT" || method === "TRACE";
}

/**
 * Why a rule does not take one of these methods, whatever else it matches; undefined when it may. For CONNECT it must say what
 * becomes of one, too: no rule that was written for requests opens a tunnel by chance.
 */
export function methodRefusal({ match, action }: Rule, method: "CONNECT" | "TRACE"): string | undefined {
  if (match.method !== method) return `a ${method} is taken only by rules that match this method`;
  if (method === "TRACE" || action.kind !== "forward" || action.connect !== undefined) return undefined;
  return "does not say what becomes of a CONNECT";
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
