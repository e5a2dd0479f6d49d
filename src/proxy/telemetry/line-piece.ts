// One value of a log line (`line-operators.ts` has what there is), and how it is written from what is known of a request
// (`access-record.ts`).

import { hostname } from "node:os";
import { decodeForm } from "../../model/value-match.ts";
import { kindOf } from "../http1/fields.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import type { AccessRecord } from "./access-record.ts";
import { grpcCamel, grpcSnake, grpcStatusOf } from "./grpc-status.ts";
import { fieldOf, mostText, optional } from "./line-fields.ts";
import { firstField, firstOther, firstPlace, firstText, firstWord, What } from "./line-operators.ts";
import { addressPort, digits, put, type Style, text, time, word } from "./line-values.ts";
import { longFlags } from "./long-flags.ts";
import type { WrittenTime } from "./written-time.ts";

/** What lines have in them of answers, each noted when it is there: by their places in these lists. Names in lower case. */
export interface AskedOfAnswers {
  readonly fields: string[];
  readonly trailers: string[];
  /** How many values, or rows of them, connections keep. */
  kept: number;
}

const machine = hostname();

/** Of a text without a length in its template: more than any is long, and no double, which would slow down what counts. */
const uncut = 0x3fffffff;

const quote = 0x22;

/** A field of a head: `kind` as in `HeaderBlock`; `place` among the fields of the answer that are noted. */
export interface Field {
  readonly what: number;
  readonly name: string;
  readonly kind: number;
  readonly place: number;
}

const pseudoFields: Readonly<Record<string, number>> = {
  ":method": What.method,
  ":authority": What.authority,
  ":scheme": What.scheme,
  ":path": What.path,
};

export function fieldNamed(header: "REQ" | "RESP" | "TRAILER", name: string, asked: AskedOfAnswers): Field {
  const kind = kindOf(Buffer.from(name), 0, name.length);
  if (header === "REQ") return { what: pseudoFields[name] ?? What.field, name, kind, place: 0 };
  if (header === "TRAILER") return { what: What.trailer, name, kind, place: placeOf(name, asked.trailers) };
  if (name === "x-envoy-upstream-service-time") return { what: What.upstreamTimeField, name, kind, place: 0 };
  return { what: What.answerField, name, kind, place: placeOf(name, asked.fields) };
}

function placeOf(name: string, names: string[]): number {
  const place = names.indexOf(name);
  return place < 0 ? names.push(name) - 1 : place;
}

/** `grpc-status` of an answer that is only a head, and of its trailers: `first` and `second` of what tells of it. */
export function grpcFields(asked: AskedOfAnswers): readonly [Field, Field] {
  return [fieldNamed("TRAILER", "grpc-status", asked), fieldNamed("RESP", "grpc-status", asked)];
}

export const asksForGrpc = (what: number): boolean =>
  what === What.grpcNumber || what === What.grpcCamel || what === What.grpcSnake;

export class Piece {
  readonly what: number;
  readonly style: Style;
  /** Of a head; the second stands for the first where that is not there. */
  readonly first: Field | undefined;
  readonly second: Field | undefined;
  /** Characters. */
  readonly most: number;
  /** Cut before the first `?`. */
  readonly withoutQuery: boolean;
  readonly time: WrittenTime | undefined;

  constructor(
    what: number,
    style: Style,
    more: Partial<Pick<Piece, "first" | "second" | "most" | "withoutQuery" | "time">> = {},
  ) {
    this.what = what;
    this.style = style;
    this.first = more.first;
    this.second = more.second;
    this.most = more.most ?? uncut;
    this.withoutQuery = more.withoutQuery ?? false;
    this.time = more.time;
  }
}

export function writePiece(to: Buffer, at: number, piece: Piece, record: AccessRecord): number {
  const { what, style } = piece;
  if (what < firstWord) {
    const value = numberOf(what, piece, record);
    return value >= 0 ? digits(to, at, value) : put(to, at, style.absent);
  }
  const start = style.quoted ? at + 1 : at;
  let end = start;
  if (what < firstPlace) {
    const value = textOf(what, piece, record);
    if (value !== undefined)
      end = what < firstText ? word(to, start, value) : text(to, start, start + mostText, value, style);
  } else if (what < firstOther) end = writePlace(to, start, what, record);
  else if (what === What.startTime) end = time(to, start, record.startTime);
  else if (what < firstField) {
    end = writeOther(to, start, what, piece, record);
  } else {
    end = writeField(to, start, piece.first!, piece, record);
    if (end === start && piece.second !== undefined) end = writeField(to, start, piece.second, piece, record);
    if (piece.withoutQuery) {
      const query = to.indexOf(0x3f, start);
      if (query >= 0 && query < end) end = query;
    }
  }
  if (end === start) return put(to, at, style.absent);
  if (style.quoted) {
    to[at] = quote;
    to[end++] = quote;
  }
  return end;
}

function writeOther(to: Buffer, at: number, what: number, piece: Piece, record: AccessRecord): number {
  const { startTime, duration, trace } = record;
  if (what === What.startTimeFormat) return piece.time!.write(to, at, startTime, piece.style);
  if (what === What.emitTime) return time(to, at, startTime + duration);
  if (what === What.emitTimeFormat) return piece.time!.write(to, at, startTime + duration, piece.style);
  if (trace === undefined) return at;
  return what === What.traceId ? trace.writeTraceId(to, at) : trace.writeSpanId(to, at);
}

function grpcOf({ first, second }: Piece, record: AccessRecord): number {
  return grpcStatusOf(record, record.trailers?.[first!.place], record.answerFields?.[second!.place]);
}

