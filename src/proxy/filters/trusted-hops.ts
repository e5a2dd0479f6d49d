// Who the client is when others stand in front of us: the listener's `trusted` addresses are believed about whom they forward
// for, from the right to the left, up to the first address that is not one of them (as Envoy's and NGINX's real-IP rules). RFC
// 7239 `Forwarded` stands above `x-forwarded-*`. What others say is not believed.

import { ipFamily, unmapped } from "../../base/ip.ts";
import type { RequestHead } from "../exchange.ts";

/** Members of a list that are looked at. */
const maxHops = 32;

/** Sets `source` and `scheme` by what trusted hops say. `scheme` is the connection's own. */
export function believeHops(head: RequestHead, scheme: "http" | "https", trusted: (address: string) => boolean): void {
  head.peer ??= head.source;
  head.source = head.peer;
  head.scheme = scheme;
  head.believed = trusted(head.peer);
  if (!head.believed) return;
  const forwarded = head.headers.get("forwarded");
  const hops =
    forwarded === undefined
      ? (head.headers.get("x-forwarded-for") ?? "")
          .split(",")
          .map((text) => ({ source: addressOf(text), proto: undefined }))
      : parseForwarded(forwarded).map((element) => ({ source: addressOf(element.for ?? ""), proto: element.proto }));
  let proto: string | undefined;
  for (const hop of hops.slice(-maxHops).reverse()) {
    if (hop.source === undefined) break;
    head.source = hop.source;
    proto = hop.proto ?? proto;
    if (!trusted(hop.source)) break;
  }
  const said = (forwarded === undefined ? lastOf(head.headers.get("x-forwarded-proto")) : proto)?.toLowerCase();
  if (said === "http" || said === "https") head.scheme = said;
}

function lastOf(list: string | undefined): string | undefined {
  return list?.slice(list.lastIndexOf(",") + 1).trim();
}

/** `192.0.2.1`, `192.0.2.1:80`, `[2001:db8::1]:80`: the address; undefined when it is none (`unknown`, `_hidden`). */
export function addressOf(text: string): string | undefined {
  const trimmed = text.trim();
  const bare = /^\[([^\]]+)\](:\d+)?$/.exec(trimmed)?.[1] ?? trimmed.replace(/^(\d+\.\d+\.\d+\.\d+):\d+$/, "$1");
  const plain = unmapped(bare);
  return ipFamily(plain) === undefined ? undefined : plain;
}

/** The elements of a Forwarded field (RFC 7239 §4), names in lower case, quotes undone. One that is malformed ends the list to its left. */
export function parseForwarded(
  value: string,
): { readonly for?: string; readonly proto?: string; readonly host?: string }[] {
  return splitOutsideQuotes(value, ",").map((element) => {
    const pairs: Record<string, string> = {};
    for (const pair of splitOutsideQuotes(element, ";")) {
      const equals = pair.indexOf("=");
      if (equals < 0) continue;
      const text = pair.slice(equals + 1).trim();
      const quoted = /^"((?:[^"\\]|\\.)*)"$/.exec(text)?.[1];
      pairs[pair.slice(0, equals).trim().toLowerCase()] = quoted === undefined ? text : quoted.replace(/\\(.)/g, "$1");
    }
    return pairs;
  });
}

function splitOutsideQuotes(text: string, separator: string): string[] {
  const parts: string[] = [];
  let start = 0;
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at];
    if (quoted && char === "\\") at++;
    else if (char === '"') quoted = !quoted;
    else if (char === separator && !quoted) {
      parts.push(text.slice(start, at));
      start = at + 1;
    }
  }
  parts.push(text.slice(start));
  return parts;
}

/** What we say of the hop before us (RFC 7239 §4). */
export function forwardedElement(peer: string, authority: string, scheme: string): string {
  const source = peer.includes(":") ? `"[${peer}]"` : peer;
  const host = authority === "" ? "" : `;host="${authority.replace(/["\\]/g, "\\$&")}"`;
  return `for=${source}${host};proto=${scheme}`;
}
