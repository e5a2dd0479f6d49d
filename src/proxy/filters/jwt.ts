// JSON Web Tokens (RFC 7519, RFC 6750): every token that a request carries in a provider's places must be a good one. Verified by
// the library jose, with asymmetric algorithms only, whatever a token says of itself (RFC 8725 §3.1). Tokens that were good are
// remembered until they expire, a bounded number of them.

import { createHash } from "node:crypto";
import { decodeJwt, errors, type JWTPayload, type JWTVerifyOptions, jwtVerify } from "jose";
import type { JwtProvider } from "../../model/filters.ts";
import { changeQuery } from "../../model/query.ts";
import { queryValues } from "../../model/value-match.ts";
import type { RequestHead } from "../exchange.ts";
import type { Filter, FilterAnswer, FilterExchange } from "../filter.ts";
import { cookies } from "../router/predicate.ts";
import { disown, guardTrailers } from "./fields.ts";
import type { KeyResolver, KeySet } from "./key-sets.ts";
import type { FilterRuntime } from "./runtime.ts";

const algorithms = [
  "RS256",
  "RS384",
  "RS512",
  "PS256",
  "PS384",
  "PS512",
  "ES256",
  "ES384",
  "ES512",
  "EdDSA",
  "Ed25519",
];
/** Seconds that clocks may be apart (Envoy: 60). */
const clockTolerance = 60;
/** Tokens of one request, bytes of one, and tokens remembered by one filter. */
const maxTokens = 4;
const maxTokenBytes = 16 * 1024;
const maxRemembered = 10_000;

type Place = JwtProvider["places"][number];

const usualPlaces: readonly Place[] = [
  { kind: "header", name: "authorization", prefix: "Bearer " },
  { kind: "query", name: "access_token" },
];

interface Found {
  readonly provider: CompiledProvider;
  readonly place: Place;
  readonly token: string;
}

interface CompiledProvider {
  readonly config: JwtProvider;
  readonly places: readonly Place[];
  readonly keys: KeySet;
}

interface Good {
  readonly payload: JWTPayload;
  readonly encoded: string;
}

export const jwt: Filter<"jwt"> = {
  kind: "jwt",
  compile(config, runtime) {
    const providers = config.providers.map((provider) => ({
      config: provider,
      places: provider.places.length > 0 ? provider.places : usualPlaces,
      keys: runtime.keySets.get(provider.keys),
    }));
    const ours = config.providers.flatMap(({ payloadHeader, claimHeaders }) => [
      ...(payloadHeader === undefined ? [] : [payloadHeader]),
      ...claimHeaders.map(({ header }) => header),
    ]);
    // What we looked at, and nothing that a backend may take for it.
    const lookedAt = providers.flatMap(({ places }) =>
      places.flatMap(({ kind, name }) => (kind === "header" ? [name] : [])),
    );
    const guarded = [...new Set([...ours, ...lookedAt])];
    const verifier = new Verifier(runtime);
    return {
      request(head, exchange) {
        const found = tokensOf(head, providers);
        for (const name of ours) disown(head.headers, name);
        for (const name of lookedAt) disown(head.headers, name, true);
        guardTrailers(guarded, head, exchange);
        if (found === "bad") return refusal("invalid_token");
        if (found.length === 0) return config.optional ? undefined : refusal(undefined);
        const known = found.map((one) => verifier.remembered(one));
        if (known.every((good) => good !== undefined)) {
          pass(head, exchange, found, known);
          return undefined;
        }
        let left = false;
        void verifier.verifyAll(found).then((verified) => {
          if (left) return;
          if (typeof verified === "string") {
            exchange.answer(verified === "no keys" ? { reason: "keys_unavailable" } : refusal("invalid_token"));
            return;
          }
          pass(head, exchange, found, verified);
          exchange.goOn();
        });
        return exchange.wait(() => {
          left = true;
        });
      },
    };
  },
};

/** RFC 6750 §3: without a token, nothing is said of what was wrong. */
function refusal(error: "invalid_token" | undefined): FilterAnswer {
  const value = error === undefined ? "Bearer" : `Bearer error="${error}"`;
  return { reason: "bad_token", headers: [{ name: "www-authenticate", value }] };
}

/** The tokens of a request, each with the provider that must verify it. */
function tokensOf(head: RequestHead, providers: readonly CompiledProvider[]): readonly Found[] | "bad" {
  const found: Found[] = [];
  const unclaimed = new Set<string>();
  const claimed = new Set<string>();
  for (const provider of providers) {
    for (const place of provider.places) {
      for (const token of tokensAt(head, place)) {
        const at = `${place.kind} ${place.name} ${token}`;
        if (issuerOf(token) === provider.config.issuer) {
          claimed.add(at);
          found.push({ provider, place, token });
        } else unclaimed.add(at);
      }
    }
  }
  for (const at of unclaimed) if (!claimed.has(at)) return "bad";
  return found.length > maxTokens ? "bad" : found;
}

/** Which of several a backend would take is not known: all are looked at. */
function tokensAt(head: RequestHead, place: Place): readonly string[] {
  switch (place.kind) {
    case "header": {
      const value = head.headers.get(place.name);
      if (value === undefined) return [];
      const { prefix } = place;
      // Other schemes in the same field are none of ours.
      if (value.slice(0, prefix.length).toLowerCase() !== prefix.toLowerCase()) return [];
      return [value.slice(prefix.length).trim()];
    }
    case "query":
      return queryValues(head.query, place.name);
    case "cookie":
      return cookiesOf(head).flatMap(([name, value]) => (name === place.name ? [value] : []));
  }
}