function numberOf(what: number, piece: Piece, record: AccessRecord): number {
  switch (what) {
    case What.status:
      return record.status;
    case What.bytesReceived:
      return record.bytesReceived;
    case What.bytesSent:
      return record.bytesSent;
    case What.duration:
      return Math.round(record.duration);
    case What.upstreamTime:
      return Math.round(record.upstreamTime);
    case What.sending:
      return record.upstreamTime < 0 ? -1 : Math.max(0, Math.round(record.duration - record.upstreamTime));
    case What.attempts:
      return record.attempts;
    case What.localPort:
      return localPort(record);
    case What.grpcNumber:
      return grpcOf(piece, record);
    case What.directPort:
      return record.addresses?.sourcePort ?? -1;
    case What.endpointPort:
      return record.endpoint?.port ?? -1;
    case What.upstreamLocalPort:
      return record.upstreamLocal?.port ?? -1;
    case What.requestTime:
      return Math.round(record.requestTime);
    default:
      return clientPort(record);
  }
}

function textOf(what: number, piece: Piece, record: AccessRecord): string | undefined {
  switch (what) {
    case What.protocol:
      return record.protocol;
    case What.flags:
      return record.flags;
    case What.details:
      return record.details;
    case What.tlsVersion:
      return record.tlsVersion;
    case What.localAddress:
      return localAddress(record);
    case What.source:
      return record.source;
    case What.directSource:
      return record.addresses?.source ?? record.source;
    case What.backend:
      return record.backend;
    case What.route:
      return record.route;
    case What.serverName:
      return record.serverName;
    case What.peerUri:
      return record.peerUri;
    case What.peerSubject:
      return record.peerSubject;
    case What.grpcCamel:
      return grpcCamel(grpcOf(piece, record));
    case What.grpcSnake:
      return grpcSnake(grpcOf(piece, record));
    case What.endpointAddress:
      return record.endpoint?.address;
    case What.upstreamLocalAddress:
      return record.upstreamLocal?.address;
    case What.flagsLong:
      return longFlags(record.flags);
    case What.logType:
      return logTypes[record.protocol] ?? "DownstreamEnd";
    case What.upstreamProtocol:
      return record.endpoint === undefined ? undefined : record.upstreamProtocol;
    case What.peerIssuer:
      return record.peer?.issuer;
    case What.peerSerial:
      return record.peer?.serial;
    case What.peerFingerprint:
      return record.peer?.hash;
    default:
      return machine;
  }
}

/** Envoy's names of what a line is for. */
const logTypes: Readonly<Record<string, string>> = { TCP: "TcpConnectionEnd", UDP: "UdpSessionEnd" };

function writePlace(to: Buffer, at: number, what: number, record: AccessRecord): number {
  if (what === What.remote) return addressPort(to, at, record.source, clientPort(record));
  const { addresses } = record;
  if (what === What.direct) return addressPort(to, at, addresses?.source ?? record.source, addresses?.sourcePort ?? 0);
  if (what === What.local) return addressPort(to, at, localAddress(record), localPort(record));
  const place = what === What.endpoint ? record.endpoint : record.upstreamLocal;
  return place === undefined ? at : addressPort(to, at, place.address, place.port);
}

/** Where a client connected to: its connection says so, or what a redirection took it from; else the listener's address. */
function localAddress({ addresses, local }: AccessRecord): string {
  return isKnown(addresses) ? addresses.destination : local.address;
}

function localPort({ addresses, local }: AccessRecord): number {
  return isKnown(addresses) ? addresses.destinationPort : local.port;
}

/** Of a connection that was closed before it was asked, no address is known. */
function isKnown(addresses: AccessRecord["addresses"]): addresses is ProxyAddresses {
  return addresses !== undefined && addresses.destination !== "0.0.0.0" && addresses.destination !== "::";
}

/** The port of a client for whom others speak is not known: 0. */
function clientPort({ source, addresses }: AccessRecord): number {
  return addresses !== undefined && addresses.source === source ? addresses.sourcePort : 0;
}

/** Nothing where there is none. */
function writeField(to: Buffer, at: number, field: Field, piece: Piece, record: AccessRecord): number {
  const { most, style } = piece;
  switch (field.what) {
    case What.field:
      return record.headers === undefined ? at : fieldOf(record.headers, field.name, field.kind, to, at, most, style);
    case What.method:
      return optional(to, at, record.method, most, style);
    case What.authority:
      return optional(to, at, record.authority, most, style);
    case What.scheme:
      return optional(to, at, record.scheme, most, style);
    case What.path: {
      const { path, query } = record;
      const end = optional(to, at, path, most, style);
      if (path === undefined || query === undefined || path.length >= most || piece.withoutQuery) return end;
      to[end] = 0x3f;
      return optional(to, end + 1, query, most - path.length - 1, style);
    }
    case What.trailer:
      return optional(to, at, record.trailers?.[field.place], most, style);
    case What.parameter:
      return parameter(to, at, record.query, field.name, most, style);
    case What.answerField:
      return optional(to, at, record.answerFields?.[field.place], most, style);
    default:
      return record.upstreamTime < 0 ? at : digits(to, at, Math.round(record.upstreamTime));
  }
}

/** The first parameter of a name, decoded. */
function parameter(
  to: Buffer,
  at: number,
  query: string | undefined,
  name: string,
  most: number,
  style: Style,
): number {
  if (query === undefined) return at;
  for (const part of query.split("&")) {
    const equals = part.indexOf("=");
    if (decodeForm(equals < 0 ? part : part.slice(0, equals)) !== name) continue;
    const value = equals < 0 ? "" : decodeForm(part.slice(equals + 1));
    return text(to, at, at + mostText, value.length > most ? value.slice(0, most) : value, style);
  }
  return at;
}
