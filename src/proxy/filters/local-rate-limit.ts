// A limit that the proxy counts itself: a token bucket for each key, of this process or of all workers (`shared`). Answers may tell what is left (RateLimit and
// RateLimit-Policy, draft-ietf-httpapi-ratelimit-headers-10); refusals say when to come again (RFC 9110 §10.2.3).

import { createHash } from "node:crypto";
import type { LocalRateLimit } from "../../model/filters.ts";
import type { HeaderValue } from "../../model/model.ts";
import type { Filter } from "../filter.ts";
import { compileMatch } from "../router/predicate.ts";
import { keyPart } from "./request-key.ts";
import type { Taken } from "./token-bucket.ts";

/** Longer keys are kept as their hash, so that a client cannot fill the memory with them. */
const maxKey = 256;

export const localRateLimit: Filter<"localRateLimit"> = {
  kind: "localRateLimit",
  compile(config, runtime) {
    const buckets = runtime.buckets.get(config.bucket, config, config.shared, runtime.clock.now());
    const parts = config.key.map(keyPart);
    const when = compileMatch({ headers: config.when ?? [] }, false);
    return {
      request(head, exchange) {
        if (!when.every((holds) => holds(head))) return undefined;
        const key = bounded(parts.map((part) => part(head, exchange) ?? "").join("\0"));
        const taken = buckets.take(key, runtime.clock.now());
        if (taken.allowed) {
          if (config.tell) exchange.keep(config, rateLimitFields(config, taken));
          return undefined;
        }
        return { reason: "rate_limited", status: config.status, headers: refusalFields(config, taken) };
      },
      response({ headers }, exchange) {
        for (const { name, value } of exchange.kept<readonly HeaderValue[]>(config) ?? []) headers.add(name, value);
        return undefined;
      },
    };
  },
};

function bounded(key: string): string {
  return key.length <= maxKey ? key : createHash("sha256").update(key).digest("base64");
}

export function rateLimitFields(config: LocalRateLimit, { left, wait, full }: Taken): readonly HeaderValue[] {
  const name = JSON.stringify(config.bucket.replace(/[^\x20-\x7e]|["\\]/g, "_"));
  return [
    {
      name: "ratelimit-policy",
      value: `${name};q=${config.burst};w=${seconds((config.burst / config.requests) * config.per)}`,
    },
    { name: "ratelimit", value: `${name};r=${left};t=${seconds(left > 0 ? full : wait)}` },
  ];
}

export function refusalFields(config: LocalRateLimit, taken: Taken): readonly HeaderValue[] {
  const again = { name: "retry-after", value: String(Math.max(1, seconds(taken.wait))) };
  return config.tell ? [again, ...rateLimitFields(config, taken)] : [again];
}

/** The next whole one; what sums of fractions gain does not count. */
function seconds(milliseconds: number): number {
  return Math.ceil(milliseconds / 1000 - 1e-6);
}
