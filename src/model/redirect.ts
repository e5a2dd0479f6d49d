// Where a redirect leads: Gateway API's HTTPRequestRedirectFilter (scheme, hostname, port with its defaults, path), word by
// word. Shared by `decide` and the proxy.

import { parseAuthority } from "./host-pattern.ts";
import type { PathMatch, Redirect } from "./model.ts";
import { joinTarget, rewritePath } from "./path.ts";

/** What is known of the request that is redirected. */
export interface RedirectedRequest {
  readonly scheme: "http" | "https";
  /** The Host header or `:authority`, as it came. */
  readonly authority: string;
  readonly path: string;
  readonly query: string | undefined;
  /** The listener's port. */
  readonly port: number;
  /** What took the path, for `prefix` rewrites. */
  readonly match: PathMatch | undefined;
}

/**
 * The Location header. The scheme and host that are not given are the request's; a port that is not given is the default of
 * the given scheme, or else the listener's (never the Host header's); 80 with http and 443 with https are left out; a path
 * that is not given is the request's, and so is the query.
 */
export function redirectLocation(redirect: Redirect, request: RedirectedRequest): string {
  const scheme = redirect.scheme ?? request.scheme;
  const host = redirect.host ?? parseAuthority(request.authority)?.host ?? "";
  const port = redirect.port ?? (redirect.scheme ? defaultPort(redirect.scheme) : request.port);
  const shownPort = port === defaultPort(scheme) ? "" : `:${port}`;
  const path = redirect.path ? rewritePath(redirect.path, request.path, request.match) : request.path;
  const query = redirect.query === undefined ? request.query : redirect.query || undefined;
  return `${scheme}://${host}${shownPort}${joinTarget(path, query)}`;
}

function defaultPort(scheme: "http" | "https"): number {
  return scheme === "https" ? 443 : 80;
}
