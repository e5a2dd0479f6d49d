// Templates of access logs, in the operators of Envoy's format strings (its documentation: Substitution formatter), taken apart.
// What is not written here is refused, with what may stand instead.

import { type TimeFormat, timeFormat } from "./time-format.ts";

/** Operators that have no arguments, or a fixed one. */
export const accessLogOperators = [
  "PROTOCOL",
  "RESPONSE_CODE",
  "RESPONSE_FLAGS",
  "RESPONSE_FLAGS_LONG",
  "RESPONSE_CODE_DETAILS",
  "RESPONSE_CODE_DETAILS(ALLOW_WHITESPACES)",
  "CONNECTION_TERMINATION_DETAILS",
  "UPSTREAM_TRANSPORT_FAILURE_REASON",
  "GRPC_STATUS",
  "GRPC_STATUS(CAMEL_STRING)",
  "GRPC_STATUS(SNAKE_STRING)",
  "GRPC_STATUS(NUMBER)",
  "GRPC_STATUS_NUMBER",
  "BYTES_RECEIVED",
  "BYTES_SENT",
  "DURATION",
  "REQUEST_DURATION",
  "RESPONSE_DURATION",
  "RESPONSE_TX_DURATION",
  "UPSTREAM_HOST",
  "UPSTREAM_HOST_NAME",
  "UPSTREAM_HOST_NAME_WITHOUT_PORT",
  "UPSTREAM_REMOTE_ADDRESS",
  "UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_REMOTE_PORT",
  "UPSTREAM_CLUSTER",
  "UPSTREAM_CLUSTER_RAW",
  "UPSTREAM_PROTOCOL",
  "UPSTREAM_LOCAL_ADDRESS",
  "UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "UPSTREAM_LOCAL_PORT",
  "UPSTREAM_REQUEST_ATTEMPT_COUNT",
  "DOWNSTREAM_LOCAL_ADDRESS",
  "DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_LOCAL_PORT",
  "DOWNSTREAM_REMOTE_ADDRESS",
  "DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_REMOTE_PORT",
  "DOWNSTREAM_DIRECT_REMOTE_ADDRESS",
  "DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT",
  "DOWNSTREAM_DIRECT_REMOTE_PORT",
  "DOWNSTREAM_TLS_VERSION",
  "DOWNSTREAM_PEER_URI_SAN",
  "DOWNSTREAM_PEER_SUBJECT",
  "DOWNSTREAM_PEER_ISSUER",
  "DOWNSTREAM_PEER_SERIAL",
  "DOWNSTREAM_PEER_FINGERPRINT_256",
  "REQUESTED_SERVER_NAME",
  "ROUTE_NAME",
  "TRACE_ID",
  "SPAN_ID",
  "ACCESS_LOG_TYPE",
  "HOSTNAME",
] as const;

export type AccessLogOperator = (typeof accessLogOperators)[number];

export type TemplatePiece =
  | string
  | { readonly operator: AccessLogOperator }
  /** The first of the names (lower case) that is there, cut after `most` characters. */
  | {
      readonly header: "REQ" | "RESP" | "TRAILER";
      readonly names: readonly string[];
      /** Cut before the first `?`. */
      readonly withoutQuery?: true;
      readonly most?: number;
    }
  /** The first parameter of the name in the query, decoded. */
  | { readonly parameter: string; readonly most?: number }
  | { readonly time: "start" | "emit"; readonly format: TimeFormat | undefined };

/** A template taken apart. Throws an Error that names an operator that is not known, or an argument that is wrong. */
export function templatePieces(template: string): readonly TemplatePiece[] {
  const pieces: TemplatePiece[] = [];
  let at = 0;
  while (at < template.length) {
    const start = template.indexOf("%", at);
    if (start < 0) {
      pieces.push(template.slice(at));
      break;
    }
    if (start > at) pieces.push(template.slice(at, start));
    const end = endOf(template, start + 1);
    if (end < 0) throw new Error(`"${template.slice(start)}" has no second %`);
    pieces.push(end === start + 1 ? "%" : operatorOf(template.slice(start + 1, end)));
    at = end + 1;
  }
  return pieces;
}

