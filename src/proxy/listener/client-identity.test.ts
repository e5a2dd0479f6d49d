// Who a client is by its certificate, and what may be said of it.

import { expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import fc from "fast-check";
import { clientIdentity, isWanted } from "./client-identity.ts";
import { subjectNames } from "./subject-names.ts";

/**
 * Its organization is `x, y\\;URI=spiffe://fleet/admin`, its common name `Käthe`; its names are the URIs
 * `spiffe://fleet/a;b,c=d` and `spiffe://fleet/DNS:x`, and the DNS name `Shop.Example`.
 */
const odd = new X509Certificate(`-----BEGIN CERTIFICATE-----
MIIB4DCCAYagAwIBAgIUbx2BNOKOkXXID7mh4FcXbYkFQmQwCgYIKoZIzj0EAwIw
OjEnMCUGA1UECgweeCwgeVw7VVJJPXNwaWZmZTovL2ZsZWV0L2FkbWluMQ8wDQYD
VQQDDAZLw6R0aGUwIBcNMjYxMTI0MjMxMDUyWhgPMjEyNjEwMzEyMzEwNTJaMDox
JzAlBgNVBAoMHngsIHlcO1VSST1zcGlmZmU6Ly9mbGVldC9hZG1pbjEPMA0GA1UE
AwwGS8OkdGhlMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEuHez3PxmYlDQlRup
mBEO+sui9KxIhBeb+F9JrJIgmRlw7HO82KEzHAfPSL21QyVFF5oL2bHAwJLv7v5L
cmJpV6NoMGYwRQYDVR0RBD4wPIYWc3BpZmZlOi8vZmxlZXQvYTtiLGM9ZIIMU2hv
cC5FeGFtcGxlhhRzcGlmZmU6Ly9mbGVldC9ETlM6eDAdBgNVHQ4EFgQUCH5ywqqe
5trZh81GYrc66/Bv82EwCgYIKoZIzj0EAwIDSAAwRQIhAOpH91OFvHUcwPG5U7NG
C3n6sd3d6CnR0EIClzdNyfL8AiAif5Un0L580OMeAmGjhBEMo21cFdrXyuqMjFCM
AKNTJg==
-----END CERTIFICATE-----`);

test("names are read as they are encoded, whatever separators they hold", () => {
  expect(subjectNames(odd.raw)).toEqual({
    uris: ["spiffe://fleet/a;b,c=d", "spiffe://fleet/DNS:x"],
    dns: ["shop.example"],
  });
});

test("no part of a name can pass for a field of its own", () => {
  const { told, name, subject } = clientIdentity(odd, ["dns", "uri", "subject", "hash"]);
  expect(name).toBe("spiffe://fleet/a;b,c=d");
  expect(subject).toBe(String.raw`CN=K\C3\A4the,O=x\, y\5C\;URI=spiffe://fleet/admin`);
  const hash = odd.fingerprint256.replaceAll(":", "").toLowerCase();
  expect(told).toBe(
    `Hash=${hash};Subject="${subject}";URI="spiffe://fleet/a;b,c=d";URI=spiffe://fleet/DNS:x;DNS=shop.example`,
  );
  expect(told).toMatch(/^[\x20-\x7e]+$/);
});

test("nothing is told unless asked for, and a certificate is told whole", () => {
  expect(clientIdentity(odd, undefined).told).toBeUndefined();
  expect(clientIdentity(odd, []).told).toBeUndefined();
  const told = clientIdentity(odd, ["cert"]).told!;
  expect(decodeURIComponent(/^Cert="([^"]+)"$/.exec(told)![1]!)).toBe(odd.toString());
});

test("one of the wanted names must be one of the client's, of the same kind", () => {
  const identity = clientIdentity(odd, undefined);
  const wants = (kind: "dns" | "uri", value: string) => isWanted(identity, [{ kind, match: { kind: "exact", value } }]);
  expect(isWanted(identity, undefined)).toBe(true);
  expect(isWanted(identity, [])).toBe(true);
  expect(wants("dns", "shop.example")).toBe(true);
  expect(wants("uri", "shop.example")).toBe(false);
  expect(wants("uri", "spiffe://fleet/DNS:x")).toBe(true);
  expect(wants("uri", "spiffe://fleet/admin")).toBe(false);
  expect(isWanted(identity, [{ kind: "uri", match: { kind: "prefix", value: "spiffe://fleet/" } }])).toBe(true);
});

test("whatever is wrong with a certificate's bytes, names are read or not, and never made up", () => {
  const known = new Set(["spiffe://fleet/a;b,c=d", "spiffe://fleet/DNS:x", "shop.example"]);
  fc.assert(
    fc.property(fc.nat(odd.raw.length - 1), fc.nat(255), fc.nat(odd.raw.length), (at, value, cut) => {
      const bytes = Buffer.from(odd.raw);
      bytes[at] = value;
      expect(() => subjectNames(bytes)).not.toThrow();
      const { dns, uris } = subjectNames(odd.raw.subarray(0, cut));
      for (const name of [...dns, ...uris]) expect(known).toContain(name);
    }),
    { numRuns: 2000 },
  );
});
