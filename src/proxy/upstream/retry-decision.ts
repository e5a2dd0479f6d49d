// Whether what came of a try is worth another one, and after what pause. Pure. Conditions are Envoy's `x-envoy-retry-on` and
// `x-envoy-retry-grpc-on` (router filter); the pause is its fully jittered exponential back-off; Retry-After is RFC 9110 §10.2.3.

import type { Retry, RetryCondition } from "../../model/upstream-policies.ts";

/** What came of a try. */
export type TryOutcome =
  | {
      readonly kind: "status";
      readonly status: number /** Of an answer that is all headers. */;
      readonly grpcStatus?: number;
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

/** The condition under which an outcome is retried; undefined when it is not. */
export function retryReason(retry: Retry, outcome: TryOutcome): RetryCondition | "status" | undefined {
  const on = (condition: RetryCondition) => (retry.on.includes(condition) ? condition : undefined);
  switch (outcome.kind) {
    case "status": {
      const { status, grpcStatus } = outcome;
      const grpc = grpcStatus === undefined ? undefined : grpcConditions[grpcStatus];
      if (grpc && retry.on.includes(grpc)) return grpc;
      if (retry.statuses.includes(status)) return "status";
      // Who goes round in circles (RFC 5842 §7.2) would do so twice as often with every hop.
      if (status >= 500 && status <= 599 && status !== 508 && on("5xx")) return "5xx";
      if (status >= 502 && status <= 504 && on("gateway-error")) return "gateway-error";
      return status === 409 ? on("retriable-4xx") : undefined;
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
