// Access log lines by template: Envoy's command operators (`%RESPONSE_CODE%`, `%REQ(X-REQUEST-ID)%`, …), because formats are
// copied from there (and Istio's default text format is written in them). A template is taken apart once; a line costs the pieces.
// Unknown operators are refused, never printed as they are. What is absent is `-` in text and null in JSON.

import { type AccessLogOperator, templatePieces } from "../../model/listener-telemetry.ts";
import { isoTime } from "./iso-time.ts";

/** What a line can be made of. */
export interface AccessRecord {
  /** Milliseconds since 1970. */
  readonly startTime: number;
  readonly method: string;
  readonly authority: string;
  /** As it came, with its query. */
  readonly target: string;
  /** `HTTP/1.1`, `HTTP/2`. */
  readonly protocol: string;
  readonly status: number;
  readonly flags: string | undefined;
  /** Why, in one word. */
  readonly details: string | undefined;
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** Milliseconds, from the request's head to the end of the answer. */
  readonly duration: number;
  /** Until the backend's head was there; undefined without a backend. */
  readonly upstreamTime: number | undefined;
  readonly attempts: number;
  readonly route: string | undefined;
  readonly backend: string | undefined;
  /** `address:port`. */
  readonly endpoint: string | undefined;
  readonly upstreamLocal: string | undefined;
  readonly downstreamLocal: string | undefined;
  readonly downstreamRemote: string | undefined;
  readonly serverName: string | undefined;
  readonly tlsVersion: string | undefined;
  readonly peer: string | undefined;
  readonly traceId: string | undefined;
  requestHeader(name: string): string | undefined;
  responseHeader(name: string): string | undefined;
}

type Value = string | number | undefined;
type Operator = (record: AccessRecord) => Value;

const absent: Operator = () => undefined;

const operators: Readonly<Record<AccessLogOperator, Operator>> = {
  START_TIME: (record) => isoTime(record.startTime),
  PROTOCOL: (record) => record.protocol,
  RESPONSE_CODE: (record) => record.status,
  RESPONSE_FLAGS: (record) => record.flags,
  RESPONSE_CODE_DETAILS: (record) => record.details,
  CONNECTION_TERMINATION_DETAILS: absent,
  UPSTREAM_TRANSPORT_FAILURE_REASON: absent,
  BYTES_RECEIVED: (record) => record.bytesReceived,
  BYTES_SENT: (record) => record.bytesSent,
  DURATION: (record) => Math.round(record.duration),
  RESPONSE_DURATION: (record) => rounded(record.upstreamTime),
  UPSTREAM_HOST: (record) => record.endpoint,
  UPSTREAM_CLUSTER: (record) => record.backend,
  UPSTREAM_LOCAL_ADDRESS: (record) => record.upstreamLocal,
  UPSTREAM_REQUEST_ATTEMPT_COUNT: (record) => record.attempts,
  DOWNSTREAM_LOCAL_ADDRESS: (record) => record.downstreamLocal,
  DOWNSTREAM_REMOTE_ADDRESS: (record) => record.downstreamRemote,
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: (record) => record.downstreamRemote?.replace(/:\d+$/, ""),
  DOWNSTREAM_TLS_VERSION: (record) => record.tlsVersion,
  DOWNSTREAM_PEER_URI_SAN: (record) => record.peer,
  REQUESTED_SERVER_NAME: (record) => record.serverName,
  ROUTE_NAME: (record) => record.route,
  TRACE_ID: (record) => record.traceId,
};

/** What operators say in words of our own, that need not be looked through for what could forge a line. */
const ownWords = new Set<Operator>(
  Object.entries(operators).flatMap(([name, operator]) =>
    ["REQUESTED_SERVER_NAME", "DOWNSTREAM_PEER_URI_SAN", "ROUTE_NAME", "UPSTREAM_CLUSTER"].includes(name)
      ? []
      : [operator],
  ),
);

/** Values of one piece of a template, or of all of it. */
export type LineFormat = (record: AccessRecord) => string;

