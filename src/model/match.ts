// Whether a match takes a request, and if not, which condition failed, with what was found and what was wanted.

import { contains, parseCidr } from "../base/cidr.ts";
import type { Match, PathMatch, StringMatch, ValueMatch } from "./model.ts";
import { pathMatches } from "./path.ts";
import { cookieHeader, cookieValue, headerValue, queryValue, stringMatches } from "./value-match.ts";

/** A request as matches see it. */
export interface RequestParts {
  readonly method: string;
  readonly scheme: "http" | "https";
  /** What a match on the header `host` compares with. */
  readonly authority: string;
  readonly path: string;
  readonly query: string | undefined;
  readonly headers: readonly (readonly [string, string])[];
  readonly source: string | undefined;
}

/** The first condition that does not hold, in words (`path /users is not under /orders`); undefined when all hold. */
export function matchProblem(match: Match, request: RequestParts): string | undefined {
  if (match.path && !pathMatches(match.path, request.path)) {
    return request.path === "" ? "a CONNECT has no path" : pathProblem(match.path, request.path);
  }
  if (match.method !== undefined && match.method !== request.method) {
    return `method ${request.method} is not ${match.method}`;
  }
  if (match.scheme !== undefined && match.scheme !== request.scheme) {
    return `scheme ${request.scheme} is not ${match.scheme}`;
  }
  for (const wanted of match.headers ?? []) {
    const value = wanted.name === "host" ? request.authority : headerValue(request.headers, wanted.name);
    if (!stringMatches(wanted.match, value)) return valueProblem("header", wanted, value);
  }
  for (const wanted of match.query ?? []) {
    const value = queryValue(request.query, wanted.name);
    if (!stringMatches(wanted.match, value)) return valueProblem("query parameter", wanted, value);
  }
  for (const wanted of match.cookies ?? []) {
    const value = cookieValue(cookieHeader(request.headers), wanted.name);
    if (!stringMatches(wanted.match, value)) return valueProblem("cookie", wanted, value);
  }
  if (match.source && !match.source.some((range) => inRange(range, request.source))) {
    return `source ${request.source ?? "unknown"} is not in ${match.source.join(", ")}`;
  }
  for (const excluded of match.not ?? []) {
    if (matchProblem(excluded, request) === undefined) return `excluded: ${describeMatch(excluded)}`;
  }
  return undefined;
}

function inRange(range: string, address: string | undefined): boolean {
  const cidr = parseCidr(range);
  return cidr !== undefined && address !== undefined && contains(cidr, address);
}

function pathProblem(match: PathMatch, path: string): string {
  const asWritten = match.ignoreCase ? " (in any case)" : "";
  switch (match.kind) {
    case "exact":
      return `path ${path} is not ${match.value}${asWritten}`;
    case "segments":
      return `path ${path} is not under ${match.value}${asWritten}`;
    case "prefix":
      return `path ${path} does not begin with ${match.value}${asWritten}`;
    case "regex":
      return `path ${path} does not match ${match.value}${asWritten}`;
  }
}

function valueProblem(what: string, wanted: ValueMatch, value: string | undefined): string {
  const found = value === undefined ? "is absent" : `is ${JSON.stringify(value)}`;
  return `${what} ${wanted.name} ${found}, wanted ${describeStringMatch(wanted.match)}`;
}

function describeStringMatch(match: StringMatch): string {
  if (match.kind === "present") return "any value";
  if (match.kind === "regex") return `a match of ${match.value}`;
  const asWritten = match.ignoreCase ? " (in any case)" : "";
  const words = {
    exact: "",
    prefix: "one that begins with ",
    suffix: "one that ends with ",
    contains: "one that contains ",
  };
  return `${words[match.kind]}${JSON.stringify(match.value)}${asWritten}`;
}

/** A match in words: `path under /orders, header x-api-version "v2"`; `every request` when it is empty. */
export function describeMatch(match: Match): string {
  const words: string[] = [];
  if (match.path) {
    const kinds = { exact: "", segments: "under ", prefix: "beginning with ", regex: "matching " };
    words.push(`path ${kinds[match.path.kind]}${match.path.value}`);
  }
  if (match.method !== undefined) words.push(`method ${match.method}`);
  if (match.scheme !== undefined) words.push(`scheme ${match.scheme}`);
  const named = [
    ["header", match.headers] as const,
    ["query parameter", match.query] as const,
    ["cookie", match.cookies] as const,
  ];
  for (const [what, values] of named) {
    for (const value of values ?? []) words.push(`${what} ${value.name} ${describeStringMatch(value.match)}`);
  }
  if (match.source) words.push(`source in ${match.source.join(", ")}`);
  for (const excluded of match.not ?? []) words.push(`not (${describeMatch(excluded)})`);
  return words.length === 0 ? "every request" : words.join(", ");
}
