// Access log lines by template, in Envoy's command operators (`model/listener-telemetry.ts`). A template is taken apart once, to
// what is written as it is and to one function a value, so that a line costs its pieces and makes nothing that has to be collected.
// What is absent is `-` in text and null in JSON.

import { hostname } from "node:os";
import { type AccessLogOperator, type AccessLogSettings, templatePieces } from "../../model/listener-telemetry.ts";
import { type HeaderBlock, Kind } from "../headers.ts";
import { kindOf } from "../http1/fields.ts";
import type { AccessRecord } from "./access-record.ts";
import {
  addressPort,
  bytes,
  digits,
  jsonPartStyle,
  jsonStyle,
  latin1,
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
  /** Writes a line with its end; returns where it ended. */
  write(to: Buffer, at: number, record: AccessRecord): number;
}

/** Fields of the answer that a line has in it are noted when the answer's head is there: by their places in a list. */
export type AnswerFields = string[];

/** A piece of a line: writes a value and returns where it ended. */
type Piece = (to: Buffer, at: number, record: AccessRecord) => number;

/**
 * Bytes of one text; it is cut there, so that lines are bounded, and a client cannot make others of a line's values disappear by
 * making one long. A target is two texts, its path and its query.
 */
const mostText = 16 * 1024;
/** What is not text: numbers, times, addresses, words of ours, and what was begun at the limit. */
const mostOther = 128;

const machine = hostname();

const quote = 0x22;
const comma = 0x2c;

/** A template as it is set. Throws an Error that names an operator that is not known. Adds to `answer` what is asked of answers. */
export function lineFormat(format: AccessLogSettings["format"], answer: AnswerFields): LineFormat {
  const line = new Pieces();
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
  return line.finished();
}

function addTemplate(line: Pieces, template: string, style: Style, answer: AnswerFields): void {
  for (const piece of templatePieces(template)) {
    if (typeof piece === "string") line.text(style === textStyle ? piece : JSON.stringify(piece).slice(1, -1));
    else if ("operator" in piece) {
      const operator = operators[piece.operator];
      if (operator) line.add(operator(style));
      else line.bytes(style.absent);
    } else {
      const { header, names, most = Number.POSITIVE_INFINITY } = piece;
      line.add(
        fieldPiece(
          names.map((name) =>
            header === "REQ" ? requestField(name, most, style) : answerField(name, most, style, answer),
          ),
          style,
        ),
      );
    }
  }
}

/** Literals and values in turn. */
class Pieces {
  readonly #literals: Buffer[] = [Buffer.alloc(0)];
  readonly #pieces: Piece[] = [];

  text(text: string): void {
    this.bytes(Buffer.from(text));
  }

  bytes(bytes: Uint8Array): void {
    this.#literals.push(Buffer.concat([this.#literals.pop()!, bytes]));
  }

  add(piece: Piece): void {
    this.#pieces.push(piece);
    this.#literals.push(Buffer.alloc(0));
  }

  finished(): LineFormat {
    const pieces = this.#pieces;
    const literals = this.#literals;
    const last = literals.at(-1)!;
    return {
      most: literals.reduce((sum, { length }) => sum + length, 0) + pieces.length * (2 * mostText + mostOther),
      write(to, start, record) {
        let at = start;
        for (let index = 0; index < pieces.length; index++) {
          at = put(to, at, literals[index]!);
          at = pieces[index]!(to, at, record);
        }
        return put(to, at, last);
      },
    };
  }
}

// ------------------------------------------------------------------------------------------------------------ operators

type Operator = (style: Style) => Piece;

const operators: Readonly<Record<AccessLogOperator, Operator | undefined>> = {
  START_TIME: (style) => (to, at, record) => {
    if (style.quoted) to[at++] = quote;
    at = time(to, at, record.startTime);
    if (style.quoted) to[at++] = quote;
    return at;
  },
  PROTOCOL: ours((record) => record.protocol),
  RESPONSE_CODE: number((record) => record.status),
  RESPONSE_FLAGS: ours((record) => record.flags),
  RESPONSE_CODE_DETAILS: ours((record) => record.details),
  CONNECTION_TERMINATION_DETAILS: undefined,
  UPSTREAM_TRANSPORT_FAILURE_REASON: undefined,
  BYTES_RECEIVED: number((record) => record.bytesReceived),
  BYTES_SENT: number((record) => record.bytesSent),
  DURATION: number((record) => Math.round(record.duration)),
  RESPONSE_DURATION: number((record) => Math.round(record.upstreamTime)),
  RESPONSE_TX_DURATION: number(({ upstreamTime, duration }) =>
    upstreamTime < 0 ? -1 : Math.max(0, Math.round(duration - upstreamTime)),
  ),
  UPSTREAM_HOST: place((record) => record.endpoint),
  UPSTREAM_REMOTE_ADDRESS: place((record) => record.endpoint),
  UPSTREAM_CLUSTER: theirs((record) => record.backend),
  UPSTREAM_CLUSTER_RAW: theirs((record) => record.backend),
  UPSTREAM_LOCAL_ADDRESS: place((record) => record.upstreamLocal),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: number((record) => record.attempts),
  DOWNSTREAM_LOCAL_ADDRESS: place((record) => record.local),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: ours((record) => record.local.address),
  DOWNSTREAM_LOCAL_PORT: number((record) => record.local.port),
  DOWNSTREAM_REMOTE_ADDRESS: addressWithPort((record) => record.source, clientPort),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: ours((record) => record.source),
  DOWNSTREAM_REMOTE_PORT: number(clientPort),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: addressWithPort(
    ({ addresses, source }) => addresses?.source ?? source,
    ({ addresses }) => addresses?.sourcePort ?? 0,
  ),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: ours(({ addresses, source }) => addresses?.source ?? source),
  DOWNSTREAM_TLS_VERSION: ours((record) => record.tlsVersion),
  DOWNSTREAM_PEER_URI_SAN: theirs((record) => record.peerUri),
  DOWNSTREAM_PEER_SUBJECT: theirs((record) => record.peerSubject),
  HOSTNAME: theirs(() => machine),
  REQUESTED_SERVER_NAME: theirs((record) => record.serverName),
  ROUTE_NAME: theirs((record) => record.route),
  TRACE_ID:
    (style) =>
    (to, at, { trace }) => {
      if (trace === undefined) return put(to, at, style.absent);
      if (style.quoted) to[at++] = quote;
      at = trace.writeTraceId(to, at);
      if (style.quoted) to[at++] = quote;
      return at;
    },
};