function cookiesOf(head: RequestHead): (readonly [string, string])[] {
  return (cookies(head.headers) ?? "").split(";").flatMap((part) => {
    const equals = part.indexOf("=");
    return equals < 0 ? [] : [[part.slice(0, equals).trim(), part.slice(equals + 1).trim()] as const];
  });
}

function issuerOf(token: string): string | undefined {
  if (token.length > maxTokenBytes) return undefined;
  try {
    return decodeJwt(token).iss;
  } catch {
    return undefined;
  }
}

/** What the backend gets of good tokens. */
function pass(head: RequestHead, exchange: FilterExchange, found: readonly Found[], good: readonly Good[]): void {
  found.forEach(({ provider: { config }, place }, index) => {
    if (!config.forward) takeAway(head, exchange, place);
    const { payload, encoded } = good[index]!;
    if (config.payloadHeader !== undefined) head.headers.set(config.payloadHeader, encoded);
    for (const { claim, header } of config.claimHeaders) {
      const value = claimText(payload, claim);
      if (value !== undefined) head.headers.set(header, value);
    }
  });
}

function takeAway(head: RequestHead, exchange: FilterExchange, place: Place): void {
  if (place.kind === "header") head.headers.remove(place.name);
  else if (place.kind === "query") {
    head.query = changeQuery(head.query, { set: [], add: [], remove: [place.name] });
    exchange.tellQuery(head.query);
  } else {
    const rest = cookiesOf(head).filter(([name]) => name !== place.name);
    head.headers.remove("cookie");
    if (rest.length > 0) head.headers.set("cookie", rest.map(([name, value]) => `${name}=${value}`).join("; "));
  }
}

/** A claim as a header's value: text, numbers, booleans, and lists of them joined with `,`; others, and what no header can carry, are left out. */
export function claimText(payload: JWTPayload, claim: string): string | undefined {
  let value: unknown = payload[claim];
  if (value === undefined) {
    value = payload;
    for (const name of claim.split(".")) {
      value =
        typeof value === "object" && value !== null && Object.hasOwn(value, name)
          ? (value as Record<string, unknown>)[name]
          : undefined;
    }
  }
  const members = Array.isArray(value) ? value : [value];
  if (members.length === 0 || !members.every((one) => ["string", "number", "boolean"].includes(typeof one)))
    return undefined;
  // Headers are bytes: those of UTF-8.
  const text = Buffer.from(members.join(","), "utf8").toString("latin1");
  return [...text].some((one) => one < " " || one === "\x7f") ? undefined : text;
}

class Verifier {
  readonly #runtime: FilterRuntime;
  readonly #good = new Map<string, Good & { readonly until: number }>();

  constructor(runtime: FilterRuntime) {
    this.#runtime = runtime;
  }

  remembered(found: Found): Good | undefined {
    const key = keyOf(found);
    const good = this.#good.get(key);
    if (!good) return undefined;
    if (good.until > this.#runtime.clock.now()) return good;
    this.#good.delete(key);
    return undefined;
  }

  async verifyAll(found: readonly Found[]): Promise<readonly Good[] | "bad" | "no keys"> {
    const good: Good[] = [];
    for (const one of found) {
      const verified = this.remembered(one) ?? (await this.#verify(one));
      if (typeof verified === "string") return verified;
      good.push(verified);
    }
    return good;
  }

  async #verify(found: Found): Promise<Good | "bad" | "no keys"> {
    const { config, keys } = found.provider;
    const now = this.#runtime.clock.now();
    const options = {
      algorithms,
      issuer: config.issuer,
      clockTolerance,
      currentDate: new Date(now),
      ...(config.audiences.length > 0 ? { audience: [...config.audiences] } : {}),
    };
    let resolver = await keys.keys();
    if (!resolver) return "no keys";
    for (let attempt = 0; ; attempt++) {
      try {
        const payload = await verified(found.token, resolver, options);
        const good = { payload, encoded: found.token.split(".")[1]! };
        this.#remember(found, good, now);
        return good;
      } catch (error) {
        // Perhaps signed with a key that is newer than ours.
        const newer: typeof resolver | undefined =
          attempt === 0 && error instanceof errors.JWKSNoMatchingKey ? await keys.newer() : undefined;
        if (!newer) return "bad";
        resolver = newer;
      }
    }
  }

  /** For at most a minute: a key that is taken out of a set must not live on here. */
  #remember(found: Found, good: Good, now: number): void {
    const end = good.payload.exp === undefined ? Number.POSITIVE_INFINITY : (good.payload.exp + clockTolerance) * 1000;
    if (this.#good.size >= maxRemembered) this.#good.delete(this.#good.keys().next().value!);
    this.#good.set(keyOf(found), { ...good, until: Math.min(end, now + 60_000) });
  }
}

/** A token that names no key is tried with every key that could be meant. */
async function verified(token: string, resolver: KeyResolver, options: JWTVerifyOptions): Promise<JWTPayload> {
  try {
    return (await jwtVerify(token, resolver, options)).payload;
  } catch (error) {
    if (!(error instanceof errors.JWKSMultipleMatchingKeys)) throw error;
    for await (const key of error) {
      try {
        return (await jwtVerify(token, key, options)).payload;
      } catch (wrong) {
        if (!(wrong instanceof errors.JWSSignatureVerificationFailed)) throw wrong;
      }
    }
    throw error;
  }
}

function keyOf({ provider, token }: Found): string {
  return `${provider.config.name} ${createHash("sha256").update(token).digest("base64")}`;
}
