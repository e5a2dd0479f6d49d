import { expect, test } from "bun:test";
import { controlOf } from "./send-from.ts";

test("an answer's source is said as the socket's family says it", () => {
  expect(controlOf(4, "10.0.0.7").toString("hex")).toBe(
    "1c000000000000000000000008000000000000000a0000070000000000000000",
  );
  expect(controlOf(6, "fd81::2").toString("hex")).toBe(
    "24000000000000002900000032000000fd8100000000000000000000000000020000000000000000",
  );
  expect(controlOf(6, "10.0.0.7").subarray(16, 32).toString("hex")).toBe("00000000000000000000ffff0a000007");
});
