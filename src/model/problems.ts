// What validation finds, and the checks of small things that several parts of the model have: paths, headers, hosts, ports,
// values, answers. What is checked where is `validate.ts` and its neighbours.

import { parseCidr } from "../base/cidr.ts";
import { ipFamily } from "../base/ip.ts";
import { hostPatternProblem } from "./host-pattern.ts";
import type { HeaderValue, PathMatch, PathRewrite, Respond, StringMatch, ValueMatch } from "./model.ts";
import type { Provenance } from "./provenance.ts";
import { compileRegex } from "./regex.ts";

/** One thing that is wrong with a resource: where in it, what, and the object that asked for it. */
export interface Problem {
  /** Path inside the model resource: `hosts[0].rules[2].match.path`. */
  readonly field: string;
  readonly message: string;
  readonly from: Provenance;
}

/** Collects problems; nested nodes with a provenance of their own are named by it. */
export class Problems {
  readonly found: Problem[] = [];
  /** Of the resource. */
  readonly from: Provenance;

  constructor(from: Provenance) {
    this.from = from;
  }

  add(field: string, message: string, from?: Provenance): void {
    this.found.push({ field, message, from: from ?? this.from });
  }
}

/** A number, and neither a text of digits nor NaN, of `least` to `most`. */
export function isNumberOf(value: unknown, least: number, most: number): boolean {
  return typeof value === "number" && value >= least && value <= most;
}

const tlsVersions: readonly unknown[] = [undefined, "1.2", "1.3"];

/** Versions of TLS that are spoken, and some of them: a proxy that knows no such version must not speak another in its place. */
export function checkTlsVersions(
  problems: Problems,
  field: string,
  { minVersion, maxVersion }: { readonly minVersion?: string; readonly maxVersion?: string },
  from?: Provenance,
): void {
  const check = (name: string, version: string | undefined, usual: string) => {
    if (tlsVersions.includes(version)) return;
    const what = `${JSON.stringify(version)} is no version of TLS that is spoken here`;
    problems.add(`${field}.${name}`, `${what}: it is "1.2" or "1.3"; leave it out for ${usual}`, from);
  };
  check("minVersion", minVersion, "1.2");
  check("maxVersion", maxVersion, "1.3");
  if (minVersion === "1.3" && maxVersion === "1.2") problems.add(`${field}.minVersion`, "is above maxVersion", from);
}

/** One of the kinds that the model has: a proxy must not guess what another version means by a new one. */
export function checkKind(
  problems: Problems,
  field: string,
  kind: string,
  known: readonly string[],
  from: Provenance,
): boolean {
  if (known.includes(kind)) return true;
  problems.add(`${field}.kind`, `${JSON.stringify(kind)} is none of ${known.join(", ")}`, from);
  return false;
}

const pathKinds: readonly PathMatch["kind"][] = ["exact", "segments", "prefix", "regex"];
const stringKinds: readonly StringMatch["kind"][] = ["exact", "prefix", "suffix", "contains", "regex", "present"];
const rewriteKinds: readonly PathRewrite["kind"][] = ["full", "prefix", "regex"];

export function checkPath(problems: Problems, field: string, path: PathMatch, from: Provenance): void {
  if (!checkKind(problems, field, path.kind, pathKinds, from)) return;
  if (path.kind === "regex") {
    const regex = compileRegex(path.value, { ignoreCase: path.ignoreCase === true });
    if (!regex.ok) problems.add(field, regex.problem, from);
    return;
  }
  const problem = pathProblem(path.value);
  if (problem) problems.add(field, problem, from);
}

export function checkValueMatch(problems: Problems, field: string, value: ValueMatch, from: Provenance): void {
  if (typeof value.name !== "string" || value.name === "")
    problems.add(`${field}.name`, value.name === "" ? "is empty" : "is no text", value.from ?? from);
  checkStringMatch(problems, `${field}.match`, value.match, value.from ?? from);
}

