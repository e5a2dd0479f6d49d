// Request targets and paths: how a target is taken apart (RFC 9112 §3.2), what a path match takes, and how a path is
// rewritten. Paths are compared as they came: no decoding, no merging of slashes, no dot segments; Gateway API's
// HTTPPathMatch and HTTPPathModifier say what prefixes mean. Shared by `decide` and the proxy.

import { lowerAscii } from "./ascii.ts";
import type { PathMatch, PathRewrite } from "./model.ts";
import { compileRegex } from "./regex.ts";

export interface Target {
  /** Only with the absolute form; it then stands above the Host header (RFC 9112 §3.2.2). */
  readonly authority?: string;
  readonly scheme?: "http" | "https";
  /** Before `?`, as it came. `/` when the target had none; `*` for the asterisk form, which no path match takes. */
  readonly path: string;
  /** After the first `?`, as it came, without it; undefined when there is no `?`. */
  readonly query?: string;
}

/** Takes a request target apart: `/orders?x=1`, `http://api.example.com/orders`, `*`, or nothing at all (`/`). */
export function parseTarget(target: string): Target {
  let rest = target;
  let authority: string | undefined;
  let scheme: "http" | "https" | undefined;
  const absolute = /^(https?):\/\/([^/?#]*)/i.exec(target);
  if (absolute) {
    scheme = absolute[1]!.toLowerCase() as "http" | "https";
    authority = absolute[2]!;
    rest = target.slice(absolute[0].length);
  }
  const mark = rest.indexOf("?");
  const path = mark < 0 ? rest : rest.slice(0, mark);
  return {
    ...(authority === undefined ? {} : { authority }),
    ...(scheme === undefined ? {} : { scheme }),
    path: path === "" ? "/" : path,
    ...(mark < 0 ? {} : { query: rest.slice(mark + 1) }),
  };
}

/** Path and query as one again. */
export function joinTarget(path: string, query: string | undefined): string {
  return query === undefined ? path : `${path}?${query}`;
}

/** Whether a match takes a path. An expression that does not compile takes nothing; nothing takes a CONNECT, which has no path. */
export function pathMatches(match: PathMatch, path: string): boolean {
  if (path === "") return false;
  if (match.kind === "regex") {
    const regex = compileRegex(match.value, { ignoreCase: match.ignoreCase === true });
    return regex.ok && regex.matches(path);
  }
  const value = match.ignoreCase ? lowerAscii(match.value) : match.value;
  const given = match.ignoreCase ? lowerAscii(path) : path;
  switch (match.kind) {
    case "exact":
      return given === value;
    case "prefix":
      return given.startsWith(value);
    case "segments": {
      const prefix = withoutTrailingSlash(value);
      return (
        given.startsWith(prefix) && (given.length === prefix.length ? prefix !== "" : given[prefix.length] === "/")
      );
    }
  }
}

/**
 * The path after a rewrite. `prefix` replaces the segments that `match` took (whole segments; a trailing slash of either
 * side is ignored, and nothing at all becomes `/`); without a `segments` match it cannot be done and the path stays. What a
 * `regex` makes begins with a slash, whatever it says.
 */
export function rewritePath(rewrite: PathRewrite, path: string, match: PathMatch | undefined): string {
  if (rewrite.kind === "full") return rewrite.value;
  if (rewrite.kind === "regex") {
    const regex = compileRegex(rewrite.pattern);
    const rewritten = regex.ok ? regex.replaceAll(path, rewrite.value) : path;
    return rewritten.startsWith("/") ? rewritten : `/${rewritten}`;
  }
  if (match?.kind !== "segments") return path;
  const rest = path.slice(withoutTrailingSlash(match.value).length);
  const rewritten = withoutTrailingSlash(rewrite.value) + rest;
  return rewritten === "" ? "/" : rewritten;
}

function withoutTrailingSlash(value: string): string {
  return value.endsWith("/") ? value.slice(0, -1) : value;
}
