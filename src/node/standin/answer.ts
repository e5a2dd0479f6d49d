// What a stand-in answers: JSON about the request and about itself. `path`, `host`, `method`, `proto`, `headers`,
// `namespace` and `pod` are named as Gateway API's echo-basic names them; the rest is what one wants to see beside that.

import type { Directives } from "./directives.ts";
import type { StandInPod } from "./protocol.ts";
import type { StandInRequest } from "./request.ts";

/** The part of the answers that is the same for all requests of one port, as JSON members without the braces. */
export function identityOf(pod: StandInPod, container: string, port: number): string {
  const identity = {
    namespace: pod.namespace,
    pod: pod.name,
    container,
    port,
    node: pod.node,
    ip: pod.addresses[0],
    ips: pod.addresses,
    serviceAccount: pod.serviceAccount,
    version: versionOf(pod),
    labels: pod.labels,
  };
  return JSON.stringify(identity).slice(1, -1);
}

function versionOf(pod: StandInPod): string {
  return pod.labels["version"] ?? pod.labels["app.kubernetes.io/version"] ?? "";
}

export interface Peer {
  readonly client: string;
  readonly clientPort: number;
  readonly local: string;
  readonly localPort: number;
}

/** The JSON text of an answer. */
export function describeRequest(request: StandInRequest, peer: Peer, identity: string): string {
  const { method, target, headers } = request;
  const mark = target.indexOf("?");
  const byName: Record<string, string[]> = {};
  let host = request.authority ?? "";
  for (const [name, value] of headers) {
    const lower = name.toLowerCase();
    const values = Object.hasOwn(byName, lower) ? byName[lower] : undefined;
    if (values) values.push(value);
    else byName[lower] = [value];
    if (lower === "host") host ||= value;
  }
  const about = JSON.stringify({
    method,
    path: target,
    query: mark < 0 ? {} : queryOf(target.slice(mark + 1)),
    host,
    proto: `HTTP/${request.version}`,
    headers: byName,
    headerList: headers,
    ...(request.bodyLength > 0 ? { body: describeBody(request) } : {}),
    client: peer.client,
    clientPort: peer.clientPort,
    local: peer.local,
    localPort: peer.localPort,
  });
  return `{${identity},${about.slice(1)}\n`;
}

function describeBody({ body, bodyLength }: StandInRequest): Record<string, unknown> {
  const text = body.toString("utf8");
  const isText = Buffer.byteLength(text) === body.length && !/[\0\ufffd]/.test(text);
  return {
    length: bodyLength,
    ...(isText ? { text } : { base64: body.toString("base64") }),
    ...(bodyLength > body.length ? { truncated: true } : {}),
  };
}

function queryOf(query: string): Record<string, string[]> {
  const parameters: Record<string, string[]> = {};
  for (const [name, value] of new URLSearchParams(query)) {
    const values = Object.hasOwn(parameters, name) ? parameters[name] : undefined;
    if (values) values.push(value);
    else parameters[name] = [value];
  }
  return parameters;
}

/** The head of an answer. `length` undefined: chunked. */
export function responseHead(
  status: number,
  type: string,
  length: number | undefined,
  keepAlive: boolean,
  directives: Directives,
): string {
  let head = `HTTP/1.1 ${status} ${reasons[status] ?? "Status"}\r\n`;
  const own = directives.headers;
  if (!own?.some(([name]) => name.toLowerCase() === "content-type")) head += `Content-Type: ${type}\r\n`;
  if (own) for (const [name, value] of own) head += `${name}: ${value}\r\n`;
  if (hasNoBody(status)) {
    // RFC 9110, 8.6: no Content-Length with 204; 304 may leave it out.
  } else if (length === undefined) head += "Transfer-Encoding: chunked\r\n";
  else head += `Content-Length: ${length}\r\n`;
  return `${head}${keepAlive ? "" : "Connection: close\r\n"}\r\n`;
}

/** RFC 9110, 15.3.5 and 15.4.5. */
export function hasNoBody(status: number): boolean {
  return status === 204 || status === 304;
}

const reasons: Readonly<Record<number, string>> = {
  200: "OK",
  201: "Created",
  202: "Accepted",
  204: "No Content",
  206: "Partial Content",
  301: "Moved Permanently",
  302: "Found",
  303: "See Other",
  304: "Not Modified",
  307: "Temporary Redirect",
  308: "Permanent Redirect",
  400: "Bad Request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not Found",
  405: "Method Not Allowed",
  408: "Request Timeout",
  409: "Conflict",
  410: "Gone",
  413: "Content Too Large",
  418: "I'm a teapot",
  421: "Misdirected Request",
  422: "Unprocessable Content",
  425: "Too Early",
  429: "Too Many Requests",
  431: "Request Header Fields Too Large",
  500: "Internal Server Error",
  501: "Not Implemented",
  502: "Bad Gateway",
  503: "Service Unavailable",
  504: "Gateway Timeout",
  505: "HTTP Version Not Supported",
};
