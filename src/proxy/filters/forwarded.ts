// What the proxy tells a backend about the client, on every request, before the rule's own filters (which may change it):
// x-forwarded-for (the client's address is put behind what came), x-forwarded-proto and x-forwarded-host (what was seen here;
// a client cannot forge them), x-request-id (kept when the client sent a plausible one, so that logs of several hops meet).

import type { RequestHead } from "../exchange.ts";
import { Kind } from "../headers.ts";

const plausible = /^[\x21-\x7e]{1,128}$/;

/** The lines that stay the same for all requests of one client to one host. */
export interface ForwardingLines {
  source: string;
  scheme: string;
  authority: string;
  lines: string;
}

/**
 * Adds them. With `last`, nothing changes the header behind this any more, so that finished lines will do. `cache` is the
 * connection's.
 */
export function addForwardingHeaders(head: RequestHead, last: boolean, cache: ForwardingLines): void {
  const headers = head.headers;
  if (last && (headers.mask & ours) === 0 && head.authority !== "") {
    if (cache.authority !== head.authority || cache.source !== head.source || cache.scheme !== head.scheme) {
      cache.authority = head.authority;
      cache.source = head.source;
      cache.scheme = head.scheme;
      cache.lines = `x-forwarded-for: ${head.source}\r\nx-forwarded-proto: ${head.scheme}\r\nx-forwarded-host: ${head.authority}\r\nx-request-id: `;
    }
    headers.tail = cache.lines;
    headers.tailEnd = crypto.randomUUID();
    return;
  }
  const before = headers.get("x-forwarded-for");
  headers.set("x-forwarded-for", before ? `${before}, ${head.source}` : head.source);
  headers.set("x-forwarded-proto", head.scheme);
  headers.remove("x-forwarded-host");
  if (head.authority !== "") headers.add("x-forwarded-host", head.authority);
  const id = headers.valueOf(Kind.requestId);
  if (id === undefined || !plausible.test(id)) headers.set("x-request-id", crypto.randomUUID());
}

const ours = (1 << Kind.forwardedFor) | (1 << Kind.forwardedProto) | (1 << Kind.forwardedHost) | (1 << Kind.requestId);
