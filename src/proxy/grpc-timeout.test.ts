import { describe, expect, test } from "bun:test";
import type { RequestHead } from "./exchange.ts";
import { formatTimeout, grpcTimeout } from "./grpc-timeout.ts";
import { HeaderBlock } from "./headers.ts";

function head(timeout: string | undefined, type = "application/grpc", method = "POST"): RequestHead {
  const headers = new HeaderBlock();
  headers.add("content-type", type);
  if (timeout !== undefined) headers.add("grpc-timeout", timeout);
  return { method, headers } as RequestHead;
}

describe("the timeout of a call", () => {
  test.each([
    ["2H", 7_200_000],
    ["3M", 180_000],
    ["5S", 5_000],
    ["250m", 250],
    ["1500u", 1.5],
    ["99999999n", 99.999999],
    ["0S", 0],
  ])("%p is %p ms", (value, expected) => {
    expect(grpcTimeout(head(value))).toBe(expected);
    expect(grpcTimeout(head(value, "application/grpc-web+proto"))).toBe(expected);
  });

  test.each(["", "5", "S", "-5S", "1.5S", "123456789m", "5s", "5 S", "5S,5S"])("%p says nothing", (value) => {
    expect(grpcTimeout(head(value))).toBeUndefined();
  });

  test("of what is no call of gRPC is not looked at", () => {
    expect(grpcTimeout(head("5S", "application/json"))).toBeUndefined();
    expect(grpcTimeout(head("5S", "application/grpc", "GET"))).toBeUndefined();
    expect(grpcTimeout(head(undefined))).toBeUndefined();
  });

  test("is told in milliseconds as long as eight digits do, never as more than there is", () => {
    expect(formatTimeout(1_999.9)).toBe("1999m");
    expect(formatTimeout(0.2)).toBe("1m");
    expect(formatTimeout(99_999_999)).toBe("99999999m");
    expect(formatTimeout(100_000_999)).toBe("100000S");
    expect(formatTimeout(Number.MAX_SAFE_INTEGER)).toBe("99999999S");
  });
});