/** A whole number; below 0: there is none. */
function number(get: (record: AccessRecord) => number): Operator {
  return (style) => (to, at, record) => {
    const value = get(record);
    return value >= 0 ? digits(to, at, value) : put(to, at, style.absent);
  };
}

/** A short text of printable ASCII that cannot be anything else. */
function ours(get: (record: AccessRecord) => string | undefined): Operator {
  return (style) => (to, at, record) => {
    const value = get(record);
    if (value === undefined || value === "") return put(to, at, style.absent);
    if (style.quoted) to[at++] = quote;
    at = word(to, at, value);
    if (style.quoted) to[at++] = quote;
    return at;
  };
}

/** Any text. */
function theirs(get: (record: AccessRecord) => string | undefined): Operator {
  return (style) => (to, at, record) => {
    const value = get(record);
    if (value === undefined || value === "") return put(to, at, style.absent);
    if (style.quoted) to[at++] = quote;
    at = text(to, at, at + mostText, value, style);
    if (style.quoted) to[at++] = quote;
    return at;
  };
}

function place(get: (record: AccessRecord) => AccessRecord["endpoint"]): Operator {
  return (style) => (to, at, record) => {
    const value = get(record);
    if (value === undefined) return put(to, at, style.absent);
    if (style.quoted) to[at++] = quote;
    at = addressPort(to, at, value.address, value.port);
    if (style.quoted) to[at++] = quote;
    return at;
  };
}

function addressWithPort(host: (record: AccessRecord) => string, port: (record: AccessRecord) => number): Operator {
  return (style) => (to, at, record) => {
    if (style.quoted) to[at++] = quote;
    at = addressPort(to, at, host(record), port(record));
    if (style.quoted) to[at++] = quote;
    return at;
  };
}

/** The port of a client for whom others speak is not known: 0. */
function clientPort({ source, addresses }: AccessRecord): number {
  return addresses !== undefined && addresses.source === source ? addresses.sourcePort : 0;
}

// --------------------------------------------------------------------------------------------------------- header fields

/** The first of the fields that is there and not empty. A field that is not there writes nothing. */
function fieldPiece([first, second]: readonly Piece[], style: Style): Piece {
  return (to, at, record) => {
    const start = style.quoted ? at + 1 : at;
    let end = first!(to, start, record);
    if (end === start && second) end = second(to, start, record);
    if (end === start) return put(to, at, style.absent);
    if (style.quoted) {
      to[at] = quote;
      to[end++] = quote;
    }
    return end;
  };
}

function requestField(name: string, most: number, style: Style): Piece {
  switch (name) {
    case ":method":
      return (to, at, { method = "" }) => cut(to, at, at + mostText, method, most, style);
    case ":authority":
      return (to, at, { authority = "" }) => cut(to, at, at + mostText, authority, most, style);
    case ":scheme":
      return (to, at, { scheme = "" }) => cut(to, at, at + mostText, scheme, most, style);
    case ":path":
      return (to, at, { path, query }) => {
        if (path === undefined) return at;
        at = cut(to, at, at + mostText, path, most, style);
        if (query === undefined || path.length >= most) return at;
        to[at++] = 0x3f;
        return cut(to, at, at + mostText, query, most - path.length - 1, style);
      };
  }
  const kind = kindOf(Buffer.from(name), 0, name.length);
  return (to, at, { headers }) => (headers ? fieldOf(headers, name, kind, to, at, most, style) : at);
}

/** A text that came over a wire. */
function cut(to: Buffer, at: number, limit: number, value: string, most: number, style: Style): number {
  return latin1(to, at, limit, value.length > most ? value.slice(0, most) : value, style);
}

/** What `HeaderBlock.get` answers, from where it lies, and what the proxy has put behind. */
function fieldOf(
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
      if (kinds[index] !== kind || (kind === Kind.other && !headers.named(index, name))) continue;
      if (at > start) {
        to[at++] = comma;
        left--;
      }
      const from = spans[index * 4 + 2]!;
      const end = Math.min(spans[index * 4 + 3]!, from + left);
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
  if (at > start || headers.tail === "") return at;
  if (kind === Kind.requestId) return cut(to, at, limit, headers.tailEnd, most, style);
  const added = headers.finished(name);
  return added === undefined ? at : cut(to, at, limit, added, most, style);
}

function answerField(name: string, most: number, style: Style, answer: AnswerFields): Piece {
  if (name === "x-envoy-upstream-service-time") {
    return (to, at, { upstreamTime }) => (upstreamTime < 0 ? at : digits(to, at, Math.round(upstreamTime)));
  }
  let place = answer.indexOf(name);
  if (place < 0) place = answer.push(name) - 1;
  return (to, at, { answerFields }) => {
    const value = answerFields?.[place];
    return value === undefined ? at : cut(to, at, at + mostText, value, most, style);
  };
}
