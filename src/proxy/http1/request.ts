// The head of an HTTP/1 request (RFC 9112 §3, §6, §7): request line, fields, and where the body ends. Strict: what could be
// read in two ways is refused with the reason. Pure: bytes in, a filled head or a reason out.

import { parseConnectTarget } from "../../model/connect.ts";
import { parseAuthority } from "../../model/host-pattern.ts";
import type { RequestHead } from "../exchange.ts";
import { HeaderBlock, Kind } from "../headers.ts";
import type { Reason } from "../reason.ts";
import { classes, lengthOf, listOf, malformed, maxHeadBytes, more, parseFields, tooLarge } from "./fields.ts";

export const maxTargetBytes = 16 * 1024;

/** A request head of HTTP/1 with what only this codec needs to know. Reused from request to request of a connection. */
export class Http1RequestHead implements RequestHead {
  method = "";
  scheme: "http" | "https" = "http";
  authority = "";
  path = "";
  query: string | undefined = undefined;
  headers = new HeaderBlock();
  hostKept = false;
  length = 0;
  upgrade: string | undefined = undefined;
  /** A CONNECT. */
  tunnelOnly = false;
  source = "";
  /** 0 or 1 for HTTP/1.0 and HTTP/1.1. */
  minor = 1;
  /** Whether the client wants the connection kept after this exchange. */
  keepAlive = true;
  expectContinue = false;
  /** The Host field of this request, or of the one before while this one has none. */
  host = "";
  /** Why parsing failed. */
  problem: Reason = "bad_request";
  /** What failed begins like no request of any version of HTTP. */
  foreign = false;
}

const crlf = "\r\n";

/**
 * Parses the head that begins at `at`. Returns the offset behind it, `more`, or `malformed` with `head.problem` set.
 * Empty lines before the request line are skipped (RFC 9112 §2.2).
 */
export function parseRequestHead(bytes: Buffer, at: number, head: Http1RequestHead): number {
  const end = bytes.length;
  let start = at;
  while (start + 1 < end && bytes[start] === 13 && bytes[start + 1] === 10) start += 2;
  if (start + 1 === end && bytes[start] === 13) return more;
  const result = parse(bytes, start, end, head);
  if (result === more && end - start > maxHeadBytes) return fail(head, "head_too_large");
  if (result > 0 && result - start > maxHeadBytes) return fail(head, "head_too_large");
  return result;
}

function parse(bytes: Buffer, start: number, end: number, head: Http1RequestHead): number {
  // The method: a token, then one space.
  let position = start;
  while (position < end && (classes[bytes[position]!]! & 1) !== 0) position++;
  if (position - start > 64) return fail(head, "bad_request");
  if (position === end) return more;
  if (bytes[position] !== 32 || position === start) return fail(head, "bad_request");
  const methodEnd = position++;
  // The target: no control characters, no spaces, nothing outside ASCII, no fragment.
  const targetStart = position;
  let mark = -1;
  while (position < end) {
    const code = bytes[position]!;
    if ((classes[code]! & 4) === 0) break;
    if (code === 63 && mark < 0) mark = position;
    position++;
  }
  if (position - targetStart > maxTargetBytes) return fail(head, "target_too_long");
  if (position === end) return more;
  if (bytes[position] !== 32 || position === targetStart) return fail(head, "bad_request");
  const targetEnd = position++;
  // "HTTP/1.x" and the end of the line.
  const version = Math.min(end, position + 8);
  if (!versionSoFar(bytes, position, version)) {
    head.foreign = bytes[position] !== 72;
    return fail(head, "bad_request");
  }
  if (end - position < 10) return versionSoFar(bytes, position, end) ? more : fail(head, "bad_request");
  const major = bytes[position + 5]! - 48;
  const minor = bytes[position + 7]! - 48;
  if (bytes[position + 8] !== 13 || bytes[position + 9] !== 10) return fail(head, "bad_request");
  if (major !== 1) return fail(head, "version_not_supported");
  head.minor = minor === 0 ? 0 : 1;
  position += 10;

  const headers = head.headers;
  headers.clear();
  const after = parseFields(bytes, position, end, headers);
  if (after < 0) {
    if (after === more) return more;
    return fail(head, after === tooLarge ? "head_too_large" : "bad_request");
  }
  head.method =
    methodEnd - start === 3 && bytes[start] === 71 && bytes[start + 1] === 69 && bytes[start + 2] === 84
      ? "GET"
      : bytes.latin1Slice(start, methodEnd);
  if (mark < 0) {
    head.path = bytes.latin1Slice(targetStart, targetEnd);
    head.query = undefined;
  } else {
    head.path = bytes.latin1Slice(targetStart, mark);
    head.query = bytes.latin1Slice(mark + 1, targetEnd);
  }
  const problem = understand(head);
  return problem === undefined ? after : fail(head, problem);
}

