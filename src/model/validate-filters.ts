// What is well formed in a filter: every field of every kind, with messages that say what is allowed instead.

import type {
  Compression,
  Cors,
  ErrorPages,
  ExternalAuthorization,
  Fault,
  Filter,
  GlobalRateLimit,
  JwtAuth,
  LocalRateLimit,
  RequestKey,
} from "./filters.ts";
import { parseAuthority } from "./host-pattern.ts";
import { keySetProblem } from "./key-set.ts";
import type { HeaderChange, PathMatch, StringMatch } from "./model.ts";
import {
  checkHeader,
  checkHeaderName,
  checkHost,
  checkRange,
  checkRespond,
  checkRewrite,
  checkStringMatch,
  checkValueMatch,
  isNumberOf,
  type Problems,
  pathProblem,
  token,
} from "./problems.ts";
import type { Provenance } from "./provenance.ts";

const million = 1_000_000;
/** Longest wait that a filter may ask for: an hour, in milliseconds. */
const maxWait = 3_600_000;
/** Most bytes of a body that are kept in memory: 64 MiB. */
const maxKept = 64 * 1024 * 1024;

/** Checks of one filter's fields; `path` is the path condition of its rule. */
export function checkFilter(problems: Problems, field: string, filter: Filter, path: PathMatch | undefined): void {
  const at = new At(problems, field, filter.from);
  switch (filter.kind) {
    case "requestHeaders":
    case "responseHeaders":
      checkHeaderChange(at, filter.change);
      break;
    case "rewrite":
      if (filter.host !== undefined) checkHost(problems, `${field}.host`, filter.host, filter.from);
      if (filter.path) checkRewrite(problems, `${field}.path`, filter.path, path, filter.from);
      break;
    case "query":
      checkQueryChange(at, filter.change);
      break;
    case "cookies":
      if (filter.name) checkStringMatch(problems, `${field}.name`, filter.name, filter.from);
      for (const part of ["domain", "path"] as const) {
        const to = filter[part]?.to ?? "";
        if (/[;\s\0-\x1f\x7f]/.test(to))
          at.add(`${part}.to`, `"${to}" has a character that no cookie attribute can have`);
      }
      break;
    case "addresses":
      for (const part of ["allow", "deny"] as const) {
        filter[part]?.forEach((range, i) => {
          checkRange(problems, `${field}.${part}[${i}]`, range, filter.from);
        });
      }
      if (filter.status !== undefined) at.status("status", filter.status, 400);
      break;
    case "basicAuth":
      if (/[\0-\x1f\x7f-\uffff]/.test(filter.realm)) at.add("realm", "has a character outside printable ASCII");
      at.name("users", filter.users);
      if (filter.userHeader !== undefined) at.header("userHeader", filter.userHeader);
      break;
    case "jwt":
      checkJwt(at, filter);
      break;
    case "externalAuth":
      checkExternalAuth(at, filter);
      break;
    case "localRateLimit":
      checkLocalRateLimit(at, filter);
      break;
    case "globalRateLimit":
      checkGlobalRateLimit(at, filter);
      break;
    case "cors":
      checkCors(at, filter);
      break;
    case "fault":
      checkFault(at, filter);
      break;
    case "grpcWeb":
      break;
    case "mirror":
      at.name("backend", filter.backend);
      at.number("perMillion", filter.perMillion, 0, million);
      if (filter.hostSuffix !== undefined && !/^[a-z0-9.-]*$/.test(filter.hostSuffix)) {
        at.add("hostSuffix", `"${filter.hostSuffix}" can be no part of a host name (a-z, 0-9, "-" and ".")`);
      }
      if (filter.host !== undefined) {
        if (parseAuthority(filter.host) === undefined) at.add("host", `"${filter.host}" is no host`);
        if (filter.hostSuffix !== undefined) at.add("hostSuffix", "stands beside host, which is the whole name");
      }
      if (filter.path !== undefined) {
        const problem = pathProblem(filter.path);
        if (problem) at.add("path", problem);
      }
      break;
    case "bodyLimit":
      at.number("bytes", filter.bytes, 0, Number.MAX_SAFE_INTEGER);
      break;
    case "buffering":
      if (filter.request !== undefined) at.number("request", filter.request, 1, maxKept);
      if (filter.response !== undefined) at.number("response", filter.response, 1, maxKept);
      break;
    case "compression":
      checkCompression(at, filter);
      break;
    case "errorPages":
      checkErrorPages(at, filter);
      break;
    default:
      noSuchFilter(problems, field, filter);
  }
}

