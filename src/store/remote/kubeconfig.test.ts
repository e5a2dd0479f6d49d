import { describe, expect, test } from "bun:test";
import { statusErrorOf } from "./api-client.ts";
import { parseKubeconfig } from "./kubeconfig.ts";
import { warningsOf } from "./remote-store.ts";

const config = (user: object, cluster: object = { server: "https://a:6443/" }) =>
  JSON.stringify({
    "current-context": "c",
    contexts: [{ name: "c", context: { cluster: "k", user: "u", namespace: "shop" } }],
    clusters: [{ name: "k", cluster }],
    users: [{ name: "u", user }],
  });
const base64 = (text: string) => Buffer.from(text).toString("base64");

describe("a kubeconfig", () => {
  test("gives server, credentials and namespace of its context", () => {
    const user = { "client-certificate-data": base64("CERT"), "client-key-data": base64("KEY"), token: "t" };
    const cluster = { server: "https://a:6443/", "certificate-authority-data": base64("CA"), "tls-server-name": "b" };
    const { token, ...found } = parseKubeconfig(config(user, cluster), "/k");
    expect(token?.()).toBe("t");
    expect(found).toEqual({
      server: "https://a:6443",
      ca: "CA",
      clientCertificate: { cert: "CERT", key: "KEY" },
      insecure: false,
      serverName: "b",
      namespace: "shop",
    });
  });

  test("that cannot be used is refused with the field that is wrong", () => {
    const parse = (text: string) => () => parseKubeconfig(text, "/k");
    expect(parse("{}")).toThrow("kubeconfig /k: current-context is not set");
    expect(parse('{"current-context":"x"}')).toThrow('kubeconfig /k: there is no context "x"');
    expect(parse(config({}, {}))).toThrow('kubeconfig /k: clusters: "k" has no server');
    expect(parse(config({ exec: { command: "aws" } }))).toThrow("exec (aws), which is not supported");
    expect(parse(config({ "client-certificate-data": base64("CERT") }))).toThrow(
      "a client certificate without its key",
    );
  });
});

test("a failure is the Status in the body, or is made from its code", () => {
  const body = { kind: "Status", code: 409, reason: "Conflict", message: "changed", details: { name: "a" } };
  expect(statusErrorOf(409, JSON.stringify(body))).toMatchObject({ code: 409, reason: "Conflict", message: "changed" });
  expect(statusErrorOf(502, "<html>").message).toBe("the API server answered 502: <html>");
});

test("warnings are the texts of the header", () => {
  expect(warningsOf('299 - "a \\"b\\"", 299 - "c, d"')).toEqual(['a "b"', "c, d"]);
  expect(warningsOf(null)).toEqual([]);
});
