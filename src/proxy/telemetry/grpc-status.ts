// How a call of gRPC ended, for log lines: its trailers say so, or an answer's head, or else the status of HTTP does. Of requests
// that are no calls there is nothing.

import { isGrpc, statusOfHttp } from "../local-answer.ts";
import type { AccessRecord } from "./access-record.ts";

/** Names of google.rpc.Code as gRPC's libraries write them; by code. */
const snake = [
  ...["OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS"],
  ...["PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED"],
  ...["INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED"],
];
/** As Envoy writes them: one of them has another spelling. */
const camel = snake.map((name) =>
  name === "OK"
    ? name
    : name === "CANCELLED"
      ? "Canceled"
      : name.toLowerCase().replace(/(^|_)(.)/g, (_, __, one) => one.toUpperCase()),
);

/** -1: it is no call, or has not ended in a way that has a code. */
export function grpcStatusOf(record: AccessRecord, trailer: string | undefined, field: string | undefined): number {
  if (record.headers === undefined || !isGrpc(record.headers)) return -1;
  const told = trailer ?? field;
  if (told !== undefined) return /^\d{1,9}$/.test(told) ? Number(told) : -1;
  return record.status === 0 ? -1 : statusOfHttp(record.status);
}

export const grpcCamel = (code: number): string | undefined => (code < 0 ? undefined : (camel[code] ?? String(code)));
export const grpcSnake = (code: number): string | undefined => (code < 0 ? undefined : (snake[code] ?? String(code)));