function noSuchFilter(problems: Problems, field: string, { kind, from }: { kind?: unknown; from?: Provenance }): void {
  problems.add(`${field}.kind`, `"${String(kind)}" is no kind of filter`, from);
}

/** A filter's place: fields are named from it. */
class At {
  readonly problems: Problems;
  readonly field: string;
  readonly from: Provenance;

  constructor(problems: Problems, field: string, from: Provenance) {
    this.problems = problems;
    this.field = field;
    this.from = from;
  }

  add(part: string, message: string): void {
    this.problems.add(`${this.field}.${part}`, message, this.from);
  }

  /** A whole number between two, both included. */
  number(part: string, value: number, least: number, most: number): void {
    if (!Number.isInteger(value) || value < least || value > most) {
      this.add(part, `${value} is no whole number of ${least} to ${most}`);
    }
  }

  milliseconds(part: string, value: number): void {
    if (!(isNumberOf(value, 0, maxWait) && value > 0))
      this.add(part, `${value} is no time of 1 to ${maxWait} milliseconds`);
  }

  status(part: string, value: number, least = 200): void {
    if (!Number.isInteger(value) || value < least || value > 599) {
      this.add(part, `${value} is no HTTP status of ${least} to 599`);
    }
  }

  header(part: string, name: string): void {
    checkHeaderName(this.problems, `${this.field}.${part}`, name, this.from);
  }

  name(part: string, name: string): void {
    if (name === "") this.add(part, "is empty");
  }

  authority(part: string, value: string): void {
    if (!/^[A-Za-z0-9._~:[\]-]+$/.test(value)) this.add(part, `"${value}" is no host with or without port`);
  }

  path(part: string, value: string, withQuery = false): void {
    const problem = pathProblem(withQuery ? value.replace("?", "") : value);
    if (problem) this.add(part, problem);
    // What goes into a request line must be ASCII.
    else if (/[^\x21-\x7e]/.test(value)) this.add(part, `"${value}" has characters that must be percent-encoded`);
  }

  headerList(part: string, names: readonly string[]): void {
    names.forEach((name, i) => {
      if (name !== "*") this.header(`${part}[${i}]`, name);
    });
  }

  failing(whenFailing: "pass" | { readonly status: number }): void {
    if (whenFailing !== "pass") this.status("whenFailing.status", whenFailing.status, 400);
  }
}

function checkHeaderChange(at: At, change: HeaderChange): void {
  for (const part of ["set", "add"] as const) {
    change[part].forEach((header, i) => {
      checkHeader(at.problems, `${at.field}.change.${part}[${i}]`, header, at.from);
    });
  }
  change.remove.forEach((name, i) => {
    at.header(`change.remove[${i}]`, name);
  });
}

function checkQueryChange(at: At, change: HeaderChange): void {
  for (const part of ["set", "add"] as const) {
    change[part].forEach(({ name, value }, i) => {
      at.name(`change.${part}[${i}].name`, name);
      // Half a surrogate pair cannot be encoded.
      if (!`${name}${value}`.isWellFormed()) at.add(`change.${part}[${i}]`, "is no well-formed text");
    });
  }
  change.remove.forEach((name, i) => {
    at.name(`change.remove[${i}]`, name);
  });
}

