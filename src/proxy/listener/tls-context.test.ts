// What is said of authorities that cannot serve. What contexts do in handshakes is for test/e2e/listeners-chains.test.ts.

import { expect, test } from "bun:test";
import type { Secret } from "../../model/model.ts";
import { loadAuthorities } from "./tls-context.ts";

const from = { kind: "Test", name: "test", field: "" };
const authorities = (certificates: string): Secret => ({
  name: "secret/ca",
  from,
  fingerprint: "0".repeat(64),
  content: { kind: "authorities", certificates },
});

test("authorities that are empty or cannot be parsed are named", () => {
  expect(() => loadAuthorities(authorities(""))).toThrow(
    "the authorities secret/ca are empty: no client could be verified",
  );
  const bad = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----";
  expect(() => loadAuthorities(authorities(bad))).toThrow("authority 1 of 1 of secret/ca cannot be parsed");
});
