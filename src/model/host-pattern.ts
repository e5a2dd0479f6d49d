// Host patterns and the hosts they take: `api.example.com`, `*.example.com` (one or more labels in place of the star) or
// `*`. Follows Gateway API's Hostname and Listener.hostname (gateway.networking.k8s.io/v1); comparisons are those of
// RFC 4343 (ASCII letters in any case). Not a URL parser: an authority arrives as `Host` or `:authority` carried it.

import { ipFamily } from "../base/ip.ts";
import { lowerAscii } from "./ascii.ts";
import type { HostPattern } from "./model.ts";

/** An authority in its parts. `host` is in lower case, without a trailing dot; an IPv6 literal keeps its brackets. */
export interface Authority {
  readonly host: string;
  readonly port?: number;
}

/**
 * Takes a Host header or `:authority` apart. Undefined when it is none: user information, spaces, a port that is no
 * number of 1 to 65535, an unclosed bracket. An empty authority has an empty host (RFC 9112 §3.2), which only `*` takes.
 */
export function parseAuthority(authority: string): Authority | undefined {
  let host = authority;
  let portText: string | undefined;
  if (authority.startsWith("[")) {
    const close = authority.indexOf("]");
    if (close < 0 || ipFamily(authority.slice(1, close)) !== 6) return undefined;
    host = authority.slice(0, close + 1);
    const rest = authority.slice(close + 1);
    if (rest !== "") {
      if (!rest.startsWith(":")) return undefined;
      portText = rest.slice(1);
    }
  } else {
    const colon = authority.indexOf(":");
    if (colon >= 0) {
      host = authority.slice(0, colon);
      portText = authority.slice(colon + 1);
    }
    if (!/^[A-Za-z0-9._~!$&'()*+,;=%-]*$/.test(host)) return undefined;
  }
  const lower = lowerAscii(host);
  const named = lower.length > 1 && lower.endsWith(".") ? lower.slice(0, -1) : lower;
  if (portText === undefined || portText === "") return { host: named };
  if (!/^[0-9]{1,5}$/.test(portText)) return undefined;
  const port = Number(portText);
  return port >= 1 && port <= 65535 ? { host: named, port } : undefined;
}

/** Whether a pattern takes a host. The host is in lower case and has no port. */
export function hostMatches(pattern: HostPattern, host: string): boolean {
  if (pattern === "*") return true;
  if (pattern.startsWith("*.")) return host.length >= pattern.length && host.endsWith(pattern.slice(1));
  return pattern === host;
}

/**
 * Orders patterns, the more specific first: exact, then wildcards by their length, then `*`; by name between equals.
 * Among patterns that take one host the order is strict.
 */
export function compareHostPatterns(a: HostPattern, b: HostPattern): number {
  const difference = rank(b) - rank(a);
  if (difference !== 0) return difference;
  return a < b ? -1 : a > b ? 1 : 0;
}

/** An exact name is above every wildcard (names have at most 253 characters); a longer wildcard is above a shorter one. */
function rank(pattern: HostPattern): number {
  if (pattern === "*") return 0;
  return pattern.startsWith("*.") ? pattern.length : 100_000;
}

/**
 * The hosts that both patterns take, as one pattern; undefined when there are none (Gateway API, HTTPRoute.hostnames:
 * the intersection of a listener's hostname and a route's).
 */
export function intersectHosts(a: HostPattern, b: HostPattern): HostPattern | undefined {
  if (covers(a, b)) return b;
  return covers(b, a) ? a : undefined;
}

/** Whether every host that `inner` takes is taken by `outer`. */
export function covers(outer: HostPattern, inner: HostPattern): boolean {
  if (outer === "*" || outer === inner) return true;
  if (!outer.startsWith("*.")) return false;
  const suffix = outer.slice(1);
  if (inner.startsWith("*.")) return inner.length > outer.length && inner.endsWith(suffix);
  return hostMatches(outer, inner);
}

/** What is wrong with a pattern, in words; undefined when nothing is. */
export function hostPatternProblem(pattern: string): string | undefined {
  if (pattern === "*") return undefined;
  if (pattern === "") return "a host is empty";
  if (pattern.length > 253) return `host "${pattern.slice(0, 40)}…" is longer than 253 characters`;
  if (pattern !== lowerAscii(pattern)) return `host "${pattern}" must be in lower case`;
  if (pattern.startsWith("[") && pattern.endsWith("]") && ipFamily(pattern.slice(1, -1)) === 6) return undefined;
  if (pattern.includes(":")) return `host "${pattern}" must have no port`;
  const name = pattern.startsWith("*.") ? pattern.slice(2) : pattern;
  if (name.includes("*")) return `host "${pattern}" may have a star only as its whole first label ("*.example.com")`;
  for (const label of name.split(".")) {
    if (!/^[a-z0-9_]([a-z0-9_-]*[a-z0-9_])?$/.test(label) || label.length > 63) {
      return `host "${pattern}" is no DNS name: its label "${label}" is not letters, digits and inner hyphens, at most 63`;
    }
  }
  return undefined;
}