function checkJwt(at: At, { providers }: JwtAuth): void {
  if (providers.length === 0) at.add("providers", "lists no provider, so no token could be good");
  providers.forEach((provider, i) => {
    const part = `providers[${i}]`;
    at.name(`${part}.name`, provider.name);
    at.name(`${part}.issuer`, provider.issuer);
    const { keys } = provider;
    if ("inline" in keys) {
      const problem = keySetProblem(keys.inline);
      if (problem) at.add(`${part}.keys.inline`, problem);
    } else {
      at.name(`${part}.keys.backend`, keys.backend);
      at.authority(`${part}.keys.authority`, keys.authority);
      at.path(`${part}.keys.path`, keys.path, true);
      if (!isNumberOf(keys.keep, 1000, Number.POSITIVE_INFINITY))
        at.add(`${part}.keys.keep`, `${keys.keep} is below 1000 milliseconds`);
    }
    provider.places.forEach((place, p) => {
      const where = `${part}.places[${p}]`;
      if (place.kind === "header") at.header(`${where}.name`, place.name);
      else if (place.kind === "cookie" && !token.test(place.name))
        at.add(`${where}.name`, `"${place.name}" is no cookie name`);
      else at.name(`${where}.name`, place.name);
    });
    if (provider.payloadHeader !== undefined) at.header(`${part}.payloadHeader`, provider.payloadHeader);
    provider.claimHeaders.forEach(({ claim, header }, c) => {
      at.name(`${part}.claimHeaders[${c}].claim`, claim);
      at.header(`${part}.claimHeaders[${c}].header`, header);
    });
  });
}

function checkExternalAuth(at: At, filter: ExternalAuthorization): void {
  const { protocol } = filter;
  at.name("service", filter.service);
  if (protocol.authority !== undefined) at.authority("protocol.authority", protocol.authority);
  if (protocol.kind === "http") {
    at.path("protocol.path", protocol.path, !protocol.prefix);
    if (protocol.method !== undefined && !token.test(protocol.method)) {
      at.add("protocol.method", `"${protocol.method}" is no method`);
    }
  }
  at.headerList("sends", filter.sends);
  at.headerList("toBackend", filter.toBackend);
  at.headerList("toClient", filter.toClient);
  filter.adds.forEach((header, i) => {
    checkHeader(at.problems, `${at.field}.adds[${i}]`, header, at.from);
  });
  at.number("body.bytes", filter.body.bytes, 0, maxKept);
  at.milliseconds("timeout", filter.timeout);
  at.failing(filter.whenFailing);
  if (filter.signIn !== undefined && !/^https?:\/\/[\x21-\x7e]+$/.test(filter.signIn)) {
    at.add("signIn", `"${filter.signIn}" is no http or https URL`);
  }
}

function checkLocalRateLimit(at: At, filter: LocalRateLimit): void {
  at.name("bucket", filter.bucket);
  filter.key.forEach((key, i) => {
    checkKey(at, `key[${i}]`, key);
  });
  filter.when?.forEach((value, i) => {
    checkValueMatch(at.problems, `${at.field}.when[${i}]`, value, at.from);
  });
  at.number("requests", filter.requests, 1, 1_000_000_000);
  at.number("burst", filter.burst, 1, 1_000_000_000);
  // A day is the longest window that anybody counts in.
  if (!isNumberOf(filter.per, 1, 86_400_000)) at.add("per", `${filter.per} is no time of 1 to 86400000 milliseconds`);
  at.status("status", filter.status, 400);
}

function checkKey(at: At, part: string, key: RequestKey): void {
  if (key.kind === "header") at.header(`${part}.name`, key.name);
  else if (key.kind === "cookie" || key.kind === "query") at.name(`${part}.name`, key.name);
}

function checkGlobalRateLimit(at: At, filter: GlobalRateLimit): void {
  at.name("service", filter.service);
  at.authority("authority", filter.authority);
  at.name("domain", filter.domain);
  if (filter.descriptors.length === 0) at.add("descriptors", "lists nothing to count by");
  filter.descriptors.forEach((entries, d) => {
    if (entries.length === 0) at.add(`descriptors[${d}]`, "is empty");
    entries.forEach(({ key, value }, e) => {
      at.name(`descriptors[${d}][${e}].key`, key);
      checkKey(at, `descriptors[${d}][${e}].value`, value);
    });
  });
  at.milliseconds("timeout", filter.timeout);
  at.failing(filter.whenFailing);
  at.status("status", filter.status, 400);
}

