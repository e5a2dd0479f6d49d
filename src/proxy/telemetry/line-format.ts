// Access log lines by template, in Envoy's command operators (`model/listener-telemetry.ts`). A template is taken apart once, to
// what is written as it is and to what each value is, so that a line costs its pieces and leaves nothing behind that has to be collected.
// What is absent is `-` in text and null in JSON.

import { hostname } from "node:os";
import { type AccessLogOperator, type AccessLogSettings, templatePieces } from "../../model/listener-telemetry.ts";
import { kindOf } from "../http1/fields.ts";
import type { ProxyAddresses } from "../listener/proxy-protocol.ts";
import type { AccessRecord } from "./access-record.ts";
import { fieldOf, mostText, optional } from "./line-fields.ts";
import {
  addressPort,
  digits,
  jsonPartStyle,
  jsonStyle,
  put,
  type Style,
  text,
  textStyle,
  time,
  word,
} from "./line-values.ts";

export interface LineFormat {
  /** Room that a line may need. */
  readonly most: number;
  /** It has in it from where backends are connected to. */
  readonly namesUpstreamLocal: boolean;
  /** Writes a line with its end; returns where it ended. */
  write(to: Buffer, at: number, record: AccessRecord): number;
}

/** Fields of the answer that a line has in it are noted when the answer's head is there: by their places in a list. */
export type AnswerFields = string[];

/** What is not text: numbers, times, addresses, words of ours, and what was begun at the limit. */
const mostOther = 128;

const machine = hostname();

/** Of a text without a length in its template: more than any is long, and no double, which would slow down what counts. */
const uncut = 0x3fffffff;

const quote = 0x22;

/** A template as it is set. Throws an Error that names an operator that is not known. Adds to `answer` what is asked of answers. */
export function lineFormat(format: AccessLogSettings["format"], answer: AnswerFields): LineFormat {
  const line = new Line();
  if ("text" in format) addTemplate(line, format.text, textStyle, answer);
  else {
    line.text("{");
    Object.entries(format.json).forEach(([name, template], index) => {
      line.text(`${index > 0 ? "," : ""}${JSON.stringify(name)}:`);
      const pieces = templatePieces(template);
      if (pieces.length === 1 && typeof pieces[0] !== "string") addTemplate(line, template, jsonStyle, answer);
      else {
        line.text('"');
        addTemplate(line, template, jsonPartStyle, answer);
        line.text('"');
      }
    });
    line.text("}");
  }
  line.text("\n");
  return line;
}

function addTemplate(line: Line, template: string, style: Style, answer: AnswerFields): void {
  for (const piece of templatePieces(template)) {
    if (typeof piece === "string") line.text(style === textStyle ? piece : JSON.stringify(piece).slice(1, -1));
    else if ("operator" in piece) {
      const operator = operators[piece.operator];
      if (operator === undefined) line.bytes(style.absent);
      else line.add(new Piece(operator, style));
    } else {
      const { header, names, most = uncut } = piece;
      const [first, second] = names.map((name) => fieldNamed(header, name, answer));
      line.add(new Piece(first!.what, style, first!, second, most));
    }
  }
}

/** Literals and values in turn. */
class Line implements LineFormat {
  readonly #literals: Uint8Array[] = [new Uint8Array(0)];
  readonly #pieces: Piece[] = [];
  most = 0;
  namesUpstreamLocal = false;

  text(text: string): void {
    this.bytes(Buffer.from(text));
  }

  bytes(bytes: Uint8Array): void {
    this.most += bytes.length;
    this.#literals.push(new Uint8Array(Buffer.concat([this.#literals.pop()!, bytes])));
  }

  add(piece: Piece): void {
    this.most += 2 * mostText + mostOther;
    if (piece.what === What.upstreamLocal) this.namesUpstreamLocal = true;
    this.#pieces.push(piece);
    this.#literals.push(new Uint8Array(0));
  }

  write(to: Buffer, start: number, record: AccessRecord): number {
    const pieces = this.#pieces;
    const literals = this.#literals;
    let at = start;
    for (let index = 0; index < pieces.length; index++) {
      at = put(to, at, literals[index]!);
      at = writePiece(to, at, pieces[index]!, record);
    }
    return put(to, at, literals[pieces.length]!);
  }
}

/**
 * What a value is, and with that how it is written. Numbers and one function that tells them apart, because a function for each
 * would be called through a pointer, at the cost of half a line.
 */
const What = {
  // Whole numbers; below 0 there is none.
  status: 0,
  bytesReceived: 1,
  bytesSent: 2,
  duration: 3,
  upstreamTime: 4,
  sending: 5,
  attempts: 6,
  localPort: 7,
  remotePort: 8,
  // Short texts of printable ASCII that cannot be anything else.
  protocol: 16,
  flags: 17,
  details: 18,
  tlsVersion: 19,
  localAddress: 20,
  source: 21,
  directSource: 22,
  // Any texts, from a configuration, a certificate or a ClientHello.
  backend: 32,
  route: 33,
  serverName: 34,
  peerUri: 35,
  peerSubject: 36,
  machine: 37,
  // Addresses with ports.
  endpoint: 48,
  upstreamLocal: 49,
  local: 50,
  remote: 51,
  direct: 52,
  // What is written in its own way.
  startTime: 64,
  traceId: 65,
  // Fields of heads.
  field: 80,
  method: 81,
  authority: 82,
  scheme: 83,
  path: 84,
  answerField: 85,
  upstreamTimeField: 86,
} as const;

