// The head of an HTTP/1 response from a backend (RFC 9112 §4, §6): status line, fields, and where the body ends. As strict as
// for requests: what is malformed ends the connection to the backend, and the client gets a 502.

import type { ResponseHead } from "../exchange.ts";
import { HeaderBlock, Kind } from "../headers.ts";
import { lengthOf, listOf, malformed, maxHeadBytes, more, parseFields } from "./fields.ts";
import { dropForHop } from "./request.ts";

const beginning = Buffer.from("HTTP/1.");

export class Http1ResponseHead implements ResponseHead {
  status = 0;
  phrase = "";
  headers = new HeaderBlock();
  length = 0;
  /** Whether the backend keeps the connection. */
  keepAlive = true;
  chunked = false;
  /** The body ends with the connection. */
  untilClose = false;
}

/** Returns the offset behind the head, `more`, or `malformed`. `toHead`: the request was a HEAD. */
export function parseResponseHead(bytes: Buffer, at: number, toHead: boolean, head: Http1ResponseHead): number {
  const end = bytes.length;
  const after = parse(bytes, at, end, toHead, head);
  if (after === more && end - at > maxHeadBytes) return malformed;
  return after - at > maxHeadBytes ? malformed : after;
}

function parse(bytes: Buffer, at: number, end: number, toHead: boolean, head: Http1ResponseHead): number {
  // "HTTP/1.x ddd" and then a space and a phrase, or the end of the line.
  if (end - at < 13) return beginsWell(bytes, at, end) ? more : malformed;
  if (bytes[at] !== 72 || bytes[at + 1] !== 84 || bytes[at + 2] !== 84 || bytes[at + 3] !== 80) return malformed;
  if (bytes[at + 4] !== 47 || bytes[at + 5] !== 49 || bytes[at + 6] !== 46 || bytes[at + 8] !== 32) return malformed;
  const minor = bytes[at + 7]! - 48;
  const hundreds = bytes[at + 9]! - 48;
  const tens = bytes[at + 10]! - 48;
  const ones = bytes[at + 11]! - 48;
  if (minor < 0 || minor > 9 || hundreds < 1 || hundreds > 9 || tens < 0 || tens > 9 || ones < 0 || ones > 9) {
    return malformed;
  }
  head.status = hundreds * 100 + tens * 10 + ones;
  let position = at + 12;
  if (bytes[position] === 32) position++;
  else if (bytes[position] !== 13) return malformed;
  const phraseStart = position;
  for (;;) {
    if (position >= end) return more;
    const code = bytes[position]!;
    if (code === 13) break;
    if (code !== 9 && (code < 32 || code === 127)) return malformed;
    position++;
  }
  if (position + 1 >= end) return more;
  if (bytes[position + 1] !== 10) return malformed;
  const phraseEnd = position;
  const headers = head.headers;
  headers.clear();
  const after = parseFields(bytes, position + 2, end, headers);
  if (after < 0) return after === more ? more : malformed;
  head.phrase = phraseEnd - phraseStart === 2 && head.status === 200 ? "OK" : bytes.latin1Slice(phraseStart, phraseEnd);
  return understand(head, minor, toHead) ? after : malformed;
}

/** Whether it can still become a status line: who says something else and waits is not waited for. */
function beginsWell(bytes: Buffer, at: number, end: number): boolean {
  for (let index = at; index < end && index < at + beginning.length; index++)
    if (bytes[index] !== beginning[index - at]) return false;
  return true;
}

function understand(head: Http1ResponseHead, minor: number, toHead: boolean): boolean {
  const headers = head.headers;
  const { kinds, count } = headers;
  head.keepAlive = minor >= 1;
  head.chunked = false;
  head.untilClose = false;
  head.length = 0;
  if (headers.at(Kind.connection) >= 0) readConnection(head);

  const length = headers.at(Kind.contentLength);
  const transfer = headers.at(Kind.transferEncoding);
  if (length >= 0) {
    for (let index = length + 1; index < count; index++) if (kinds[index] === Kind.contentLength) return false;
  }
  const bytes = length < 0 ? undefined : lengthOf(headers, length);
  if (length >= 0 && bytes === undefined) return false;
  const status = head.status;
  if (status < 200 || status === 204 || status === 304 || toHead) {
    // No body, whatever the fields say (RFC 9112 §6.3). 1xx and 204 must not have these fields at all (RFC 9110 §8.6).
    if (status < 200 || status === 204) {
      if (transfer >= 0) return false;
      if (length >= 0) headers.drop(length);
    }
    return true;
  }
  if (transfer >= 0) {
    if (length >= 0 || minor === 0) return false;
    for (let index = transfer + 1; index < count; index++) if (kinds[index] === Kind.transferEncoding) return false;
    if (headers.value(transfer).toLowerCase() !== "chunked") return false;
    head.chunked = true;
    head.length = -1;
  } else if (bytes !== undefined) {
    head.length = bytes;
  } else {
    head.untilClose = true;
    head.keepAlive = false;
    head.length = -1;
  }
  return true;
}

function readConnection(head: Http1ResponseHead): void {
  const headers = head.headers;
  let close = false;
  for (let index = 0; index < headers.count; index++) {
    if (headers.kinds[index] !== Kind.connection) continue;
    for (const option of listOf(headers.value(index))) {
      if (option === "close") close = true;
      else if (option === "keep-alive") head.keepAlive = true;
      else if (option !== "upgrade") dropForHop(headers, option);
    }
  }
  if (close) head.keepAlive = false;
}
