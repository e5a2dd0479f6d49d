// Other bodies for answers of certain statuses, the backend's and the proxy's own: fixed ones, or asked from a backend as
// ingress-nginx asks its default backend (ingress-nginx, custom errors). What says nothing of the body stays in the answer.

import { STATUS_CODES } from "node:http";

import type { HeaderValue } from "../../model/model.ts";
import { type CallAnswer, call } from "../call.ts";
import type { ResponseHead } from "../exchange.ts";
import type { Filter, FilterExchange, Replacement } from "../filter.ts";
import { isGrpc } from "../local-answer.ts";
import type { Reason } from "../reason.ts";
import { requestWay } from "./way.ts";

const timeout = 5_000;
const maxBytes = 1024 * 1024;
/** Fields of an error service's answer that come along. */
const described = ["content-type", "content-language", "cache-control"];

export const errorPages: Filter<"errorPages"> = {
  kind: "errorPages",
  compile: ({ pages }, runtime) => ({
    response(head, exchange) {
      const page = pages.find(({ statuses }) =>
        statuses.some(({ first, last }) => head.status >= first && head.status <= last),
      );
      if (!page || isGrpc(exchange.head.headers)) return undefined;
      const { answer } = page;
      if ("respond" in answer) {
        const { status, headers = [], body = "" } = answer.respond;
        const typed = headers.some(({ name }) => name === "content-type") ? headers : [plain, ...headers];
        return { status, headers: typed, body: Buffer.from(body, "utf8") };
      }
      const asked = {
        backend: answer.backend,
        method: "GET",
        scheme: exchange.head.scheme,
        authority: exchange.authority,
        path: answer.path,
        headers: questionFields(head, exchange, answer.headers),
        timeout,
        maxBytes,
      };
      const status = head.status;
      const underWay = call(runtime, asked, (end) => exchange.replace(pageOf(end, status, answer.keepStatus)));
      return exchange.wait(() => underWay.cancel());
    },
  }),
};

const plain = { name: "content-type", value: "text/plain; charset=utf-8" };

function questionFields(head: ResponseHead, exchange: FilterExchange, more: readonly HeaderValue[] = []) {
  const { headers } = exchange.head;
  const query = exchange.query === undefined ? "" : `?${exchange.query}`;
  return [
    { name: "x-code", value: String(head.status) },
    { name: "x-format", value: headers.get("accept") ?? "" },
    { name: "x-original-uri", value: `${exchange.path}${query}` },
    { name: "x-request-id", value: headers.get("x-request-id") ?? "" },
    { name: "accept", value: headers.get("accept") ?? "*/*" },
    ...requestWay(exchange.head),
    ...more,
  ];
}

/** The error service's answer; when it fails, the status in words. */
function pageOf(end: CallAnswer | Reason, status: number, keepStatus: boolean): Replacement {
  if (typeof end === "string") {
    return { status, headers: [plain], body: Buffer.from(`${STATUS_CODES[status] ?? status}\n`) };
  }
  const headers = end.headers.filter(([name]) => described.includes(name)).map(([name, value]) => ({ name, value }));
  return { status: keepStatus || end.status < 200 ? status : end.status, headers, body: end.body };
}
