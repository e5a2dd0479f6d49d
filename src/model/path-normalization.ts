// What a listener makes of a path before anything looks at it, so that a rule for /admin is not passed by /%61dmin, /x/../admin or
// //admin. The ways are Istio's (MeshConfig.pathNormalization), the order of their steps is Envoy's: escapes, dot segments (RFC 3986
// §6.2.2 and §5.2.4; a backslash is a slash), repeated slashes. Each step once: what was escaped twice stays escaped. Pure.

export const pathNormalizations = ["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"] as const;
/** `BASE` does not touch repeated and escaped slashes; `MERGE_SLASHES` makes one of several, and DECODE_… also reads `%2F` and `%5C`. */
export type PathNormalization = (typeof pathNormalizations)[number];

/** What no path has unescaped (RFC 3986 §3.3), but for the backslash; Envoy's escapes them, too. */
const foreign = /["<>^`{|}]/g;
/** Only paths with one of these can be others when they are normalised. */
const suspect = /[%\\"<>^`{|}]|\/[./]/;
/** Letters, digits, `-._~` need no escape (RFC 3986 §2.3). */
const unreserved = /^[A-Za-z0-9._~-]$/;

/**
 * The path in its normal form; undefined when it has none and must be refused: it leads above the root, or has an escaped zero byte
 * in it. What is no path (`*`, that of a CONNECT) stays.
 */
export function normalizedPath(path: string, how: PathNormalization): string | undefined {
  if (how === "NONE" || !path.startsWith("/") || !suspect.test(path)) return path;
  const decodesSlashes = how === "DECODE_AND_MERGE_SLASHES";
  const read = path.replace(/%[0-9A-Fa-f]{2}/g, (triplet) => {
    const character = String.fromCharCode(Number.parseInt(triplet.slice(1), 16));
    if (unreserved.test(character)) return character;
    return decodesSlashes && (character === "/" || character === "\\") ? "/" : triplet;
  });
  if (read.includes("%00")) return undefined;
  const escaped = read.replace(foreign, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
  const resolved = withoutDots(escaped.replaceAll("\\", "/"));
  return how === "BASE" ? resolved : resolved?.replace(/\/{2,}/g, "/");
}

/**
 * An empty segment is one as any other: `..` takes it away. So does `..;x`, which servers of Java take for it (Envoy's does the same
 * where the dots are not escaped).
 */
function withoutDots(path: string): string | undefined {
  const kept: string[] = [];
  const segments = path.slice(1).split("/");
  for (const [at, segment] of segments.entries()) {
    const [name] = segment.split(";", 1);
    if (name !== "." && name !== "..") {
      kept.push(segment);
      continue;
    }
    if (name === ".." && kept.pop() === undefined) return undefined;
    if (at === segments.length - 1) kept.push("");
  }
  return `/${kept.join("/")}`;
}
