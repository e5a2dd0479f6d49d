// Values of a log line written as bytes, where they lie: no text is put together, so that a line costs its bytes and leaves no
// garbage. What clients sent is escaped so that it can neither end a line, nor a quoted value, nor speak to a terminal. Every
// function takes the buffer and where to write, and returns where it ended; the caller has made room (`line-format.ts`).

import { hexByte } from "../hex.ts";

/** How values are told apart from what is around them. */
export interface Style {
  /** What stands where there is no value. */
  readonly absent: Uint8Array;
  /** Texts have quotes around them. */
  readonly quoted: boolean;
  /** Before the two hexadecimal digits of a byte that is not written as it is. */
  readonly prefix: Uint8Array;
  /** Before the four digits of a character that is no byte; without it, the bytes of its UTF-8 are escaped. */
  readonly wide: Uint8Array | undefined;
}

const ascii = (text: string): Uint8Array => new Uint8Array(Buffer.from(text));

/** A line of text. */
export const textStyle: Style = { absent: ascii("-"), quoted: false, prefix: ascii("\\x"), wide: undefined };
/** A value of a JSON object. */
export const jsonStyle: Style = { absent: ascii("null"), quoted: true, prefix: ascii("\\u00"), wide: ascii("\\u") };
/** A part of a text in a JSON object. */
export const jsonPartStyle: Style = { ...jsonStyle, absent: textStyle.absent, quoted: false };

/** Bytes of one UTF-16 unit in UTF-8. */
const most = 3;
/** Bytes that are written as they are: printable ASCII but for quote and backslash. */
const plain = new Uint8Array(256);
for (let code = 0x20; code < 0x7f; code++) plain[code] = code === 0x22 || code === 0x5c ? 0 : 1;

/** Up to here a loop costs less than the call that copies. */
const shortText = 12;

/** As it is; for what is short. */
export function put(to: Uint8Array, at: number, bytes: Uint8Array): number {
  for (let index = 0; index < bytes.length; index++) to[at++] = bytes[index]!;
  return at;
}

/** A text of our own words, which are printable ASCII. */
export function word(to: Uint8Array, at: number, text: string): number {
  for (let index = 0; index < text.length; index++) to[at++] = text.charCodeAt(index);
  return at;
}

/** A text, escaped; as many characters as begin before `limit`. */
export function text(to: Buffer, at: number, limit: number, value: string, style: Style): number {
  const { length } = value;
  if (most * length >= limit - at) return escapedText(to, at, limit, value, style);
  if (length <= shortText) {
    for (let index = 0; index < length; index++) {
      const code = value.charCodeAt(index);
      if (code > 0x7f || plain[code] !== 1) return escapedText(to, at, limit, value, style);
      to[at + index] = code;
    }
    return at + length;
  }
  // Nearly all are plain. Copied whole and looked through where it lies (what is not ASCII is not plain in UTF-8 either), a text
  // costs a third of taking it apart.
  const end = at + to.utf8Write(value, at);
  return isPlain(to, at, end) ? end : escapedText(to, at, limit, value, style);
}

function isPlain(bytes: Uint8Array, start: number, end: number): boolean {
  for (let index = start; index < end; index++) if (plain[bytes[index]!] !== 1) return false;
  return true;
}

function escapedText(to: Buffer, at: number, limit: number, value: string, style: Style): number {
  for (let index = 0; index < value.length && at < limit; index++) {
    const code = value.charCodeAt(index);
    if (code > 0xff) return wide(to, at, limit, value.slice(index), style);
    if (plain[code] === 1) to[at++] = code;
    else at = escaped(to, at, code, style);
  }
  return at;
}

/** Bytes `start` to `end` of what came, escaped; as many as begin before `limit`. */
export function bytes(
  to: Uint8Array,
  at: number,
  limit: number,
  source: Uint8Array,
  start: number,
  end: number,
  style: Style,
): number {
  for (let index = start; index < end && at < limit; index++) {
    const code = source[index]!;
    if (plain[code] === 1) to[at++] = code;
    else at = escaped(to, at, code, style);
  }
  return at;
}

function escaped(to: Uint8Array, at: number, code: number, { prefix }: Style): number {
  return hexByte(to, put(to, at, prefix), code);
}

/** Names of a configuration may be in any script: seldom enough to be written in pieces. */
function wide(to: Uint8Array, at: number, limit: number, value: string, style: Style): number {
  for (const character of value) {
    if (at >= limit) break;
    if (style.wide) {
      for (let unit = 0; unit < character.length; unit++) {
        const code = character.charCodeAt(unit);
        if (code < 0x80 && plain[code] === 1) to[at++] = code;
        else at = hexByte(to, hexByte(to, put(to, at, style.wide), code >> 8), code & 255);
      }
    } else {
      for (const byte of Buffer.from(character)) {
        if (plain[byte] === 1) to[at++] = byte;
        else at = escaped(to, at, byte, style);
      }
    }
  }
  return at;
}

/** A whole number from 0 to 2^53. */
export function digits(to: Uint8Array, at: number, value: number): number {
  let size = 1;
  for (let power = 10; power <= value; power *= 10) size++;
  let rest = value;
  for (let index = at + size - 1; index >= at; index--) {
    const tenth = rest < 0x40000000 ? (rest / 10) | 0 : Math.floor(rest / 10);
    to[index] = 48 + (rest - tenth * 10);
    rest = tenth;
  }
  return at + size;
}

/** A host, as it was written by us or parsed, and its port: those of IPv6 have brackets. */
export function addressPort(to: Uint8Array, at: number, host: string, port: number): number {
  const brackets = isIPv6(host);
  if (brackets) to[at++] = 0x5b;
  at = word(to, at, host);
  if (brackets) to[at++] = 0x5d;
  to[at++] = 0x3a;
  return digits(to, at, port);
}

/** By the colon among the first five characters. */
function isIPv6(host: string): boolean {
  for (let index = 0; index < 5 && index < host.length; index++) if (host.charCodeAt(index) === 0x3a) return true;
  return false;
}

const stamp = Buffer.from("1970-01-01T00:00:00.000Z");
let stamped = 0;

/** Milliseconds since 1970 as ISO 8601 in UTC, with milliseconds. Many lines share one: it is kept. */
export function time(to: Uint8Array, at: number, milliseconds: number): number {
  const whole = Math.floor(milliseconds);
  if (whole !== stamped) {
    const fraction = whole % 1000;
    if (whole - fraction !== stamped - (stamped % 1000)) stamp.write(new Date(whole).toISOString(), "latin1");
    stamped = whole;
    stamp[20] = 48 + ((fraction / 100) | 0);
    stamp[21] = 48 + (((fraction / 10) | 0) % 10);
    stamp[22] = 48 + (fraction % 10);
  }
  return at + stamp.copy(to, at);
}
