// Random UUIDs (RFC 9562 §5.4) as bytes: each request gets one, and most are never looked at as text. Random bytes are drawn for
// many at a time.

import { hexByte } from "./hex.ts";

/** Bytes of one. */
export const uuidLength = 36;

const random = new Uint8Array(256 * 16);
let at = random.length;

/** Writes a fresh one to the beginning of `target`. */
export function writeUuid(target: Uint8Array): void {
  if (at === random.length) {
    crypto.getRandomValues(random);
    at = 0;
  }
  random[at + 6] = (random[at + 6]! & 0x0f) | 0x40;
  random[at + 8] = (random[at + 8]! & 0x3f) | 0x80;
  let to = 0;
  for (let index = 0; index < 16; index++) {
    if (index === 4 || index === 6 || index === 8 || index === 10) target[to++] = 45;
    to = hexByte(target, to, random[at + index]!);
  }
  at += 16;
}
