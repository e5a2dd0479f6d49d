// Named values of a request (headers, query parameters, cookies) and the matches on them. Shared by `decide` and the proxy.

import { lowerAscii } from "./ascii.ts";
import type { StringMatch } from "./model.ts";
import { compileRegex } from "./regex.ts";

/** Whether a match takes a value; undefined is an absent one, which nothing takes. */
export function stringMatches(match: StringMatch, value: string | undefined): boolean {
  if (value === undefined) return false;
  switch (match.kind) {
    case "present":
      return true;
    case "regex": {
      const regex = compileRegex(match.value);
      return regex.ok && regex.matches(value);
    }
    default: {
      const wanted = match.ignoreCase ? lowerAscii(match.value) : match.value;
      const given = match.ignoreCase ? lowerAscii(value) : value;
      if (match.kind === "exact") return given === wanted;
      if (match.kind === "prefix") return given.startsWith(wanted);
      if (match.kind === "suffix") return given.endsWith(wanted);
      return given.includes(wanted);
    }
  }
}

/** A header's value: several fields of one name are joined with `,` in the order they came (RFC 9110 §5.3). */
export function headerValue(headers: readonly (readonly [string, string])[], name: string): string | undefined {
  let value: string | undefined;
  for (const [field, text] of headers) {
    if (lowerAscii(field) === name) value = value === undefined ? text : `${value},${text}`;
  }
  return value;
}

/**
 * A query parameter's value: the first of its name. Names and values are decoded as
 * application/x-www-form-urlencoded (`+` is a space, `%41` is `A`); names are compared with their case. A parameter without
 * `=` has an empty value.
 */
export function queryValue(query: string | undefined, name: string): string | undefined {
  if (query === undefined) return undefined;
  for (const part of query.split("&")) {
    if (part === "") continue;
    const equals = part.indexOf("=");
    if (decodeForm(equals < 0 ? part : part.slice(0, equals)) === name) {
      return equals < 0 ? "" : decodeForm(part.slice(equals + 1));
    }
  }
  return undefined;
}

/** All values of a query parameter, as {@link queryValue} has the first. */
export function queryValues(query: string | undefined, name: string): readonly string[] {
  const parts = query?.split("&").filter((part) => part !== "") ?? [];
  return parts.flatMap((part) => (queryValue(part, name) === undefined ? [] : [queryValue(part, name)!]));
}

/** Escapes that are no UTF-8 are left as they are. */
export function decodeForm(text: string): string {
  const spaced = text.includes("+") ? text.replaceAll("+", " ") : text;
  if (!spaced.includes("%")) return spaced;
  try {
    return decodeURIComponent(spaced);
  } catch {
    return spaced;
  }
}

/** A cookie's value: the first of its name in the Cookie header (RFC 6265 §4.2); names are compared with their case. */
export function cookieValue(cookie: string | undefined, name: string): string | undefined {
  if (cookie === undefined) return undefined;
  for (const part of cookie.split(";")) {
    const equals = part.indexOf("=");
    if (equals >= 0 && part.slice(0, equals).trim() === name) return part.slice(equals + 1).trim();
  }
  return undefined;
}

/** The Cookie header of a request: several fields are joined with `; ` (RFC 9113 §8.2.3). */
export function cookieHeader(headers: readonly (readonly [string, string])[]): string | undefined {
  const fields = headers.filter(([field]) => lowerAscii(field) === "cookie").map(([, text]) => text);
  return fields.length === 0 ? undefined : fields.join("; ");
}