/** Where an operator's second % is: behind its argument, which may have some of its own. -1: nowhere. */
function endOf(template: string, start: number): number {
  const open = /^[A-Z0-9_]+\(/.exec(template.slice(start, start + 64));
  const closed = open ? template.indexOf(")", start + open[0].length) : -1;
  return template.indexOf("%", closed < 0 ? start : closed);
}

/** Operators that name a field of a head, and the shorter names that they had first. */
const heads: Readonly<Record<string, "REQ" | "RESP" | "TRAILER">> = {
  REQ: "REQ",
  REQUEST_HEADER: "REQ",
  REQ_WITHOUT_QUERY: "REQ",
  RESP: "RESP",
  RESPONSE_HEADER: "RESP",
  TRAILER: "TRAILER",
  RESPONSE_TRAILER: "TRAILER",
};

const originalPath = "x-envoy-original-path";

/** The fields that `PATH` looks at by its second argument. */
const pathNames: Readonly<Record<string, readonly string[]>> = {
  ORIG: [originalPath],
  PATH: [":path"],
  ORIG_OR_PATH: [originalPath, ":path"],
};

const withArguments = [
  ...["REQ(NAME)", "RESP(NAME)", "TRAILER(NAME)", "REQ_WITHOUT_QUERY(NAME)", "PATH(WQ:ORIG_OR_PATH)"],
  ...["QUERY_PARAM(NAME)", "START_TIME", "START_TIME_LOCAL", "EMIT_TIME", "EMIT_TIME_LOCAL", "STREAM_ID"],
];

function operatorOf(text: string): TemplatePiece {
  const plain = accessLogOperators.find((one) => one === text);
  if (plain) return { operator: plain };
  const parts = /^([A-Z0-9_]+)(?:\(([^()]*)\))?(?::(\d+))?$/.exec(text);
  const [, name = "", argument, length] = (parts ?? []) as (string | undefined)[];
  const most = length === undefined ? {} : { most: Number(length) };
  const header = heads[name];
  if (header) {
    const names = /^([^?]+)(?:\?([^?]+))?$/.exec(argument ?? "");
    if (!names) throw new Error(`%${text}% needs the name of a field, or two with a ? between them: %${name}(NAME)%`);
    const [, first, other] = names as unknown as [string, string, string?];
    const lower = (other === undefined ? [first] : [first, other]).map((one) => one.toLowerCase());
    return { header, names: lower, ...(name === "REQ_WITHOUT_QUERY" ? { withoutQuery: true as const } : {}), ...most };
  }
  if (name === "PATH") {
    const [query, from = "ORIG_OR_PATH", ...more] = (argument || "WQ").split(":");
    const names = pathNames[from];
    if ((query !== "WQ" && query !== "NQ") || !names || more.length > 0)
      throw new Error(`%${text}% takes WQ or NQ, and behind a colon ORIG, PATH or ORIG_OR_PATH`);
    return { header: "REQ", names, ...(query === "NQ" ? { withoutQuery: true as const } : {}), ...most };
  }
  if (name === "QUERY_PARAM") {
    if (!argument) throw new Error(`%${text}% needs the name of a query parameter: %QUERY_PARAM(NAME)%`);
    return { parameter: argument, ...most };
  }
  const time = /^(START|EMIT)_TIME(_LOCAL)?$/.exec(name);
  if (time && length === undefined) return timeOf(text, time[1] === "START" ? "start" : "emit", time[2], argument);
  // What Envoy takes for the id of a request is the value of its field.
  if (text === "STREAM_ID") return { header: "REQ", names: ["x-request-id"] };
  throw new Error(`%${text}% is no operator of access logs${remedyFor(text, name)}`);
}

function timeOf(text: string, time: "start" | "emit", local: string | undefined, argument = ""): TemplatePiece {
  if (argument === "" && local === undefined) return { time, format: undefined };
  try {
    return { time, format: timeFormat(argument || "%Y-%m-%dT%H:%M:%E3S%z", local !== undefined) };
  } catch (error) {
    throw new Error(`%${text}%: ${(error as Error).message}`);
  }
}

/** Operators of Envoy's that have no meaning here, and what may stand instead. */
const remedies: readonly (readonly [RegExp, string])[] = [
  [
    /METADATA$|FILTER_STATE$|^VIRTUAL_CLUSTER_NAME$|^FILTER_CHAIN_NAME$|^CUSTOM_FLAGS$/,
    "there is none of this here; ROUTE_NAME, UPSTREAM_CLUSTER and REQUESTED_SERVER_NAME say what was chosen",
  ],
  [/^ENVIRONMENT$/, "the proxy's environment is not written to logs; write the value itself into the template"],
  [/^LOCAL_REPLY_BODY$/, "bodies are not logged; RESPONSE_CODE_DETAILS says why the proxy answered itself"],
  [
    /_BYTES|^BYTES_RETRANSMITTED$|^PACKETS_RETRANSMITTED$/,
    "only bodies are counted; use BYTES_RECEIVED and BYTES_SENT",
  ],
  [/_DURATION$/, "use DURATION, REQUEST_DURATION, RESPONSE_DURATION or RESPONSE_TX_DURATION"],
  [/CONNECTION_ID|^UNIQUE_ID$/, "use STREAM_ID, or DOWNSTREAM_DIRECT_REMOTE_ADDRESS for a connection"],
  [/_ATTEMPTED/, "use UPSTREAM_HOST, the last one, and UPSTREAM_REQUEST_ATTEMPT_COUNT"],
  [/CLOSE|FAILURE_REASON$/, "use RESPONSE_FLAGS and RESPONSE_CODE_DETAILS"],
  [
    /^DOWNSTREAM_(PEER|TLS|LOCAL)_|^TLS_JA/,
    "of TLS there are DOWNSTREAM_TLS_VERSION, DOWNSTREAM_PEER_SUBJECT, DOWNSTREAM_PEER_URI_SAN, DOWNSTREAM_PEER_ISSUER, " +
      "DOWNSTREAM_PEER_SERIAL and DOWNSTREAM_PEER_FINGERPRINT_256",
  ],
  [/^UPSTREAM_(PEER|TLS|LOCAL)_/, "of TLS to backends nothing is logged; UPSTREAM_CLUSTER names whose policy it was"],
  [/^QUERY_PARAMS$/, "use QUERY_PARAM(NAME), or REQ(:PATH), which has the query"],
];

function remedyFor(text: string, name: string): string {
  if (accessLogOperators.some((one) => one === name) || heads[name] || /_TIME(_LOCAL)?$/.test(name))
    return `: ${name} has no ${/\)?:\d+$/.test(text) ? "length" : "argument like this"}`;
  const remedy = remedies.find(([pattern]) => pattern.test(name));
  return remedy ? `: ${remedy[1]}` : `; there are ${[...accessLogOperators, ...withArguments].join(", ")}`;
}
