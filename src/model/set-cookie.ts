// What a cookie filter does to one Set-Cookie field (RFC 6265 §4.1): its attributes are changed, its name and value are not, and
// attributes that are not asked for stay as they came.

import { lowerAscii } from "./ascii.ts";
import type { CookieChange } from "./filters.ts";
import { stringMatches } from "./value-match.ts";

/** The field's value after the change; unchanged when the cookie's name does not fit. */
export function changeCookie(value: string, change: CookieChange): string {
  const [pair = "", ...attributes] = value.split(";").map((part) => part.trim());
  const name = pair.slice(0, Math.max(0, pair.indexOf("=")));
  if (change.name && !stringMatches(change.name, name)) return value;
  let parts = attributes;
  if (change.domain)
    parts = replaced(parts, "Domain", change.domain, (domain) => lowerAscii(domain.replace(/^\./, "")));
  if (change.path) parts = replaced(parts, "Path", change.path, (path) => path);
  if (change.secure !== undefined) parts = flagged(parts, "Secure", change.secure);
  if (change.httpOnly !== undefined) parts = flagged(parts, "HttpOnly", change.httpOnly);
  if (change.sameSite) parts = [...without(parts, "SameSite"), `SameSite=${change.sameSite}`];
  return [pair, ...parts].join("; ");
}

function without(parts: readonly string[], name: string): string[] {
  return parts.filter((part) => attributeName(part) !== name.toLowerCase());
}

function attributeName(part: string): string {
  const equals = part.indexOf("=");
  return lowerAscii((equals < 0 ? part : part.slice(0, equals)).trim());
}

/** An empty `to` takes the attribute away. */
function replaced(
  parts: readonly string[],
  name: string,
  { from, to }: { readonly from?: string; readonly to: string },
  same: (value: string) => string,
): string[] {
  if (from !== undefined) {
    const found = parts.find((part) => attributeName(part) === name.toLowerCase());
    const value = found?.slice(found.indexOf("=") + 1).trim();
    if (value === undefined || same(value) !== same(from)) return [...parts];
  }
  return [...without(parts, name), ...(to === "" ? [] : [`${name}=${to}`])];
}

function flagged(parts: readonly string[], name: string, wanted: boolean): string[] {
  return [...without(parts, name), ...(wanted ? [name] : [])];
}
