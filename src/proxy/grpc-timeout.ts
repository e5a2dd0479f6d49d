// The deadline that a caller of gRPC sends along (gRPC over HTTP/2, "Timeout": at most eight digits and a unit). It bounds our own
// times for the request, and goes on to the backend as what is left of it.

import type { RequestHead } from "./exchange.ts";
import type { HeaderBlock } from "./headers.ts";
import { isGrpc } from "./local-answer.ts";

const name = "grpc-timeout";
const milliseconds: Readonly<Record<string, number>> = {
  H: 3_600_000,
  M: 60_000,
  S: 1_000,
  m: 1,
  u: 1 / 1_000,
  n: 1 / 1_000_000,
};
const maxDigits = 99_999_999;

/** Milliseconds that the caller waits at most; undefined when it does not say, or not so that it can be understood. */
export function grpcTimeout({ method, headers }: RequestHead): number | undefined {
  if (method !== "POST" || !isGrpc(headers)) return undefined;
  const value = headers.get(name);
  const parts = value === undefined ? null : /^([0-9]{1,8})([HMSmun])$/.exec(value);
  return parts ? Number(parts[1]) * milliseconds[parts[2]!]! : undefined;
}

/** Tells the backend that so many milliseconds are left: never more than there are, but not none. */
export function tellTimeout(headers: HeaderBlock, left: number): void {
  headers.set(name, formatTimeout(left));
}

export function formatTimeout(left: number): string {
  const whole = Math.max(1, Math.floor(left));
  if (whole <= maxDigits) return `${whole}m`;
  return `${Math.min(maxDigits, Math.floor(whole / 1_000))}S`;
}
