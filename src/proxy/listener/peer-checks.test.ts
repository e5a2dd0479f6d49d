// What is refused of a peer whose chain was verified. That it is asked in handshakes is for test/e2e/peer-certificates.test.ts.
// The certificates are of openssl: `root` has issued `between`, which has issued `leaf`.

import { expect, test } from "bun:test";
import { createHash, X509Certificate } from "node:crypto";
import type { DetailedPeerCertificate } from "node:tls";
import type { Secret } from "../../model/model.ts";
import type { PeerDemands } from "../../model/peer-demands.ts";
import { authority as root } from "../../model/testing/authority.ts";
import { PeerChecks } from "./peer-checks.ts";
import { commonName } from "./subject-names.ts";

const between = `-----BEGIN CERTIFICATE-----
MIIBbzCCARagAwIBAgIUKeFTAD4sNVA5KdytuzERR9ic3DYwCgYIKoZIzj0EAwIw
DTELMAkGA1UEAwwCY2EwHhcNMjYxMTI1MTYzNzA2WhcNMjYxMTI3MTYzNzA2WjAO
MQwwCgYDVQQDDANtaWQwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQ2zkIRRLmT
Napbgdih/9qcx/icBH+XRCsaKbVnxw8FGZMIlZJXC0L94wjUFX/h2eSHYFANiSsj
R6+/YUpw4AKdo1MwUTAPBgNVHRMBAf8EBTADAQH/MB0GA1UdDgQWBBRvN++d39VX
dK+xCY7p4j8qZGOn/zAfBgNVHSMEGDAWgBRbjMXdEWiGVvsrpRzPR84hyPugtzAK
BggqhkjOPQQDAgNHADBEAiBWYfDH1Lesphq2m1p9PYmJGovvUMzG1Ec0q43ty5MD
IQIgBg9DSyyO334idk2hNAsR1e5li2uoUBY1pZBW7tdU/gw=
-----END CERTIFICATE-----
`;
const leaf = `-----BEGIN CERTIFICATE-----
MIIBczCCARigAwIBAgIUFnypL+msLh3owKljATKT50Dc6REwCgYIKoZIzj0EAwIw
DjEMMAoGA1UEAwwDbWlkMB4XDTI2MTEyNTE2MzcwNloXDTI2MTEyNzE2MzcwNlow
DzENMAsGA1UEAwwEZGVlcDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABEhsRv6n
rheEfrSs+v1i5AeqjujDQKVj3jQD67obBOypunis0UwWD2Oz8sgf8GQ0Z4eHsvgF
8uFjlLp17PYiqw2jUzBRMA8GA1UdEQQIMAaCBGRlZXAwHQYDVR0OBBYEFJzViiNu
JTgXyytWLSgmK+/O25x9MB8GA1UdIwQYMBaAFG83753f1Vd0r7EJjuniPypkY6f/
MAoGCCqGSM49BAMCA0kAMEYCIQCId6YrIXlMImkcEHLODR3gJ3mt8ro2awU670vk
RxuvBwIhALxwZK6FAS+QT9CxLNuiNreMoquIaG6DQzOAkWS+4CKv
-----END CERTIFICATE-----
`;
const list = `-----BEGIN X509 CRL-----
MIHMMHUCAQEwCgYIKoZIzj0EAwIwDTELMAkGA1UEAwwCY2EXDTI2MTEyNTE2Mzcw
NloXDTI2MTEyNzE2MzcwNlowJzAlAhRm1e0zyRDXXLORJV0dDyhc80vfvRcNMjYx
MTI1MTYzNzA2WqAOMAwwCgYDVR0UBAMCAQEwCgYIKoZIzj0EAwIDRwAwRAIgI08X
hvqEaoeRWfQ+ONdTge+Er8k9NYu8Xm7u/n+QI8ECIFsSXcZvOEg54tKJrsV0RId6
tnZQozIrPpoEOLpRD8mJ
-----END X509 CRL-----
`;

const raw = (pem: string) => new X509Certificate(pem).raw;
/** As the library gives it: linked by issuers, the root to itself. */
function peer(...chain: readonly string[]): DetailedPeerCertificate {
  const links = chain.map((pem) => ({ raw: raw(pem) }) as DetailedPeerCertificate);
  for (const [i, link] of links.entries()) link.issuerCertificate = links[i + 1] ?? link;
  return links[0]!;
}
const refuses = (demands: PeerDemands, ...chain: readonly string[]) =>
  new PeerChecks(demands, [root], undefined).refuses(peer(...chain));

test("one of the pins must be the certificate's or its key's", () => {
  const certificate = createHash("sha256").update(raw(leaf)).digest("hex");
  const spki = new X509Certificate(leaf).publicKey.export({ type: "spki", format: "der" });
  const key = createHash("sha256").update(spki).digest("base64");
  expect(refuses({ pins: [{ kind: "certificate", sha256: certificate.toUpperCase() }] }, leaf)).toBe(false);
  expect(refuses({ pins: [{ kind: "certificate", sha256: certificate }] }, between)).toBe(true);
  expect(refuses({ pins: [{ kind: "key", sha256: key }] }, leaf)).toBe(false);
  expect(refuses({ pins: [{ kind: "key", sha256: key }] }, between)).toBe(true);
  const both = [
    { kind: "certificate", sha256: "00".repeat(32) },
    { kind: "key", sha256: key },
  ] as const;
  expect(refuses({ pins: both }, leaf)).toBe(false);
});

test("a chain has at most so many authorities between, each of which has signed the one before, and ends at a root", () => {
  expect(refuses({ maxIntermediates: 1 }, leaf, between, root)).toBe(false);
  expect(refuses({ maxIntermediates: 0 }, leaf, between, root)).toBe(true);
  expect(refuses({ maxIntermediates: 0 }, between, root)).toBe(false);
  expect(refuses({ maxIntermediates: 0 }, leaf, root)).toBe(true);
  expect(refuses({ maxIntermediates: 5 }, leaf, between)).toBe(true);
});

test("a list that has expired refuses what its authority has issued, and nothing else", () => {
  const authorities: Secret = {
    name: "secret/ca",
    from: { kind: "Test", name: "test", field: "" },
    fingerprint: "0".repeat(64),
    content: { kind: "authorities", certificates: root, revocationLists: list },
  };
  const held = Date.parse("2026-11-26T00:00:00Z");
  const later = Date.parse("2026-11-28T00:00:00Z");
  const checks = new PeerChecks({}, [], authorities, held);
  expect(checks.wantsChain).toBe(true);
  expect(checks.refuses(peer(leaf, between, root), held)).toBe(false);
  expect(checks.refuses(peer(leaf, between, root), later)).toBe(true);
  expect(checks.refuses(peer(leaf), later)).toBe(false);
  expect(() => new PeerChecks({}, [], authorities, later)).toThrow(
    "revocationLists of secret/ca: list 1 of 1 has expired",
  );
});

test("the common name is the subject's single one", () => {
  expect(commonName(raw(leaf))).toBe("deep");
  expect(commonName(raw(leaf).subarray(0, 100))).toBeUndefined();
});
