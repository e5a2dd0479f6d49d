// Fields of heads and other texts that came over a wire, as values of log lines: from where they lie, escaped, and cut.

import { type HeaderBlock, Kind } from "../headers.ts";
import { uuidLength } from "../uuid.ts";
import { bytes, type Style, text } from "./line-values.ts";

/**
 * Bytes of one text; it is cut there, so that lines are bounded, and a client cannot make others of a line's values disappear by
 * making one long. A target is two texts, its path and its query.
 */
export const mostText = 16 * 1024;

const comma = 0x2c;

/** A text that came over a wire, if there is one. */
export function optional(to: Buffer, at: number, value: string | undefined, most: number, style: Style): number {
  return value === undefined ? at : cut(to, at, at + mostText, value, most, style);
}

/** A text that came over a wire. */
function cut(to: Buffer, at: number, limit: number, value: string, most: number, style: Style): number {
  return text(to, at, limit, value.length > most ? value.slice(0, most) : value, style);
}

/** What `HeaderBlock.get` answers, from where it lies, and what the proxy has put behind. */
export function fieldOf(
  headers: HeaderBlock,
  name: string,
  kind: number,
  to: Buffer,
  start: number,
  most: number,
  style: Style,
): number {
  const limit = start + mostText;
  const { source, spans, kinds, count, extra, mask } = headers;
  let at = start;
  let left = most;
  if (kind === Kind.other || (mask & (1 << kind)) !== 0) {
    for (let index = 0; index < count && left > 0 && at < limit; index++) {
      if (kinds[index] !== kind) continue;
      const place = index * 4;
      if (kind === Kind.other) {
        if (spans[place + 1]! - spans[place]! !== name.length || !headers.named(index, name)) continue;
      }
      if (at > start) {
        to[at++] = comma;
        left--;
      }
      const from = spans[place + 2]!;
      const end = Math.min(spans[place + 3]!, from + left);
      at = bytes(to, at, limit, source, from, end, style);
      left -= end - from;
    }
  }
  if (extra !== undefined) {
    for (let index = 0; index < extra.length && left > 0 && at < limit; index += 2) {
      if (extra[index] !== name) continue;
      if (at > start) {
        to[at++] = comma;
        left--;
      }
      at = cut(to, at, limit, extra[index + 1]!, left, style);
      left -= extra[index + 1]!.length;
    }
  }
  if (at > start || kind === Kind.other || headers.tail === "") return at;
  if (kind === Kind.requestId) return at + headers.id.copy(to, at, 0, Math.min(uuidLength, most));
  const place = headers.finished(name);
  if (place < 0) return at;
  const { tail } = headers;
  return text(to, at, Math.min(limit, at + most), tail.slice(place, tail.indexOf("\r", place)), style);
}
