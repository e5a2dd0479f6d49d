// External authorization by Envoy's gRPC protocol, envoy.service.auth.v3.Authorization/Check: the request is told as attributes, and
// a status OK lets it pass with the headers that come along.

import type { ExternalAuthorization } from "../../model/filters.ts";
import type { HeaderValue } from "../../model/model.ts";
import type { AuthVerdict, Questions } from "./external-auth.ts";
import { untouchable } from "./fields.ts";
import { type CheckResponse, grpcMessage, grpcRequest, messages, wireHeader } from "./grpc-messages.ts";
import { requestWay } from "./way.ts";

type Grpc = Extract<ExternalAuthorization["protocol"], { kind: "grpc" }>;
type Options = NonNullable<CheckResponse["okResponse"]>["headers"];

export function grpcQuestions(config: ExternalAuthorization, { authority }: Grpc): Questions {
  const to = {
    backend: config.service,
    authority,
    path: "/envoy.service.auth.v3.Authorization/Check",
    timeout: config.timeout,
  };
  const sends = new Set(config.sends);
  return {
    ask(head, exchange, body, partial) {
      const query = exchange.query === undefined ? "" : `?${exchange.query}`;
      const headers: Record<string, string> = Object.create(null);
      for (const [name, value] of head.headers.entries()) {
        if (untouchable.has(name) || !(name === "authorization" || sends.has("*") || sends.has(name))) continue;
        const text = Buffer.from(value, "latin1").toString("utf8");
        headers[name] = headers[name] === undefined ? text : `${headers[name]},${text}`;
      }
      for (const { name, value } of config.adds) headers[name] = value;
      headers[":authority"] = exchange.authority;
      headers[":method"] = head.method;
      headers[":path"] = `${exchange.path}${query}`;
      headers[":scheme"] = head.scheme;
      if (body.length > 0) headers["x-envoy-auth-partial-body"] = String(partial);
      const bytes = Buffer.concat(body);
      const http = {
        id: head.headers.get("x-request-id") ?? "",
        method: head.method,
        headers,
        path: `${exchange.path}${query}`,
        host: exchange.authority,
        scheme: head.scheme,
        size: head.length,
        protocol: exchange.protocol,
        // As text for services that look where Envoy puts it by default, as it is for those that want its bytes (`pack_as_bytes`).
        ...(bytes.length > 0 ? { body: bytes.toString("utf8"), rawBody: bytes } : {}),
      };
      const source = { address: { socketAddress: { address: head.source } } };
      return grpcRequest(to, messages.checkRequest, { attributes: { source, request: { http } } }, requestWay(head));
    },
    read(answer): AuthVerdict {
      const message = grpcMessage<CheckResponse>(answer, messages.checkResponse);
      if (!message) return { kind: "failing" };
      if ((message.status?.code ?? 0) === 0 && !message.deniedResponse) {
        const { headers = [], headersToRemove = [], responseHeadersToAdd = [] } = message.okResponse ?? {};
        return {
          kind: "yes",
          set: fields(headers.filter(({ append }) => !append?.value)),
          add: fields(headers.filter(({ append }) => append?.value)),
          remove: headersToRemove.map((name) => name.toLowerCase()).filter((name) => !untouchable.has(name)),
          toClient: fields(responseHeadersToAdd),
        };
      }
      const { status, headers = [], body = "" } = message.deniedResponse ?? {};
      const code = status?.code ?? 0;
      return {
        kind: "no",
        status: code >= 200 && code <= 599 ? code : 403,
        headers: fields(headers),
        body: Buffer.from(body, "utf8"),
      };
    },
  };
}

function fields(options: Options): HeaderValue[] {
  return options.flatMap(({ header }) => {
    const field = wireHeader(header);
    return field && !untouchable.has(field.name) ? [field] : [];
  });
}