const firstWord = 16;
const firstText = 32;
const firstPlace = 48;
const firstOther = 64;
const firstField = 80;

const operators: Readonly<Record<AccessLogOperator, number | undefined>> = {
  START_TIME: What.startTime,
  PROTOCOL: What.protocol,
  RESPONSE_CODE: What.status,
  RESPONSE_FLAGS: What.flags,
  RESPONSE_CODE_DETAILS: What.details,
  CONNECTION_TERMINATION_DETAILS: undefined,
  UPSTREAM_TRANSPORT_FAILURE_REASON: undefined,
  BYTES_RECEIVED: What.bytesReceived,
  BYTES_SENT: What.bytesSent,
  DURATION: What.duration,
  RESPONSE_DURATION: What.upstreamTime,
  RESPONSE_TX_DURATION: What.sending,
  UPSTREAM_HOST: What.endpoint,
  UPSTREAM_REMOTE_ADDRESS: What.endpoint,
  UPSTREAM_CLUSTER: What.backend,
  UPSTREAM_CLUSTER_RAW: What.backend,
  UPSTREAM_LOCAL_ADDRESS: What.upstreamLocal,
  UPSTREAM_REQUEST_ATTEMPT_COUNT: What.attempts,
  DOWNSTREAM_LOCAL_ADDRESS: What.local,
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: What.localAddress,
  DOWNSTREAM_LOCAL_PORT: What.localPort,
  DOWNSTREAM_REMOTE_ADDRESS: What.remote,
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: What.source,
  DOWNSTREAM_REMOTE_PORT: What.remotePort,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: What.direct,
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: What.directSource,
  DOWNSTREAM_TLS_VERSION: What.tlsVersion,
  DOWNSTREAM_PEER_URI_SAN: What.peerUri,
  DOWNSTREAM_PEER_SUBJECT: What.peerSubject,
  HOSTNAME: What.machine,
  REQUESTED_SERVER_NAME: What.serverName,
  ROUTE_NAME: What.route,
  TRACE_ID: What.traceId,
};

/** A field of a head: `kind` as in `HeaderBlock`; `place` among the fields of the answer that are noted. */
interface Field {
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

function fieldNamed(header: "REQ" | "RESP", name: string, answer: AnswerFields): Field {
  const kind = kindOf(Buffer.from(name), 0, name.length);
  if (header === "REQ") return { what: pseudoFields[name] ?? What.field, name, kind, place: 0 };
  if (name === "x-envoy-upstream-service-time") return { what: What.upstreamTimeField, name, kind, place: 0 };
  let place = answer.indexOf(name);
  if (place < 0) place = answer.push(name) - 1;
  return { what: What.answerField, name, kind, place };
}

class Piece {
  readonly what: number;
  readonly style: Style;
  /** Of a head; the second stands for the first where that is not there. */
  readonly first: Field | undefined;
  readonly second: Field | undefined;
  /** Characters. */
  readonly most: number;

  constructor(what: number, style: Style, first?: Field, second?: Field, most = uncut) {
    this.what = what;
    this.style = style;
    this.first = first;
    this.second = second;
    this.most = most;
  }
}

function writePiece(to: Buffer, at: number, piece: Piece, record: AccessRecord): number {
  const { what, style } = piece;
  if (what < firstWord) {
    const value = numberOf(what, record);
    return value >= 0 ? digits(to, at, value) : put(to, at, style.absent);
  }
  const start = style.quoted ? at + 1 : at;
  let end = start;
  if (what < firstPlace) {
    const value = textOf(what, record);
    if (value !== undefined)
      end = what < firstText ? word(to, start, value) : text(to, start, start + mostText, value, style);
  } else if (what < firstOther) end = writePlace(to, start, what, record);
  else if (what === What.startTime) end = time(to, start, record.startTime);
  else if (what < firstField) {
    if (record.trace !== undefined) end = record.trace.writeTraceId(to, start);
  } else {
    end = writeField(to, start, piece.first!, piece, record);
    if (end === start && piece.second !== undefined) end = writeField(to, start, piece.second, piece, record);
  }
  if (end === start) return put(to, at, style.absent);
  if (style.quoted) {
    to[at] = quote;
    to[end++] = quote;
  }
  return end;
}

function numberOf(what: number, record: AccessRecord): number {
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
    default:
      return clientPort(record);
  }
}

function textOf(what: number, record: AccessRecord): string | undefined {
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
    default:
      return machine;
  }
}

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
function writeField(to: Buffer, at: number, field: Field, { most, style }: Piece, record: AccessRecord): number {
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
      if (path === undefined || query === undefined || path.length >= most) return end;
      to[end] = 0x3f;
      return optional(to, end + 1, query, most - path.length - 1, style);
    }
    case What.answerField:
      return optional(to, at, record.answerFields?.[field.place], most, style);
    default:
      return record.upstreamTime < 0 ? at : digits(to, at, Math.round(record.upstreamTime));
  }
}
