// Cross-origin requests (Fetch standard, §3.2): which request is a preflight, what is answered to one, and which fields go on an
// answer. Origins are compared as StringMatch says; the exact value `*` stands for all of them.

import type { Cors } from "./filters.ts";
import type { HeaderValue } from "./model.ts";
import { stringMatches } from "./value-match.ts";

export function isPreflight(method: string, origin: string | undefined, asked: string | undefined): boolean {
  return method === "OPTIONS" && origin !== undefined && asked !== undefined;
}

export function originAllowed(cors: Cors, origin: string): boolean {
  return cors.allowOrigins.some((match) => isAny(match) || stringMatches(match, origin));
}

function isAny(match: Cors["allowOrigins"][number]): boolean {
  return match.kind === "present" || (match.kind === "exact" && match.value === "*");
}

/** Fields of an answer to a preflight from an allowed origin. `method`, `headers` and `privateNetwork` are what it asks for. */
export function preflightFields(
  cors: Cors,
  origin: string,
  method: string,
  headers: string | undefined,
  privateNetwork: boolean,
): readonly HeaderValue[] {
  const fields = [...originFields(cors, origin)];
  // With credentials, browsers take a star literally.
  const methods = listed(cors.allowMethods, cors.allowCredentials ? method : undefined);
  if (methods !== "") fields.push({ name: "access-control-allow-methods", value: methods });
  const names = listed(cors.allowHeaders, cors.allowCredentials ? (headers ?? "") : undefined);
  if (names !== "") fields.push({ name: "access-control-allow-headers", value: names });
  if (privateNetwork && cors.allowPrivateNetwork)
    fields.push({ name: "access-control-allow-private-network", value: "true" });
  if (cors.maxAge !== undefined) fields.push({ name: "access-control-max-age", value: String(cors.maxAge) });
  return fields;
}

/** Fields of any other answer to an allowed origin. */
export function corsFields(cors: Cors, origin: string): readonly HeaderValue[] {
  const fields = [...originFields(cors, origin)];
  // A star with credentials would be taken literally, and what the answer holds is not known beforehand: it is left as it is.
  if (cors.exposeHeaders.length > 0)
    fields.push({ name: "access-control-expose-headers", value: cors.exposeHeaders.join(", ") });
  return fields;
}

/** Whether answers differ by origin, so that caches must be told. */
export function variesByOrigin(cors: Cors): boolean {
  return cors.allowCredentials || !cors.allowOrigins.some(isAny);
}

function originFields(cors: Cors, origin: string): HeaderValue[] {
  const fields = [{ name: "access-control-allow-origin", value: variesByOrigin(cors) ? origin : "*" }];
  if (cors.allowCredentials) fields.push({ name: "access-control-allow-credentials", value: "true" });
  return fields;
}

function listed(values: readonly string[], asked: string | undefined): string {
  if (asked !== undefined && values.includes("*")) return asked;
  return values.join(", ");
}
