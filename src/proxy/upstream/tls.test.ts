import { expect, test } from "bun:test";
import { TlsClient } from "./tls.ts";

const nobody = (): never => {
  throw new Error("no secret is named");
};
const system = new TlsClient({ authorities: "system", serverName: "orders.test" }, "http1", nobody);
const insecure = new TlsClient({ authorities: "insecure" }, "h2c", nobody);

function socket(subjectaltname: string, alpnProtocol: string | false = false) {
  return { alpnProtocol, getPeerCertificate: () => ({ subject: {}, subjectaltname, raw: Buffer.alloc(0) }) };
}

const failure = (code: string) => Object.assign(new Error(code), { code });

test("a chain that is good needs the name, too", () => {
  expect(system.problem(socket("DNS:orders.test"), true, null, "10.0.0.1")).toBeUndefined();
  expect(system.problem(socket("DNS:other.test"), true, null, "10.0.0.1")).toBe("backend_has_other_name");
  // The library's word on the name is not the last: it compares with what it was given.
  const said = failure("ERR_TLS_CERT_ALTNAME_INVALID");
  expect(system.problem(socket("DNS:orders.test"), false, said, "10.0.0.1")).toBeUndefined();
});

test("without a server name the certificate must have the endpoint's address", () => {
  const client = new TlsClient({ authorities: "system" }, "http1", nobody);
  expect(client.problem(socket("IP Address:10.0.0.1"), false, null, "10.0.0.1")).toBe("handshake_failed");
  expect(client.problem(socket("IP Address:10.0.0.1"), true, null, "10.0.0.1")).toBeUndefined();
  expect(client.problem(socket("IP Address:10.0.0.1"), true, null, "10.0.0.2")).toBe("backend_has_other_name");
});

test("a chain that is not good is refused by its reason, whatever the name", () => {
  for (const code of ["CERT_HAS_EXPIRED", "SELF_SIGNED_CERT_IN_CHAIN", "UNABLE_TO_VERIFY_LEAF_SIGNATURE"]) {
    for (const done of [true, false])
      expect(system.problem(socket("DNS:orders.test"), done, failure(code), "10.0.0.1")).toBe("backend_not_trusted");
  }
  // A word that nobody knows is no reason to trust.
  expect(system.problem(socket("DNS:orders.test"), true, failure("UNSPECIFIED"), "10.0.0.1")).toBe(
    "backend_not_trusted",
  );
  expect(system.problem(socket("DNS:orders.test"), false, failure("EPROTO"), "10.0.0.1")).toBe("handshake_failed");
  expect(system.problem(socket("DNS:orders.test"), false, new Error("?"), "10.0.0.1")).toBe("handshake_failed");
});

test("where nobody is verified the handshake and the protocol still count", () => {
  const expired = failure("CERT_HAS_EXPIRED");
  expect(insecure.problem(socket("", "h2"), false, expired, "10.0.0.1")).toBeUndefined();
  expect(insecure.problem(socket("", "http/1.1"), true, expired, "10.0.0.1")).toBe("upgrade_refused");
  expect(insecure.problem(socket("", "h2"), false, failure("ECONNRESET"), "10.0.0.1")).toBe("handshake_failed");
});

test("a backend of both versions of HTTP offers each connection its own, under the same policy", () => {
  const { other } = new TlsClient({ authorities: "system", serverName: "orders.test" }, "http1", nobody, true);
  const of = (alpn: string, name = "DNS:orders.test") => other!.problem(socket(name, alpn), true, null, "10.0.0.1");
  expect([of("h2"), of("http/1.1"), of("h2", "DNS:other.test")]).toEqual([
    undefined,
    "upgrade_refused",
    "backend_has_other_name",
  ]);
  expect([system.other, other!.other]).toEqual([undefined, undefined]);
});

test("sessions are offered to the endpoint that gave them, and old ones make room", () => {
  const offered: string[] = [];
  const begin = (endpoint: string) =>
    system.resume({ setSession: (session: Uint8Array) => offered.push(Buffer.from(session).toString()) }, endpoint);
  system.keepSession("10.0.0.1 443", Buffer.from("one"));
  system.keepSession("10.0.0.1 443", Buffer.from("two"));
  begin("10.0.0.2 443");
  begin("10.0.0.1 443");
  expect(offered).toEqual(["two"]);
  for (let index = 0; index < 1_000; index++) system.keepSession(`10.1.0.1 ${index}`, Buffer.from("x"));
  begin("10.0.0.1 443");
  expect(offered).toEqual(["two"]);
});
