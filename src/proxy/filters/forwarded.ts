// What the proxy tells a backend about the client, on every request, before the rule's own filters (which may change it):
// x-forwarded-for (who connected is put behind what came), x-forwarded-proto and x-forwarded-host (what was seen here, or what a
// trusted hop says; a client cannot forge them), x-forwarded-client-cert (of the certificate that was verified here; of one that was not, x-unverified-client-cert), Forwarded
// (RFC 7239; only from trusted hops), x-request-id (kept when the client sent a plausible one, so that logs of several hops meet).
// A request that has passed too many proxies goes round in circles.

import type { RequestHead } from "../exchange.ts";
import { Kind } from "../headers.ts";
import type { ClientIdentity } from "../listener/client-identity.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import type { KeptValues } from "../telemetry/kept-values.ts";
import { forwardedElement } from "./trusted-hops.ts";

/** The fields of a request that are written here, and that of its trace, which is written at the same time. */
export const forwardingNames: ReadonlySet<string> = new Set([
  "x-forwarded-for",
  "x-forwarded-proto",
  "x-forwarded-host",
  "forwarded",
  "x-forwarded-client-cert",
  "x-unverified-client-cert",
  "x-request-id",
  "traceparent",
]);

const plausible = /^[\x21-\x7e]{1,128}$/;

/**
 * Addresses in x-forwarded-for at which a request is refused (508). Counted there and not in Via: NGINX as a backend stops
 * compressing when it sees a Via field (`gzip_proxied`).
 */
const maxHops = 32;

/** The lines that stay the same for all requests of one client to one host. */
export interface ForwardingLines {
  source: string;
  scheme: string;
  authority: string;
  lines: string;
  /** Who the connection's client is, by its certificate. */
  client?: ClientIdentity;
  /** What backends are told of a certificate that was not verified. */
  shown?: string;
  /** What its TLS was begun for, and which version it is (`TLSv1.3`). */
  serverName?: string;
  tlsVersion?: string;
  /** Where the connection comes from and wanted to go, for PROXY headers to backends. */
  addresses?: ProxyAddresses;
  /** What lines of logs keep of the connection. */
  told?: KeptValues;
}

/**
 * Adds them; false when the request goes round in circles. With `last`, nothing changes the header behind this any more, so that
 * finished lines will do. `cache` is the connection's.
 */
export function addForwardingHeaders(head: RequestHead, last: boolean, cache: ForwardingLines): boolean {
  const headers = head.headers;
  const peer = head.peer ?? head.source;
  if (last && (headers.mask & ours) === 0 && head.authority !== "") {
    if (cache.authority !== head.authority || cache.source !== peer || cache.scheme !== head.scheme) {
      cache.authority = head.authority;
      cache.source = peer;
      cache.scheme = head.scheme;
      cache.lines = `x-forwarded-for: ${peer}\r\nx-forwarded-proto: ${head.scheme}\r\nx-forwarded-host: ${head.authority}\r\n${certificateLine(head, cache)}x-request-id: `;
    }
    headers.finishWithId(cache.lines);
    return true;
  }
  const before = headers.get("x-forwarded-for");
  if (before !== undefined && before.split(",", maxHops).length >= maxHops) return false;
  headers.set("x-forwarded-for", before ? `${before}, ${peer}` : peer);
  headers.set("x-forwarded-proto", head.scheme);
  headers.remove("x-forwarded-client-cert");
  if (head.client?.told !== undefined) headers.add("x-forwarded-client-cert", head.client.told);
  headers.remove("x-unverified-client-cert");
  if (cache.shown !== undefined) headers.add("x-unverified-client-cert", cache.shown);
  const believed = head.believed === true;
  if (!believed || headers.at(Kind.forwardedHost) < 0) {
    headers.remove("x-forwarded-host");
    if (head.authority !== "") headers.add("x-forwarded-host", head.authority);
  }
  if (headers.at(Kind.forwarded) >= 0) {
    const said = headers.get("forwarded");
    if (believed) headers.set("forwarded", `${said}, ${forwardedElement(peer, head.authority, head.scheme)}`);
    else headers.remove("forwarded");
  }
  const id = headers.valueOf(Kind.requestId);
  if (id === undefined || !plausible.test(id)) headers.set("x-request-id", crypto.randomUUID());
  return true;
}

function certificateLine({ client }: RequestHead, { shown }: ForwardingLines): string {
  if (shown !== undefined) return `x-unverified-client-cert: ${shown}\r\n`;
  return client?.told === undefined ? "" : `x-forwarded-client-cert: ${client.told}\r\n`;
}

const ours =
  (1 << Kind.forwardedFor) |
  (1 << Kind.forwardedProto) |
  (1 << Kind.forwardedHost) |
  (1 << Kind.forwarded) |
  (1 << Kind.forwardedClientCert) |
  (1 << Kind.requestId);
