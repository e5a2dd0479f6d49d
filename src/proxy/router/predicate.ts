// One condition of a match as a function of the request's head, made once when a route table is compiled. What each means is
// the model's (`model/match.ts`, `model/value-match.ts`); here it is only made quick. Conditions on paths that the path index
// answers are not among them.

import { lowerAscii } from "../../model/ascii.ts";
import type { Match, PathMatch, StringMatch } from "../../model/model.ts";
import { pathMatches } from "../../model/path.ts";
import { compileRegex } from "../../model/regex.ts";
import { cookieValue, queryValue } from "../../model/value-match.ts";
import { addressSet } from "../address-set.ts";
import type { RequestHead } from "../exchange.ts";
import { valuesOf } from "../filters/fields.ts";
import type { HeaderBlock } from "../headers.ts";

export type Predicate = (head: RequestHead) => boolean;

/** All conditions of a match but, with `withPath` false, its path. Cheap ones first; none is an empty list. */
export function compileMatch(match: Match, withPath: boolean): Predicate[] {
  const predicates: Predicate[] = [];
  const { method, path, scheme } = match;
  if (method !== undefined) predicates.push((head) => head.method === method);
  if (scheme !== undefined) predicates.push((head) => head.scheme === scheme);
  if (withPath && path) predicates.push(pathPredicate(path));
  for (const { name, match: wanted } of match.headers ?? []) {
    if (wanted.kind === "exact" && !wanted.ignoreCase && name !== "host") {
      const { value } = wanted;
      predicates.push(({ headers }) => headers.is(name, value));
      continue;
    }
    const test = stringTest(wanted);
    predicates.push(name === "host" ? (head) => test(head.authority) : (head) => test(head.headers.get(name)));
  }
  if (match.source) predicates.push(sourcePredicate(match.source));
  for (const { name, match: wanted } of match.query ?? []) {
    const test = stringTest(wanted);
    predicates.push((head) => test(queryValue(head.query, name)));
  }
  for (const { name, match: wanted } of match.cookies ?? []) {
    const test = stringTest(wanted);
    predicates.push((head) => test(cookieValue(cookies(head.headers), name)));
  }
  for (const excluded of match.not ?? []) {
    const all = compileMatch(excluded, true);
    predicates.push((head) => !all.every((predicate) => predicate(head)));
  }
  return predicates;
}

function pathPredicate(path: PathMatch): Predicate {
  if (path.kind !== "regex") return (head) => pathMatches(path, head.path);
  const regex = compileRegex(path.value, { ignoreCase: path.ignoreCase === true });
  return (head) => regex.ok && head.path !== "" && regex.matches(head.path);
}

export function stringTest(match: StringMatch): (value: string | undefined) => boolean {
  switch (match.kind) {
    case "present":
      return (value) => value !== undefined;
    case "regex": {
      const regex = compileRegex(match.value);
      return (value) => value !== undefined && regex.ok && regex.matches(value);
    }
    default: {
      const wanted = match.ignoreCase ? lowerAscii(match.value) : match.value;
      const fold = match.ignoreCase ? lowerAscii : (value: string) => value;
      if (match.kind === "exact") return (value) => value !== undefined && fold(value) === wanted;
      if (match.kind === "prefix") return (value) => value !== undefined && fold(value).startsWith(wanted);
      if (match.kind === "suffix") return (value) => value !== undefined && fold(value).endsWith(wanted);
      return (value) => value !== undefined && fold(value).includes(wanted);
    }
  }
}

function sourcePredicate(ranges: readonly string[]): Predicate {
  const inRanges = addressSet(ranges);
  return ({ source }) => inRanges(source);
}

/** Several Cookie fields are one, joined with `; ` (RFC 9113 §8.2.3). */
export function cookies(headers: HeaderBlock): string | undefined {
  const fields = valuesOf(headers, "cookie");
  return fields.length === 0 ? undefined : fields.join("; ");
}