export function checkStringMatch(problems: Problems, field: string, match: StringMatch, from: Provenance): void {
  if (!checkKind(problems, field, match.kind, stringKinds, from) || match.kind === "present") return;
  if (typeof match.value !== "string") {
    problems.add(`${field}.value`, "is no text", from);
    return;
  }
  if (match.kind !== "regex") return;
  const regex = compileRegex(match.value);
  if (!regex.ok) problems.add(field, regex.problem, from);
}

export function checkRespond(problems: Problems, field: string, respond: Respond, from: Provenance): void {
  if (!Number.isInteger(respond.status) || respond.status < 200 || respond.status > 599) {
    problems.add(`${field}.status`, `${respond.status} is no final HTTP status (200 to 599)`, from);
  }
  respond.headers?.forEach((header, i) => {
    checkHeader(problems, `${field}.headers[${i}]`, header, from);
  });
}

export function checkRewrite(
  problems: Problems,
  field: string,
  rewrite: PathRewrite,
  path: PathMatch | undefined,
  from: Provenance,
): void {
  if (!checkKind(problems, field, rewrite.kind, rewriteKinds, from)) return;
  if (rewrite.kind === "prefix" && path?.kind !== "segments") {
    problems.add(field, "replaces a prefix, which needs a match of path segments", from);
  }
  if (rewrite.kind === "regex") {
    const regex = compileRegex(rewrite.pattern);
    if (!regex.ok) problems.add(`${field}.pattern`, regex.problem, from);
    if (typeof rewrite.value !== "string") problems.add(`${field}.value`, "is no text", from);
    const wrong = /[?#\s\0-\x1f]|[^\x21-\x7e]/.exec(rewrite.value);
    if (wrong) problems.add(`${field}.value`, `has ${JSON.stringify(wrong[0])} in it, which no path can have`, from);
    return;
  }
  if (rewrite.kind === "prefix" && rewrite.value === "") return;
  const problem = pathProblem(rewrite.value);
  if (problem) problems.add(field, problem, from);
}

const tokenText = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;
/** RFC 9110 §5.6.2. What is no text is none, whatever it would be as one. */
export const token = { test: (value: unknown): boolean => typeof value === "string" && tokenText.test(value) };

export function checkHeader(problems: Problems, field: string, header: HeaderValue, from: Provenance): void {
  checkHeaderName(problems, `${field}.name`, header.name, from);
  if (typeof header.value !== "string") problems.add(`${field}.value`, "is no text", from);
  else if (/[\r\n\0]/.test(header.value)) problems.add(`${field}.value`, "has a line break or a zero byte in it", from);
}

export function checkHeaderName(problems: Problems, field: string, name: string, from: Provenance): void {
  if (!token.test(name)) problems.add(field, `"${name}" is no header name`, from);
  else if (/[A-Z]/.test(name)) problems.add(field, `header name "${name}" must be in lower case`, from);
}

/** A range of addresses (CIDR), at `field`. */
export function checkRange(problems: Problems, field: string, range: string, from?: Provenance): void {
  if (parseCidr(range)) return;
  const family = ipFamily(range);
  const remedy = family === undefined ? "(like 10.0.0.0/8)" : `(one address is ${range}/${family === 4 ? 32 : 128})`;
  problems.add(field, `"${range}" is no range of addresses ${remedy}`, from);
}

export function checkHost(problems: Problems, field: string, host: string, from: Provenance): void {
  const problem = host.includes("*") ? `host "${host}" must have no star` : hostPatternProblem(host);
  if (problem) problems.add(field, problem, from);
}

export function checkPort(problems: Problems, field: string, port: number, from?: Provenance): void {
  if (!Number.isInteger(port) || port < 1 || port > 65535) problems.add(field, `${port} is no port`, from);
}

export function pathProblem(path: string): string | undefined {
  if (!path.startsWith("/")) return `path "${path}" does not begin with "/"`;
  const wrong = /[?#\s\0]/.exec(path);
  return wrong ? `path "${path}" has ${JSON.stringify(wrong[0])} in it, which no path can have` : undefined;
}