function fail(head: Http1RequestHead, reason: Reason): number {
  head.problem = reason;
  return malformed;
}

/** Whether the bytes can be the beginning of `HTTP/d.d` CR. */
function versionSoFar(bytes: Uint8Array, start: number, end: number): boolean {
  for (let position = start; position < end; position++) {
    const code = bytes[position]!;
    const index = position - start;
    if (index === 5 || index === 7) {
      if (code < 48 || code > 57) return false;
    } else if (index >= 8 ? code !== crlf.charCodeAt(index - 8) : code !== "HTTP/1.1".charCodeAt(index)) return false;
  }
  return true;
}

/** What the fields mean for this hop: host, framing, connection options. Sets the rest of the head. */
function understand(head: Http1RequestHead): Reason | undefined {
  const headers = head.headers;
  const { kinds, count } = headers;
  head.length = 0;
  head.upgrade = undefined;
  head.tunnelOnly = false;
  head.expectContinue = false;
  head.keepAlive = head.minor === 1;

  // Host: exactly one in HTTP/1.1 (RFC 9112 §3.2). The absolute form stands above it.
  const host = headers.at(Kind.host);
  if (host < 0) {
    if (head.minor === 1) return "bad_host";
    head.authority = "";
    head.hostKept = false;
  } else {
    for (let index = host + 1; index < count; index++) if (kinds[index] === Kind.host) return "bad_host";
    takeAuthority(head, host);
  }
  if (head.path.charCodeAt(0) !== 47) {
    const problem = takeOtherForm(head);
    if (problem) return problem;
  } else if (head.method === "CONNECT") return "bad_request";
  // RFC 9110 §4.2.1: an http URI has a host.
  if (host >= 0 && head.authority === "") return "bad_host";

  // Where the body ends (RFC 9112 §6.3).
  const length = headers.at(Kind.contentLength);
  const transfer = headers.at(Kind.transferEncoding);
  if (transfer >= 0) {
    if (length >= 0 || head.minor === 0) return "bad_framing";
    for (let index = transfer + 1; index < count; index++) {
      if (kinds[index] === Kind.transferEncoding) return "bad_framing";
    }
    const value = headers.value(transfer).toLowerCase();
    if (value !== "chunked") {
      const codings = listOf(value);
      return codings.length > 1 && codings.at(-1) === "chunked" && codings.indexOf("chunked") === codings.length - 1
        ? "coding_not_supported"
        : "bad_framing";
    }
    head.length = -1;
  } else if (length >= 0) {
    for (let index = length + 1; index < count; index++) if (kinds[index] === Kind.contentLength) return "bad_framing";
    const bytes = lengthOf(headers, length);
    if (bytes === undefined) return "bad_framing";
    head.length = bytes;
  }

  if (head.tunnelOnly) {
    // What follows is the tunnel's (RFC 9110 §9.3.6): nothing may look like content of the request.
    if (head.length !== 0) return "bad_framing";
    if (length >= 0) headers.drop(length);
  }

  if (headers.at(Kind.connection) >= 0) readConnection(head);
  const expect = headers.valueOf(Kind.expect);
  if (expect !== undefined) {
    if (expect.toLowerCase() !== "100-continue") return "expectation_failed";
    head.expectContinue = head.minor === 1;
  }
  return undefined;
}

