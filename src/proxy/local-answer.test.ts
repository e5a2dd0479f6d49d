import { expect, test } from "bun:test";
import { codeOfAnswer, statusOfHttp } from "./local-answer.ts";
import { type Reason, reasons } from "./reason.ts";

test("a status of HTTP is the code that gRPC's clients take it for (http-grpc-status-mapping.md)", () => {
  const wanted = {
    400: 13,
    401: 16,
    403: 7,
    404: 12,
    429: 14,
    502: 14,
    503: 14,
    504: 14,
    408: 2,
    418: 2,
    500: 2,
    501: 2,
  };
  expect(Object.fromEntries(Object.keys(wanted).map((status) => [status, statusOfHttp(Number(status))]))).toEqual(
    wanted,
  );
});

test("a reason's code is its status', but for those that know more", () => {
  const others: Record<number, string[]> = {};
  for (const [reason, { status, grpc }] of Object.entries(reasons)) {
    if (status < 400 || grpc === statusOfHttp(status)) continue;
    others[grpc] ??= [];
    others[grpc].push(reason);
  }
  expect(others).toEqual({
    4: ["request_slow", "request_timeout", "response_timeout", "stream_timeout", "try_timeout", "upstream_idle"],
    8: ["head_too_large", "target_too_long", "rate_limited", "body_too_large", "overloaded", "too_many_connections"],
    9: ["loop_detected"],
    12: ["version_not_supported", "method_not_supported", "coding_not_supported", "expectation_failed"],
    14: ["misdirected", "no_weight", "rate_limit_failed"],
  });
});

test.each<[Reason, number, number]>([
  ["authorization_failed", 403, 7],
  ["authorization_failed", 503, 14],
  ["authorization_failed", 500, 2],
  ["refused_by_authorization", 401, 16],
  ["refused_by_authorization", 429, 14],
  ["fault_injected", 503, 14],
  ["fault_injected", 418, 2],
  ["rate_limited", 429, 8],
  ["rate_limited", 503, 14],
])("%s with %i is %i", (reason, status, code) => {
  expect(codeOfAnswer(reason, status)).toBe(code);
});
