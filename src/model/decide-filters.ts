// What filters do to a request, as far as it can be told beforehand: whom they refuse, what they answer, what they leave to
// chance, to a clock or to somebody else (a step of the trail says so), and what is sent on.

import { addressProblem } from "./address-list.ts";
import { lowerAscii } from "./ascii.ts";
import { isPreflight, originAllowed } from "./cors.ts";
import type { SentRequest, TrailStep } from "./decision.ts";
import { isTakenFor } from "./field-name.ts";
import { inOrder } from "./filter-order.ts";
import type { Filter, JwtAuth } from "./filters.ts";
import { changeHeaders } from "./header-change.ts";
import { matchProblem, type RequestParts } from "./match.ts";
import type { PathMatch, ValueMatch } from "./model.ts";
import { joinTarget, rewritePath } from "./path.ts";
import { changeQuery } from "./query.ts";
import { cookieHeader, cookieValue, headerValue, queryValue } from "./value-match.ts";

export interface FilterAnswer {
  readonly status: number;
  readonly reason: string;
}

/** The answer that filters give instead of going on; undefined when they let the request pass. */
export function answerOfFilters(
  filters: readonly Filter[],
  request: RequestParts,
  trail: TrailStep[],
): FilterAnswer | undefined {
  for (const filter of inOrder(filters)) {
    const effect = effectOf(filter, request);
    if (effect === undefined) continue;
    const answered = typeof effect !== "string";
    const reason = answered ? `answers ${effect.status}: ${effect.reason}` : effect;
    trail.push({
      what: "filter",
      taken: true,
      from: filter.from,
      name: filter.kind,
      reason: `${filter.kind} ${reason}`,
    });
    if (answered) return effect;
  }
  return undefined;
}

/** An answer, or in words what cannot be known beforehand; undefined when the filter leaves this request alone or only changes it. */
function effectOf(filter: Filter, request: RequestParts): FilterAnswer | string | undefined {
  const header = (name: string) => headerValue(request.headers, name);
  switch (filter.kind) {
    case "addresses": {
      if (request.source === undefined) return "depends on the client's address, which is not known here";
      const problem = addressProblem(filter, request.source);
      return problem === undefined ? undefined : { status: filter.status ?? 403, reason: problem };
    }
    case "cors": {
      const origin = header("origin");
      if (origin === undefined || !isPreflight(request.method, origin, header("access-control-request-method")))
        return undefined;
      const allowed = originAllowed(filter, origin);
      if (!allowed && filter.otherPreflights === "forward") return undefined;
      return { status: 204, reason: `a CORS preflight of ${origin}, which is ${allowed ? "" : "not "}allowed` };
    }
    case "localRateLimit":
      return fits(filter.when, request) ? `may answer ${filter.status} when there are too many` : undefined;
    case "globalRateLimit":
      return `asks ${filter.service}, which may have it answered with ${filter.status}`;
    case "bodyLimit":
      return tooLong(header("content-length"), filter.bytes);
    case "buffering":
      return filter.request === undefined ? undefined : tooLong(header("content-length"), filter.request);
    case "basicAuth": {
      if (/^basic +\S/i.test(header("authorization") ?? "")) return "passes if the credentials are right";
      return { status: 401, reason: "there are no credentials" };
    }
    case "jwt": {
      if (hasToken(filter, request)) return "passes if the token is good";
      return filter.optional ? undefined : { status: 401, reason: "there is no token" };
    }
    case "externalAuth":
      return `passes if ${filter.service} says so`;
    case "fault":
      return faultOn(filter, request);
    default:
      return undefined;
  }
}

function fits(when: readonly ValueMatch[] | undefined, request: RequestParts): boolean {
  return matchProblem({ headers: when ?? [] }, request) === undefined;
}

function tooLong(length: string | undefined, most: number): FilterAnswer | undefined {
  if (length === undefined || !(Number(length) > most)) return undefined;
  return { status: 413, reason: `a body of ${length} bytes; at most ${most} are taken` };
}

function faultOn(fault: Extract<Filter, { kind: "fault" }>, request: RequestParts): FilterAnswer | string | undefined {
  if (!fits(fault.when, request)) return undefined;
  const { delay, abort } = fault;
  const what = abort && ("status" in abort ? `${abort.status}` : `gRPC status ${abort.grpcStatus}`);
  if (abort?.perMillion === 1_000_000) {
    return { status: "status" in abort ? abort.status : 200, reason: `a fault on purpose: ${what}` };
  }
  const words = [
    ...(delay && delay.perMillion > 0 ? [`waits ${delay.time} ms in ${share(delay.perMillion)} of requests`] : []),
    ...(abort && abort.perMillion > 0 ? [`answers ${what} in ${share(abort.perMillion)} of requests`] : []),
  ];
  return words.length > 0 ? words.join(", ") : undefined;
}

/** Parts of a million in per cent. */
export function share(perMillion: number): string {
  return `${perMillion / 10_000} %`;
}

function hasToken({ providers }: JwtAuth, request: RequestParts): boolean {
  return providers.some(({ places }) => {
    if (places.length === 0) {
      const bearer = /^bearer /i.test(headerValue(request.headers, "authorization") ?? "");
      return bearer || queryValue(request.query, "access_token") !== undefined;
    }
    return places.some((place) => {
      if (place.kind === "header") {
        const value = headerValue(request.headers, place.name);
        return value !== undefined && lowerAscii(value).startsWith(lowerAscii(place.prefix));
      }
      if (place.kind === "query") return queryValue(request.query, place.name) !== undefined;
      return cookieValue(cookieHeader(request.headers), place.name) !== undefined;
    });
  });
}

/**
 * The request after filters that let it pass, in their order: first those of the rule, then those of the share. A rewritten host
 * replaces the authority, and so the Host header. What only an authorization service or a token can tell is not in it. The target
 * of a CONNECT, which has no path, stays as it is.
 */
export function sentRequest(
  request: RequestParts,
  filters: readonly (readonly Filter[])[],
  match: PathMatch | undefined,
): SentRequest {
  let { path, query, authority } = request;
  let headers = request.headers.filter(([name]) => lowerAscii(name) !== "host");
  /** But for those that a backend may take for one of these. */
  const without = (...names: string[]) => headers.filter(([name]) => !names.some((one) => isTakenFor(name, one)));
  for (const filter of filters.flatMap(inOrder)) {
    switch (filter.kind) {
      case "requestHeaders":
        headers = [...changeHeaders(headers, filter.change)];
        break;
      case "rewrite":
        if (path === "") break;
        authority = filter.host ?? authority;
        if (filter.path) path = rewritePath(filter.path, request.path, match);
        break;
      case "query":
        if (path !== "") query = changeQuery(query, filter.change);
        break;
      case "basicAuth":
        headers = without(
          ...(filter.keepsAuthorization ? [] : ["authorization"]),
          ...(filter.userHeader === undefined ? [] : [filter.userHeader]),
        );
        break;
      case "jwt":
        for (const { payloadHeader, claimHeaders, places } of filter.providers) {
          headers = without(...(payloadHeader ? [payloadHeader] : []), ...claimHeaders.map(({ header }) => header));
          for (const place of places) {
            if (place.kind !== "header") continue;
            const others = without(place.name);
            headers = headers.filter((field) => lowerAscii(field[0]) === place.name || others.includes(field));
          }
        }
        break;
      case "externalAuth":
        headers = without(...filter.toBackend);
        break;
      default:
        break;
    }
  }
  return { authority, target: path === "" ? authority : joinTarget(path, query), headers };
}
