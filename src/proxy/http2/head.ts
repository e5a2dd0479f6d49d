// What decoded field sections mean as heads of requests and answers (RFC 9113 §8.1 to §8.3, §8.5; RFC 8441): the checks without
// which HTTP/1 behind us would read something else than what was sent. Pure: a section in, a filled head or a reason out.

import { parseConnectTarget } from "../../model/connect.ts";
import type { RequestHead, ResponseHead } from "../exchange.ts";
import { type HeaderBlock, Kind } from "../headers.ts";
import { lengthOf } from "../http1/fields.ts";
import { maxTargetBytes } from "../http1/request.ts";
import type { Reason } from "../reason.ts";
import type { FieldSection } from "./hpack/section.ts";
import { Pseudo } from "./hpack/static-table.ts";

export class Http2RequestHead implements RequestHead {
  method = "";
  scheme: "http" | "https" = "http";
  authority = "";
  path = "";
  query: string | undefined = undefined;
  headers: HeaderBlock;
  hostKept = false;
  length = 0;
  upgrade: string | undefined = undefined;
  tunnelOnly = false;
  source = "";

  constructor(headers: HeaderBlock, scheme: "http" | "https", source: string) {
    this.headers = headers;
    this.scheme = scheme;
    this.source = source;
  }
}

export interface Http2ResponseHead extends ResponseHead {
  status: number;
  length: number;
}

/** Fields of a connection of HTTP/1, which have no place here (RFC 9113 §8.2.2). */
const forbidden =
  (1 << Kind.connection) |
  (1 << Kind.keepAlive) |
  (1 << Kind.proxyConnection) |
  (1 << Kind.transferEncoding) |
  (1 << Kind.upgrade);

const ordinary = Pseudo.method | Pseudo.scheme | Pseudo.path;

/** Methods whose requests say how long their content is, even when it is empty (RFC 9110 §8.6). */
const withContent = new Set(["POST", "PUT", "PATCH"]);

/** Fills a head. `malformed`: an error of the stream; a reason: to be answered with. */
export function readRequest(
  section: FieldSection,
  endStream: boolean,
  head: Http2RequestHead,
): "malformed" | Reason | undefined {
  if (section.tooLarge) return "head_too_large";
  if (section.malformed || (section.pseudo & Pseudo.status) !== 0) return "malformed";
  const { headers } = head;
  if ((headers.mask & forbidden) !== 0) return "malformed";
  const te = headers.at(Kind.te);
  if (te >= 0 && (isRepeated(headers, te) || headers.value(te).toLowerCase() !== "trailers")) return "malformed";
  const problem = section.method === "CONNECT" ? readConnect(section, head) : readTarget(section, head);
  if (problem !== undefined) return problem;

  // The authority, and a Host beside it that must say the same (RFC 9113 §8.3.1).
  const host = headers.at(Kind.host);
  head.authority = section.authority;
  head.hostKept = false;
  if (host >= 0) {
    if (isRepeated(headers, host)) return "malformed";
    const value = headers.value(host);
    if ((section.pseudo & Pseudo.authority) === 0) head.authority = value;
    else if (value.toLowerCase() !== section.authority.toLowerCase()) return "malformed";
    head.hostKept = value === head.authority;
  }
  if (head.authority === "") return "bad_host";

  const length = readLength(headers);
  if (length === undefined || (endStream && length > 0)) return "malformed";
  if (head.tunnelOnly && length > 0) return "malformed";
  head.length = endStream || head.tunnelOnly ? 0 : length;
  if (endStream && headers.at(Kind.contentLength) < 0 && withContent.has(head.method))
    headers.add("content-length", "0");
  const expect = headers.valueOf(Kind.expect);
  if (expect !== undefined && expect.toLowerCase() !== "100-continue") return "expectation_failed";
  return undefined;
}

function readTarget(section: FieldSection, head: Http2RequestHead): "malformed" | Reason | undefined {
  if ((section.pseudo & ordinary) !== ordinary || (section.pseudo & Pseudo.protocol) !== 0) return "malformed";
  head.method = section.method;
  return readPath(section, head);
}