/** Istio's default (pilot/pkg/model/telemetry_logging.go). */
export const defaultTextFormat =
  '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ' +
  '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% ' +
  '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" ' +
  '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER% %UPSTREAM_LOCAL_ADDRESS% ' +
  "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%";

/** A text template as a function, without the line's end. Throws an Error that names an operator that is not known. */
export function textFormat(template: string): LineFormat {
  const pieces = withoutAbsent(piecesOf(template));
  const operators = pieces.flatMap((piece, at) =>
    typeof piece === "string" ? [] : [{ at, piece, safe: ownWords.has(piece) }],
  );
  // Filled anew for each line: joining one array makes a flat text at once, which adding piece by piece does not.
  const parts: Value[] = pieces.map((piece) => (typeof piece === "string" ? piece : ""));
  return (record) => {
    for (let index = 0; index < operators.length; index++) {
      const { at, piece, safe } = operators[index]!;
      const value = piece(record);
      parts[at] = value === undefined || value === "" ? "-" : safe ? value : inText(value);
    }
    return parts.join("");
  };
}

/** Templates by field as a function that makes one JSON object; a field that is one operator keeps its type. */
export function jsonFormat(fields: Readonly<Record<string, string>>): LineFormat {
  const compiled = Object.entries(fields).map(([name, template]): [string, Operator] => {
    const pieces = piecesOf(template);
    const [only] = pieces;
    if (pieces.length === 1 && typeof only === "function") return [name, only];
    const text = textFormat(template);
    return [name, text];
  });
  return (record) => {
    const object: Record<string, string | number | null> = {};
    for (const [name, value] of compiled) object[name] = value(record) ?? null;
    return JSON.stringify(object);
  };
}

/** What we never know becomes part of the text around it: each piece that is joined costs the line. */
function withoutAbsent(pieces: readonly (string | Operator)[]): readonly (string | Operator)[] {
  const merged: (string | Operator)[] = [];
  for (const piece of pieces) {
    const text = piece === absent ? "-" : piece;
    const before = merged.at(-1);
    if (typeof text === "string" && typeof before === "string") merged[merged.length - 1] = before + text;
    else merged.push(text);
  }
  return merged;
}

function piecesOf(template: string): readonly (string | Operator)[] {
  return templatePieces(template).map((piece) => {
    if (typeof piece === "string") return piece;
    if ("operator" in piece) return operators[piece.operator];
    const { header, names, most } = piece;
    const [first, second] = names.map((name) => headerOf(header === "REQ", name));
    const whole = second ? (record: AccessRecord) => first!(record) ?? second(record) : first!;
    return most === undefined ? whole : (record) => whole(record)?.slice(0, most);
  });
}

/** The names (lower case) of the answer's fields that templates ask for. */
export function responseHeadersIn(templates: readonly string[]): readonly string[] {
  const names = templates
    .flatMap(templatePieces)
    .flatMap((piece) => (typeof piece === "object" && "header" in piece && piece.header === "RESP" ? piece.names : []));
  return [...new Set(names)];
}

function headerOf(request: boolean, name: string): (record: AccessRecord) => string | undefined {
  if (!request) return (record) => record.responseHeader(name);
  if (name === ":method") return (record) => record.method;
  if (name === ":authority") return (record) => record.authority;
  if (name === ":path") return (record) => record.target;
  return (record) => record.requestHeader(name);
}

function rounded(value: number | undefined): number | undefined {
  return value === undefined ? undefined : Math.round(value);
}

/** The same characters without `u`, which would cost twice the line. */
const unsafe = /[\0-\x1f"\\\x7f-\x9f]/;

/** Quotes and control characters of clients must not forge a line. */
function inText(value: string | number): string | number {
  if (typeof value === "number") return value;
  return unsafe.test(value)
    ? value.replace(/["\\\p{Cc}]/gu, (one) => `\\x${one.charCodeAt(0).toString(16).padStart(2, "0")}`)
    : value;
}
