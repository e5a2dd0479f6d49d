// A request's head as it goes out to an endpoint (RFC 9112 §3), and what of a handshake of WebSocket (RFC 6455 §4.1) the proxy makes
// for clients whose version of HTTP has none. What comes in is `request.ts`.

import type { RequestHead } from "../exchange.ts";
import { hopByHopKinds, Kind, kindSet } from "../headers.ts";
import type { Outlet } from "../wire.ts";
import { makeKey } from "./websocket.ts";

const hop = [...hopByHopKinds, Kind.http2Settings];
/** Fields that are never passed on. */
export const hopByHop = kindSet(...hop);
const hopByHopAndHost = kindSet(Kind.host, ...hop);

/** The key of a handshake that is ours, because the client's has none; else undefined. */
export function keyFor({ upgrade, tunnelOnly, headers }: RequestHead): string | undefined {
  if (upgrade !== "websocket" || !tunnelOnly || headers.get("sec-websocket-key") !== undefined) return undefined;
  return makeKey();
}

/** `key`: what `keyFor` has made for it. A body of unknown length follows in chunks. */
export function writeRequest(out: Outlet, head: RequestHead, key: string | undefined): void {
  const { upgrade } = head;
  if (upgrade === "") out.text(`CONNECT ${head.authority}`);
  else {
    // CONNECT for a protocol is what GET with an upgrade is here (RFC 8441).
    if (head.method === "GET" || head.method === "CONNECT") out.text("GET ");
    else {
      out.text(head.method);
      out.text(" ");
    }
    out.text(head.path);
  }
  if (head.query !== undefined) {
    out.text("?");
    out.text(head.query);
  }
  // Piece by piece: a string that is built of pieces costs more than the pieces.
  if (head.hostKept) {
    out.text(" HTTP/1.1\r\n");
    head.headers.write(out, hopByHop);
  } else {
    out.text(" HTTP/1.1\r\nhost: ");
    out.text(head.authority);
    out.text("\r\n");
    head.headers.write(out, hopByHopAndHost);
  }
  if (head.length < 0) out.text("transfer-encoding: chunked\r\n");
  if (upgrade) out.text(`connection: upgrade\r\nupgrade: ${upgrade}\r\n`);
  if (key !== undefined) out.text(`sec-websocket-key: ${key}\r\n`);
  out.text("\r\n");
}