function readPath({ path, query }: FieldSection, head: Http2RequestHead): "malformed" | Reason | undefined {
  if (path.length + (query === undefined ? 0 : query.length + 1) > maxTargetBytes) return "target_too_long";
  const asterisk = path === "*" && query === undefined && head.method === "OPTIONS";
  if (path.charCodeAt(0) !== 47 && !asterisk) return "malformed";
  head.path = path;
  head.query = query;
  return undefined;
}

/** What a protocol may be called. */
const protocolName = /^[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,64}$/;

/** CONNECT to a place (RFC 9113 §8.5), and for a protocol (RFC 8441): with that of WebSocket it is what an upgrade is in HTTP/1. */
function readConnect(section: FieldSection, head: Http2RequestHead): "malformed" | Reason | undefined {
  const { pseudo } = section;
  if ((pseudo & Pseudo.protocol) === 0) {
    if ((pseudo & (Pseudo.scheme | Pseudo.path)) !== 0 || !parseConnectTarget(section.authority)) return "malformed";
    head.method = "CONNECT";
    head.upgrade = "";
    head.tunnelOnly = true;
    return undefined;
  }
  if ((pseudo & (ordinary | Pseudo.authority)) !== (ordinary | Pseudo.authority)) return "malformed";
  const protocol = section.protocol.toLowerCase();
  if (!protocolName.test(protocol)) return "malformed";
  if (protocol === "h2c") return "method_not_supported";
  head.method = protocol === "websocket" ? "GET" : "CONNECT";
  head.upgrade = protocol;
  head.tunnelOnly = true;
  return readPath(section, head);
}

/** Fills the head of an answer. False: it is malformed. `toHead`: the request was a HEAD. */
export function readResponse(
  section: FieldSection,
  endStream: boolean,
  toHead: boolean,
  head: Http2ResponseHead,
): boolean {
  if (section.malformed || section.tooLarge || section.pseudo !== Pseudo.status) return false;
  const { headers } = section;
  if ((headers.mask & forbidden) !== 0 || !/^[1-5][0-9]{2}$/.test(section.status)) return false;
  const status = Number(section.status);
  // 101 has no meaning here (RFC 9113 §8.6), and an interim answer is not the last.
  if (status === 101 || (status < 200 && endStream)) return false;
  const length = readLength(headers);
  if (length === undefined) return false;
  const bodiless = status < 200 || status === 204 || status === 304 || toHead;
  if (endStream && length > 0 && !bodiless) return false;
  if (status < 200 || status === 204) {
    const field = headers.at(Kind.contentLength);
    if (field >= 0) headers.drop(field);
  }
  head.status = status;
  head.headers = headers;
  head.length = endStream || bodiless ? 0 : length;
  return true;
}

/** The trailers of a section; undefined when they are malformed. What frames or routes a message is left out. */
export function readTrailers(section: FieldSection): HeaderBlock | undefined {
  if (section.malformed || section.tooLarge || section.pseudo !== 0) return undefined;
  const { headers } = section;
  if ((headers.mask & forbidden) !== 0) return undefined;
  for (let index = 0; index < headers.count; index++) {
    if (headers.kinds[index] !== Kind.other) headers.kinds[index] = Kind.dropped;
  }
  return headers;
}

/** The content-length; -1 when there is none, undefined when it is none. */
function readLength(headers: HeaderBlock): number | undefined {
  const index = headers.at(Kind.contentLength);
  if (index < 0) return -1;
  return isRepeated(headers, index) ? undefined : lengthOf(headers, index);
}

function isRepeated(headers: HeaderBlock, first: number): boolean {
  const kind = headers.kinds[first]!;
  for (let index = first + 1; index < headers.count; index++) if (headers.kinds[index] === kind) return true;
  return false;
}

/** A head for {@link readResponse}. */
export function responseHead(headers: HeaderBlock): Http2ResponseHead {
  return { status: 0, phrase: "", headers, length: 0 };
}
