// Whether what came of a try is worth another one, and after what pause. Pure. Conditions are Envoy's `x-envoy-retry-on` and
// `x-envoy-retry-grpc-on` (router filter); the pause is its fully jittered exponential back-off; Retry-After is RFC 9110 §10.2.3.

import type { Retry, RetryCondition } from "../../model/upstream-policies.ts";
import { stringMatches } from "../../model/value-match.ts";

/** What came of a try. */
export type TryOutcome =
  | {
      readonly kind: "status";
      readonly status: number /** Of an answer that is all headers. */;
      readonly grpcStatus?: number;
      /** The answer's; by lower-case name. */
      readonly fields?: { get(name: string): string | undefined };
    }
  /** No connection could be made. */
  | { readonly kind: "connect-failure" }
  /** The connection or stream ended without an answer; `sent`: some of the request may have been read. */
  | { readonly kind: "reset"; readonly sent: boolean }
  /** REFUSED_STREAM: certainly not processed (RFC 9113 §8.7). */
  | { readonly kind: "refused" }
  /** The try's own timeout. */
  | { readonly kind: "timeout" };

const grpcConditions: Readonly<Record<number, RetryCondition>> = {
  1: "cancelled",
  4: "deadline-exceeded",
  8: "resource-exhausted",
  13: "internal",
  14: "unavailable",
};

/** What an answer is retried for beside conditions: Envoy's `retriable-status-codes` and `retriable-headers`. */
export type RetryReason = RetryCondition | "status" | "header";

/** The condition under which an outcome is retried; undefined when it is not. */
export function retryReason(retry: Retry, outcome: TryOutcome): RetryReason | undefined {
  const on = (condition: RetryCondition) => (retry.on.includes(condition) ? condition : undefined);
  switch (outcome.kind) {
    case "status": {
      const reason = answerReason(retry, outcome);
      const limited = on("envoy-ratelimited");
      if (reason === undefined && limited === undefined) return undefined;
      // Who has been refused for asking too often is not asked again, unless just that is said (Envoy: wouldRetryFromHeaders).
      return outcome.fields?.get("x-envoy-ratelimited") === undefined ? reason : limited;
    }
    case "connect-failure":
      return on("connect-failure") ?? on("gateway-error") ?? on("5xx") ?? on("reset") ?? on("reset-before-request");
    case "reset":
      return on("reset") ?? on("5xx") ?? on("gateway-error") ?? (outcome.sent ? undefined : on("reset-before-request"));
    case "refused":
      return on("refused-stream") ?? on("reset") ?? on("5xx");
    case "timeout":
      // Envoy answers a try's timeout with 504 itself, which 5xx and gateway-error take; "reset" takes it too.
      return on("5xx") ?? on("gateway-error") ?? on("reset");
  }
}

function answerReason(
  { on, statuses, headers }: Retry,
  { status, grpcStatus, fields }: Extract<TryOutcome, { kind: "status" }>,
): RetryReason | undefined {
  const grpc = grpcStatus === undefined ? undefined : grpcConditions[grpcStatus];
  if (grpc && on.includes(grpc)) return grpc;
  if (statuses.includes(status)) return "status";
  if (headers?.some(({ name, match }) => stringMatches(match, fields?.get(name)))) return "header";
  // Who goes round in circles (RFC 5842 §7.2) would do so twice as often with every hop.
  if (status >= 500 && status <= 599 && status !== 508 && on.includes("5xx")) return "5xx";
  if (status >= 502 && status <= 504 && on.includes("gateway-error")) return "gateway-error";
  return status === 409 && on.includes("retriable-4xx") ? "retriable-4xx" : undefined;
}

/** Milliseconds before retry number `attempt` (from 1): uniform in 0 … (2^attempt − 1) × base, at most `max`. */
export function backoff({ base, max }: Retry["backoff"], attempt: number, random: () => number = Math.random): number {
  return random() * Math.min(max, (2 ** Math.min(attempt, 30) - 1) * base);
}

/** Milliseconds that a Retry-After field asks for: seconds, or an HTTP date. Undefined when it says nothing that can be read. */
export function retryAfter(field: string | undefined, now: number): number | undefined {
  if (field === undefined) return undefined;
  if (/^\d{1,9}$/.test(field)) return Number(field) * 1000;
  const date = /^[A-Z][a-z]{2}, \d{2} [A-Z][a-z]{2} \d{4} \d{2}:\d{2}:\d{2} GMT$/.test(field)
    ? Date.parse(field)
    : Number.NaN;
  return Number.isNaN(date) ? undefined : Math.max(0, date - now);
}