function checkCors(at: At, filter: Cors): void {
  filter.allowOrigins.forEach((match: StringMatch, i) => {
    checkStringMatch(at.problems, `${at.field}.allowOrigins[${i}]`, match, at.from);
  });
  for (const part of ["allowMethods", "allowHeaders", "exposeHeaders"] as const) {
    filter[part].forEach((name, i) => {
      if (!token.test(name))
        at.add(`${part}[${i}]`, `"${name}" is no ${part === "allowMethods" ? "method" : "header name"}`);
    });
  }
  if (filter.maxAge !== undefined) at.number("maxAge", filter.maxAge, 0, 2 ** 31 - 1);
}

function checkFault(at: At, { when, delay, abort }: Fault): void {
  when?.forEach((value, i) => {
    checkValueMatch(at.problems, `${at.field}.when[${i}]`, value, at.from);
  });
  if (!delay && !abort) at.add("delay", "and abort are absent: the fault would do nothing");
  if (delay) {
    at.number("delay.perMillion", delay.perMillion, 0, million);
    at.milliseconds("delay.time", delay.time);
  }
  if (!abort) return;
  at.number("abort.perMillion", abort.perMillion, 0, million);
  if ("status" in abort) at.status("abort.status", abort.status);
  else at.number("abort.grpcStatus", abort.grpcStatus, 0, 16);
}

const levels = { gzip: 9, br: 11, zstd: 22 } as const;

function checkCompression(at: At, { codings, minBytes, types, level }: Compression): void {
  if (codings.length === 0) at.add("codings", "lists no coding (br, zstd, gzip)");
  codings.forEach((coding, i) => {
    if (!Object.hasOwn(levels, coding))
      at.add(`codings[${i}]`, `"${coding}" is no coding that can be made (br, zstd, gzip)`);
    else if (level !== undefined) at.number("level", level, 1, levels[coding]);
  });
  at.number("minBytes", minBytes, 0, Number.MAX_SAFE_INTEGER);
  types.forEach((type, i) => {
    const [main = "", sub = "", ...more] = type.split("/");
    const good =
      token.test(main) && (sub === "*" || token.test(sub)) && more.length === 0 && type === type.toLowerCase();
    if (!good) at.add(`types[${i}]`, `"${type}" is no media type in lower case without parameters (text/html, text/*)`);
  });
}

function checkErrorPages(at: At, { pages }: ErrorPages): void {
  pages.forEach(({ statuses, answer }, i) => {
    const part = `pages[${i}]`;
    if (statuses.length === 0) at.add(`${part}.statuses`, "lists no status");
    statuses.forEach(({ first, last }, s) => {
      at.status(`${part}.statuses[${s}].first`, first, 300);
      at.status(`${part}.statuses[${s}].last`, last, 300);
      if (last < first) at.add(`${part}.statuses[${s}].last`, `${last} is below first, ${first}`);
    });
    if ("respond" in answer) checkRespond(at.problems, `${at.field}.${part}.answer.respond`, answer.respond, at.from);
    else {
      at.name(`${part}.answer.backend`, answer.backend);
      at.path(`${part}.answer.path`, answer.path, true);
      answer.headers?.forEach((header, h) => {
        const field = `${part}.answer.headers[${h}]`;
        checkHeader(at.problems, `${at.field}.${field}`, header, at.from);
        if (ofQuestion.has(header.name)) at.add(`${field}.name`, `"${header.name}" is written by the proxy`);
      });
    }
  });
}

/** What questions for error pages have anyway, and what frames them. */
const ofQuestion = new Set(
  "x-code x-format x-original-uri x-request-id accept host content-length transfer-encoding connection".split(" "),
);