/** The host, as the string that it was in the request before when it is the same: most connections name one host. */
function takeAuthority(head: Http1RequestHead, index: number): void {
  const { source, spans } = head.headers;
  const start = spans[index * 4 + 2]!;
  const length = spans[index * 4 + 3]! - start;
  const before = head.host;
  let same = before.length === length;
  for (let offset = 0; same && offset < length; offset++) same = before.charCodeAt(offset) === source[start + offset];
  if (!same) head.host = source.latin1Slice(start, start + length);
  head.authority = head.host;
  head.hostKept = true;
}

/** The authority form (RFC 9112 §3.2.3), with which a Host field must agree; one without a port is taken, too, as old clients write it. */
function takeConnect(head: Http1RequestHead): Reason | undefined {
  const target = head.query === undefined ? parseConnectTarget(head.path) : undefined;
  if (!target) return "bad_request";
  if (head.hostKept) {
    const host = parseAuthority(head.authority);
    if (host?.host !== target.host || (host.port !== undefined && host.port !== target.port)) return "bad_host";
    head.hostKept = head.authority === head.path;
  }
  head.authority = head.path;
  head.path = "";
  head.upgrade = "";
  head.tunnelOnly = true;
  return undefined;
}

/** The authority form, the absolute form, the asterisk form, and what is none of them. */
function takeOtherForm(head: Http1RequestHead): Reason | undefined {
  if (head.method === "CONNECT") return takeConnect(head);
  if (head.path === "*" && head.query === undefined) return head.method === "OPTIONS" ? undefined : "bad_request";
  const absolute = /^https?:\/\/([^/]*)/i.exec(head.path);
  if (!absolute || absolute[1] === "") return "bad_request";
  head.authority = absolute[1]!;
  head.hostKept = false;
  const path = head.path.slice(absolute[0].length);
  // RFC 9112 §3.2.4: OPTIONS of a host without a path is about the server.
  const server = path === "" && head.query === undefined && head.method === "OPTIONS";
  head.path = path === "" ? (server ? "*" : "/") : path;
  return undefined;
}

/** Connection options (RFC 9110 §7.6.1): what they name is for this hop only. */
function readConnection(head: Http1RequestHead): void {
  const headers = head.headers;
  let upgrade = false;
  for (let index = 0; index < headers.count; index++) {
    if (headers.kinds[index] !== Kind.connection) continue;
    const value = headers.value(index);
    if (value === "keep-alive") {
      head.keepAlive = true;
      continue;
    }
    for (const option of listOf(value)) {
      if (option === "close") head.keepAlive = false;
      else if (option === "keep-alive") head.keepAlive ||= head.minor === 0;
      else if (option === "upgrade") upgrade = true;
      else dropForHop(headers, option);
    }
  }
  // `close` stands above `keep-alive`, in whatever order they came.
  if (!head.keepAlive || hasClose(headers)) head.keepAlive = false;
  const protocol = headers.valueOf(Kind.upgrade);
  // Only what has no body can be upgraded: the body would be the first bytes of the tunnel. h2c is not offered.
  const possible = head.minor === 1 && head.length === 0 && !head.tunnelOnly;
  if (upgrade && protocol !== undefined && possible && !/\bh2c\b/i.test(protocol)) head.upgrade = protocol;
}

function hasClose(headers: HeaderBlock): boolean {
  for (let index = 0; index < headers.count; index++) {
    if (headers.kinds[index] === Kind.connection && headers.value(index).length !== 10) {
      if (listOf(headers.value(index)).includes("close")) return true;
    }
  }
  return false;
}

/** Fields that end-to-end framing and routing rest on are not for Connection to take away. */
const kept = new Set(["host", "content-length", "transfer-encoding", "x-forwarded-for", "x-request-id", "cookie"]);

export function dropForHop(headers: HeaderBlock, name: string): void {
  if (!kept.has(name)) headers.remove(name);
}
