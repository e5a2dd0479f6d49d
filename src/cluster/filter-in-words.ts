// A filter in one line, for people: what it does, with its numbers. Secrets and long lists are named, not shown.

import { share } from "../model/decide-filters.ts";
import type { Fault, Filter, JwtProvider, RequestKey } from "../model/filters.ts";
import type { HeaderChange } from "../model/model.ts";

export function filterInWords(filter: Filter): string {
  switch (filter.kind) {
    case "requestHeaders":
    case "responseHeaders":
    case "query":
      return changeInWords(filter.change, filter.kind === "query" ? "=" : ": ");
    case "rewrite": {
      const { host, path } = filter;
      const kinds = {
        full: "path",
        prefix: "path prefix",
        regex: `path /${path?.kind === "regex" ? path.pattern : ""}/`,
      };
      return listed(host && `host → ${host}`, path && `${kinds[path.kind]} → ${path.value}`);
    }
    case "cookies":
      return listed(
        filter.domain && `Domain ${filter.domain.from ?? "any"} → ${filter.domain.to || "none"}`,
        filter.path && `Path ${filter.path.from ?? "any"} → ${filter.path.to || "none"}`,
        filter.secure !== undefined && (filter.secure ? "Secure" : "not Secure"),
        filter.httpOnly !== undefined && (filter.httpOnly ? "HttpOnly" : "not HttpOnly"),
        filter.sameSite && `SameSite=${filter.sameSite}`,
      );
    case "addresses":
      return listed(filter.deny && `not from ${few(filter.deny)}`, filter.allow && `only from ${few(filter.allow)}`);
    case "basicAuth":
      return `users of ${filter.users}, realm "${filter.realm}"`;
    case "jwt":
      return `${filter.optional ? "a token, if there is one, " : "a token "}of ${filter.providers.map(providerInWords).join(" or ")}`;
    case "externalAuth":
      return `asks ${filter.service} over ${filter.protocol.kind === "http" ? "HTTP" : "gRPC"}, up to ${filter.timeout} ms; ${failing(filter.whenFailing)}`;
    case "localRateLimit":
      return `${filter.requests} requests in ${filter.per} ms, ${filter.burst} at once, ${keysInWords(filter.key)}; else ${filter.status}`;
    case "globalRateLimit":
      return `asks ${filter.service} about ${filter.domain}; else ${filter.status}; ${failing(filter.whenFailing)}`;
    case "cors":
      return `origins ${few(filter.allowOrigins.map((match) => ("value" in match ? match.value : "*")))}${filter.allowCredentials ? ", with credentials" : ""}`;
    case "fault":
      return faultInWords(filter);
    case "grpcWeb":
      return "gRPC-Web becomes gRPC";
    case "mirror":
      return `${share(filter.perMillion)} copied to ${filter.backend}`;
    case "bodyLimit":
      return `bodies of at most ${filter.bytes} bytes`;
    case "buffering":
      return listed(
        filter.request !== undefined && `requests whole, up to ${filter.request} bytes`,
        filter.response !== undefined && `answers whole, up to ${filter.response} bytes`,
      );
    case "compression":
      return `${filter.codings.join(", ")} for ${few(filter.types)} from ${filter.minBytes} bytes`;
    case "errorPages":
      return filter.pages
        .map(({ statuses, answer }) => {
          const which = statuses
            .map(({ first, last }) => (first === last ? `${first}` : `${first}-${last}`))
            .join(", ");
          return `${which} → ${"respond" in answer ? `${answer.respond.status}` : answer.backend}`;
        })
        .join("; ");
  }
}

function listed(...parts: readonly (string | false | undefined)[]): string {
  return parts.filter(Boolean).join(", ");
}

function few(values: readonly string[]): string {
  return values.length <= 3
    ? values.join(", ") || "nobody"
    : `${values.slice(0, 3).join(", ")} and ${values.length - 3} more`;
}

function changeInWords({ set, add, remove }: HeaderChange, between: string): string {
  return listed(
    ...set.map(({ name, value }) => `set ${name}${between}${value}`),
    ...add.map(({ name, value }) => `add ${name}${between}${value}`),
    ...remove.map((name) => `remove ${name}`),
  );
}

function providerInWords({ issuer, audiences }: JwtProvider): string {
  return audiences.length > 0 ? `${issuer} for ${few(audiences)}` : issuer;
}

function failing(whenFailing: "pass" | { readonly status: number }): string {
  return whenFailing === "pass" ? "passes while it fails" : `${whenFailing.status} while it fails`;
}

function keysInWords(keys: readonly RequestKey[]): string {
  if (keys.length === 0) return "all together";
  return `by ${keys.map((key) => ("name" in key ? `${key.kind} ${key.name}` : "value" in key ? key.value : key.kind)).join(" and ")}`;
}

function faultInWords({ delay, abort }: Fault): string {
  return listed(
    delay && `${share(delay.perMillion)} wait ${delay.time} ms`,
    abort && `${share(abort.perMillion)} get ${"status" in abort ? abort.status : `gRPC status ${abort.grpcStatus}`}`,
  );
}
