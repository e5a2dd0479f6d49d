// What the proxy tells a backend about the client, on every request, before the rule's own filters (which may change it):
// x-forwarded-for (the client's address is put behind what came), x-forwarded-proto and x-forwarded-host (what was seen here;
// a client cannot forge them), x-request-id (kept when the client sent a plausible one, so that logs of several hops meet).

import type { RequestHead } from "../exchange.ts";
import { Kind } from "../headers.ts";

const plausible = /^[\x21-\x7e]{1,128}$/;

export function addForwardingHeaders(head: RequestHead): void {
  const headers = head.headers;
  const at = headers.at;
  let addresses = head.source;
  if (at[Kind.forwardedFor]! >= 0) {
    const before = headers.get("x-forwarded-for");
    headers.remove("x-forwarded-for");
    if (before) addresses = `${before}, ${addresses}`;
  }
  headers.add("x-forwarded-for", addresses);
  if (at[Kind.forwardedProto]! >= 0) headers.remove("x-forwarded-proto");
  headers.add("x-forwarded-proto", head.scheme);
  if (at[Kind.forwardedHost]! >= 0) headers.remove("x-forwarded-host");
  if (head.authority !== "") headers.add("x-forwarded-host", head.authority);
  const id = headers.valueOf(Kind.requestId);
  if (id === undefined || !plausible.test(id)) {
    if (id !== undefined) headers.remove("x-request-id");
    headers.add("x-request-id", crypto.randomUUID());
  }
}
