import { expect, test } from "bun:test";
import { fingerprint } from "./fingerprint.ts";
import type { Backend, Secret } from "./model.ts";
import { Redacted } from "./redacted.ts";
import { fromWire, toWire } from "./wire-codec.ts";

const from = { kind: "Secret", namespace: "shop", name: "tls", field: "" };

test("a private key travels in clear, and is hidden again on arrival", () => {
  const secret: Secret = {
    name: "secret/shop/tls",
    from,
    fingerprint: "f1",
    content: { kind: "certificate", certificate: "CERT", privateKey: new Redacted("KEY") },
  };
  const wire = JSON.stringify(toWire("secrets", secret));
  expect(wire).toContain("KEY");
  const back = fromWire("secrets", JSON.parse(wire));
  expect(JSON.stringify(back)).not.toContain("KEY");
  expect(back.content.kind === "certificate" && back.content.privateKey.reveal()).toBe("KEY");
  expect(fingerprint("secrets", back)).toBe("f1");
});

test("other resources keep their fingerprint over the wire", () => {
  const backend: Backend = { name: "b", from, protocol: "http1", balance: { kind: "random" }, connectTimeout: 5 };
  const back = fromWire("backends", JSON.parse(JSON.stringify(toWire("backends", backend))));
  expect(back).toEqual(backend);
  expect(fingerprint("backends", back)).toBe(fingerprint("backends", backend));
});
