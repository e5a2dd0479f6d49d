// Which requests belong together: the hash that consistent balancers go by (a rule's `hash`), and the token by which a client stays
// with the backend or endpoint that it got first (`persistence`; Gateway API GEP-1619, ingress-nginx affinity, Istio's
// consistentHash by cookie). Pure: from a request's head to numbers and words, and what an answer must set for the next time.

import type { HashKey, HashPart, Persistence, SessionCookie } from "../../model/upstream-policies.ts";
import { cookieValue, queryValue } from "../../model/value-match.ts";
import type { RequestHead } from "../exchange.ts";
import { cookies } from "../router/predicate.ts";
import { hashOf } from "./consistent-hash.ts";

/** What a request is hashed by; `setCookie` when the client has to be told a cookie for it. */
export interface RequestHash {
  readonly hash: number;
  readonly setCookie?: string;
}

/** The first of the keys that the request has. A cookie with a `ttl` is made when there is none. */
export function requestHash(
  keys: readonly HashKey[],
  head: RequestHead,
  newValue: () => string,
): RequestHash | undefined {
  for (const key of keys) {
    const value = key.kind === "joined" ? joined(key.parts, head) : partValue(key, head);
    if (value !== undefined) return { hash: hashOf(value) };
    if (key.kind === "cookie" && key.ttl !== undefined) {
      const made = newValue();
      return { hash: hashOf(made), setCookie: cookieText(key, made, head.scheme === "https") };
    }
  }
  return undefined;
}

/** Each with its length, so that "a" and "bc" are not "ab" and "c". */
function joined(parts: readonly HashPart[], head: RequestHead): string | undefined {
  let text: string | undefined;
  let empty = 0;
  for (const part of parts) {
    const value = partValue(part, head);
    if (value === undefined) empty++;
    text = `${text ?? ""}${value?.length ?? ""}:${value ?? ""}`;
  }
  return empty < parts.length ? text : undefined;
}

function partValue(part: HashPart, head: RequestHead): string | undefined {
  switch (part.kind) {
    case "header":
      return part.name === "host" ? head.authority : head.headers.get(part.name);
    case "query":
      return queryValue(head.query, part.name);
    case "cookie":
      return cookieValue(cookies(head.headers), part.name);
    case "source":
      return head.source;
    case "host":
      return head.authority;
    case "method":
      return head.method;
    case "path":
      return head.path;
    case "uri":
      return head.query === undefined ? head.path : `${head.path}?${head.query}`;
  }
}

/** A `set-cookie` value. `https`: the request came over TLS. */
function cookieText(cookie: SessionCookie, value: string, https: boolean): string {
  const { name, path = "/", ttl, domain, httpOnly = true, sameSite = "Lax" } = cookie;
  // Browsers drop a cookie for all sites that is not secure.
  const { secure = https || sameSite === "None" } = cookie;
  let text = `${name}=${value}; Path=${path}`;
  if (domain !== undefined) text += `; Domain=${domain}`;
  if (ttl) text += `; Max-Age=${ttl}`;
  if (httpOnly) text += "; HttpOnly";
  return `${text}; SameSite=${sameSite}${secure ? "; Secure" : ""}`;
}

/**
 * The word that stands for a backend or an endpoint in a client's hands: the same in all proxies that know it, and nothing that
 * an address can be read from. `of` is the backend's name, and for an endpoint its address and port behind it.
 */
export function stickyToken(of: string): string {
  return new Bun.CryptoHasher("sha256").update(`fairlead sticky ${of}`).digest("base64url").slice(0, 22);
}

/** The token that a request carries; undefined when it has none that could be one. */
export function carriedToken({ carrier }: Persistence, head: RequestHead): string | undefined {
  const value =
    carrier.kind === "cookie" ? cookieValue(cookies(head.headers), carrier.name) : head.headers.get(carrier.name);
  return value !== undefined && /^[A-Za-z0-9_-]{22}$/.test(value) ? value : undefined;
}

/** The header of an answer that gives a client its token. */
export function tokenHeader(
  { carrier }: Persistence,
  token: string,
  https: boolean,
): readonly [name: string, value: string] {
  return carrier.kind === "header" ? [carrier.name, token] : ["set-cookie", cookieText(carrier, token, https)];
}
