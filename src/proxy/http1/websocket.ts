// What the opening handshake of WebSocket (RFC 6455 §4) asks of a proxy whose two sides speak different versions of HTTP: RFC 8441
// leaves the key and its answer out, so that they are made and checked here.

import { createHash, randomBytes } from "node:crypto";

/** A fresh Sec-WebSocket-Key. */
export function makeKey(): string {
  return randomBytes(16).toString("base64");
}

/** The Sec-WebSocket-Accept that answers a key. */
export function acceptOf(key: string): string {
  return createHash("sha1").update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest("base64");
}
