// External authorization over plain HTTP, as Envoy asks (`ext_authz` with an HTTP service: the request's own path behind a prefix)
// and as NGINX asks (`auth_request`: one path, the request told in x-original-* and x-forwarded-*; ingress-nginx, Traefik).
// 2xx is a yes, 5xx a failure, everything else a no that the client gets.

import type { ExternalAuthorization } from "../../model/filters.ts";
import type { HeaderValue } from "../../model/model.ts";
import type { RequestHead } from "../exchange.ts";
import type { FilterExchange } from "../filter.ts";
import type { AuthVerdict, Questions } from "./external-auth.ts";
import { untouchable } from "./fields.ts";

type Http = Extract<ExternalAuthorization["protocol"], { kind: "http" }>;

/** Longest answer of the service. */
const maxBytes = 256 * 1024;
/** Fields of the question that are ours; a client's own under these names would lie. */
const told = [
  "x-original-url",
  "x-original-uri",
  "x-original-method",
  "x-scheme",
  "x-real-ip",
  "x-auth-request-redirect",
  "x-forwarded-method",
  "x-forwarded-uri",
];

/** What the proxy itself says of every request, and questions in NGINX's way tell; those in Envoy's way tell the way only. */
const seenHere = ["x-forwarded-host", "x-forwarded-proto", "x-request-id"];

export function httpQuestions(config: ExternalAuthorization, http: Http): Questions {
  const sends = listed(config.sends);
  const toBackend = listed(config.toBackend);
  const toClient = listed(config.toClient);
  const always = new Set(["authorization", "x-forwarded-for", ...(http.prefix ? [] : seenHere)]);
  const own = new Set(config.adds.map(({ name }) => name));
  return {
    ask(head, exchange, body, partial) {
      const target = `${exchange.path}${exchange.query === undefined ? "" : `?${exchange.query}`}`;
      const headers: HeaderValue[] = [];
      for (const [name, value] of head.headers.entries()) {
        if (untouchable.has(name) || own.has(name) || told.includes(name) || name === "expect") continue;
        if (sends(name) || always.has(name)) headers.push({ name, value });
      }
      if (!http.prefix) headers.push(...requestInFields(head, exchange, target));
      headers.push(...config.adds);
      if (body.length > 0) headers.push({ name: "x-envoy-auth-partial-body", value: String(partial) });
      return {
        backend: config.service,
        method: http.method ?? head.method,
        scheme: "http",
        authority: http.authority ?? exchange.authority,
        path: http.prefix ? `${http.path.replace(/\/$/, "")}${target}` : http.path,
        headers,
        body,
        timeout: config.timeout,
        maxBytes,
      };
    },
    read({ status, headers, body }): AuthVerdict {
      if (status >= 500 || status < 200) return { kind: "failing" };
      const fields = headers.map(([name, value]) => ({ name, value })).filter(({ name }) => !untouchable.has(name));
      if (status < 300) {
        const passed = fields.filter(({ name }) => toBackend(name) && !answerOnly.has(name));
        return {
          kind: "yes",
          set: passed,
          add: [],
          // What a client sent under a name that the service speaks for is not believed.
          remove: config.toBackend.filter((name) => name !== "*"),
          // Sessions are renewed by a yes, too.
          toClient: fields.filter(({ name }) => name === "set-cookie" && toClient(name)),
        };
      }
      const shown = fields.filter(({ name }) => alwaysShown.has(name) || toClient(name));
      return { kind: "no", status, headers: shown, body };
    },
  };
}

function requestInFields(head: RequestHead, exchange: FilterExchange, target: string): HeaderValue[] {
  return [
    { name: "x-original-url", value: originalUrl(head, exchange) },
    { name: "x-original-uri", value: target },
    { name: "x-original-method", value: head.method },
    { name: "x-scheme", value: head.scheme },
    { name: "x-real-ip", value: head.source },
    { name: "x-auth-request-redirect", value: target },
    { name: "x-forwarded-method", value: head.method },
    { name: "x-forwarded-uri", value: target },
  ];
}

/** Fields of a yes that speak of its own body. */
const answerOnly = new Set([
  "date",
  "server",
  "content-type",
  "content-encoding",
  "etag",
  "last-modified",
  "set-cookie",
]);
/** Without these a no cannot be understood. */
const alwaysShown = new Set(["content-type", "location", "www-authenticate"]);

function listed(names: readonly string[]): (name: string) => boolean {
  const set = new Set(names);
  return set.has("*") ? () => true : (name) => set.has(name);
}

/** The request's URL as the client wrote it. */
export function originalUrl(head: RequestHead, { authority, path, query }: FilterExchange): string {
  return `${head.scheme}://${authority}${path}${query === undefined ? "" : `?${query}`}`;
}
