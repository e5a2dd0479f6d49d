// Answers to clients as bytes of HTTP/1 (RFC 9112): heads, and how their bodies say where they end.

import type { ResponseHead } from "../exchange.ts";
import { type HeaderBlock, hopByHopKinds, Kind, kindSet } from "../headers.ts";
import { type Reason, reasons } from "../reason.ts";
import type { Outlet } from "../wire.ts";
import type { Http1RequestHead } from "./request.ts";
import { dateLine, statusLine } from "./status.ts";

/** How the client knows the end of an answer: by its head, by the last chunk, by the connection's end; or there is a tunnel. */
export const Framing = { length: 0, chunked: 1, close: 2, tunnel: 3 } as const;

const hopByHop = kindSet(...hopByHopKinds);
const ofTunnel = kindSet(Kind.contentLength, ...hopByHopKinds);

export function writeInterim(to: Outlet, { status, phrase, headers }: ResponseHead): void {
  to.text(statusLine(status, phrase));
  headers.write(to, hopByHop);
  to.text("\r\n");
}

/** Writes a head but for its end (`writeHeadEnd`), which that of a tunnel has. Returns one of `Framing`. */
export function writeHead(to: Outlet, head: ResponseHead, request: Http1RequestHead): number {
  const { status, headers } = head;
  if (status === 101 && request.tunnelOnly) {
    // The success of a CONNECT has no length of any kind (RFC 9110 §9.3.6).
    to.text(statusLine(200, ""));
    headers.write(to, ofTunnel);
    to.text("\r\n");
    return Framing.tunnel;
  }
  to.text(statusLine(status, head.phrase));
  headers.write(to, hopByHop);
  if (headers.at(Kind.date) < 0 && status !== 101 && headers.extra?.includes("date") !== true) {
    // RFC 9110 §6.6.1: whoever forwards an answer without a date puts one there.
    to.text(dateLine());
  }
  if (status === 101) {
    to.text(`connection: upgrade\r\nupgrade: ${headers.valueOf(Kind.upgrade) ?? request.upgrade}\r\n\r\n`);
    return Framing.tunnel;
  }
  if (head.length < 0) {
    if (request.minor === 0) return Framing.close;
    to.text("transfer-encoding: chunked\r\n");
    return Framing.chunked;
  }
  if (head.length === 0 && mustSayNone(head, request)) to.text("content-length: 0\r\n");
  return Framing.length;
}

/** Versions of HTTP that say by other means that there is no body need not have said it in a field. */
function mustSayNone({ status, headers }: ResponseHead, { method }: Http1RequestHead): boolean {
  if (status === 204 || status === 304 || method === "HEAD") return false;
  return headers.at(Kind.contentLength) < 0 && headers.extra?.includes("content-length") !== true;
}

export function writeHeadEnd(to: Outlet, closes: boolean, minor: number): void {
  to.text(closes ? "connection: close\r\n\r\n" : minor === 0 ? "connection: keep-alive\r\n\r\n" : "\r\n");
}

export function writeChunk(to: Outlet, bytes: Buffer, start: number, end: number): void {
  to.text(`${(end - start).toString(16)}\r\n`);
  to.bytes(bytes, start, end);
  to.text("\r\n");
}

export function writeLastChunk(to: Outlet, trailers: HeaderBlock | undefined): void {
  to.text("0\r\n");
  trailers?.write(to, hopByHop);
  to.text("\r\n");
}

/** The whole answer to a request that could not be read. */
export function writeRefusal(to: Outlet, reason: Reason): void {
  const row = reasons[reason];
  const body = `${row.text}\n`;
  to.text(
    `${statusLine(row.status, "")}content-type: text/plain\r\ncontent-length: ${body.length}\r\n${dateLine()}` +
      `x-fairlead-reason: ${reason}\r\nconnection: close\r\n\r\n${body}`,
  );
}
