// A limit that a service counts for all proxies: envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit is asked for each
// request with the descriptors that it has all parts of.

import type { HeaderValue } from "../../model/model.ts";
import { call } from "../call.ts";
import type { RequestHead } from "../exchange.ts";
import type { Filter, FilterExchange } from "../filter.ts";
import { disown, untouchable } from "./fields.ts";
import { grpcMessage, grpcRequest, messages, type RateLimitResponse, wireHeader } from "./grpc-messages.ts";
import { keyPart } from "./request-key.ts";
import { requestWay } from "./way.ts";

/** RateLimitResponse.Code. */
const overLimit = 2;

export const globalRateLimit: Filter<"globalRateLimit"> = {
  kind: "globalRateLimit",
  compile(config, runtime) {
    const { service: backend, authority, timeout, domain, whenFailing } = config;
    const path = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit";
    const descriptors = config.descriptors.map((entries) =>
      entries.map(({ key, value }) => ({ key, part: keyPart(value) })),
    );
    const told = (head: RequestHead, exchange: FilterExchange) =>
      descriptors.flatMap((parts) => {
        const entries = parts.map(({ key, part }) => ({ key, value: part(head, exchange) }));
        return entries.every(({ value }) => value !== undefined && value !== "") ? [{ entries }] : [];
      });
    return {
      request(head, exchange) {
        const known = told(head, exchange);
        if (known.length === 0) return undefined;
        const message = { domain, descriptors: known, hitsAddend: 1 };
        const to = { backend, authority, path, timeout };
        const request = grpcRequest(to, messages.rateLimitRequest, message, requestWay(head));
        const underWay = call(runtime, request, (end) => {
          const message =
            typeof end === "string" ? undefined : grpcMessage<RateLimitResponse>(end, messages.rateLimitResponse);
          if (!message) {
            if (whenFailing === "pass") exchange.goOn();
            else exchange.answer({ reason: "rate_limit_failed", status: whenFailing.status });
            return;
          }
          const toClient = fields(message.responseHeadersToAdd);
          if (message.overallCode === overLimit) {
            const body = message.rawBody.length > 0 ? { body: Buffer.from(message.rawBody) } : {};
            exchange.answer({ reason: "rate_limited", status: config.status, headers: toClient, ...body });
            return;
          }
          for (const { name, value } of fields(message.requestHeadersToAdd)) {
            disown(head.headers, name);
            head.headers.set(name, value);
          }
          if (toClient.length > 0) exchange.keep(config, toClient);
          exchange.goOn();
        });
        return exchange.wait(() => underWay.cancel());
      },
      response({ headers }, exchange) {
        for (const { name, value } of exchange.kept<readonly HeaderValue[]>(config) ?? []) headers.add(name, value);
        return undefined;
      },
    };
  },
};

function fields(headers: RateLimitResponse["responseHeadersToAdd"]): HeaderValue[] {
  return headers.flatMap((header) => {
    const field = wireHeader(header);
    return field && !untouchable.has(field.name) ? [field] : [];
  });
}
