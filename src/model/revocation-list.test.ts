// Which revocation lists can be used, and what is said of the others. Made by openssl, for authorities that live a hundred years;
// the lists hold from their making for two days.

import { expect, test } from "bun:test";
import { readRevocationLists } from "./revocation-list.ts";
import { authority } from "./testing/authority.ts";

const other = `-----BEGIN CERTIFICATE-----
MIIBhTCCASugAwIBAgIUFYcPVQeMiFSK5qEvviHboEYKRKowCgYIKoZIzj0EAwIw
EDEOMAwGA1UEAwwFb3RoZXIwHhcNMjYxMTI1MTYzNzA2WhcNMjYxMTI3MTYzNzA2
WjAQMQ4wDAYDVQQDDAVvdGhlcjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABDvl
vBiADKdNyX3LwghY5nrindcsq+SuWTx07YvfBLbXsbSAcHNcxn2OWt9FqfHDqHVF
533vbfAKdI/QcvhwoF2jYzBhMB0GA1UdDgQWBBTvZydM/+kJC9Jl5t+Xvomw6I1P
hjAfBgNVHSMEGDAWgBTvZydM/+kJC9Jl5t+Xvomw6I1PhjAOBgNVHQ8BAf8EBAMC
AQYwDwYDVR0TAQH/BAUwAwEB/zAKBggqhkjOPQQDAgNIADBFAiEAmW3sU8Kd4WA8
/x2qjQK9Rg8iSrDN5UMt9u9UCVB4284CIATN7xcThLKA9rWWB0azbnKFg0enobMA
hWRvnOOGEd4x
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
/** While the list holds. */
const now = Date.parse("2026-11-26T00:00:00Z");
const problem = (text: string, authorities = authority, at = now) => {
  try {
    readRevocationLists(text, authorities, at);
    return "none";
  } catch (error) {
    return (error as Error).message;
  }
};

test("a list of one of the authorities is taken, and tells until when it holds", () => {
  const [one] = readRevocationLists(list, other + authority, now);
  expect(new Date(one!.nextUpdate).toISOString()).toBe("2026-11-27T16:37:06.000Z");
  expect(one!.pem).toBe(list.trim());
});

test("a list that is empty, cut off, or no list is named", () => {
  expect(problem("")).toStartWith("holds no PEM revocation list");
  expect(problem(list.slice(0, 200))).toContain("one that is cut off");
  expect(problem(list + authority)).toContain("holds something else");
  const bytes = Buffer.from(list.replace(/-----.*-----/g, ""), "base64");
  const pem = (der: Buffer) => `-----BEGIN X509 CRL-----\n${der.toString("base64")}\n-----END X509 CRL-----\n`;
  expect(problem(list + pem(bytes.subarray(0, 100)))).toBe("list 2 of 2 cannot be parsed");
  // No byte of it may change, wherever it is.
  for (let at = 0; at < bytes.length; at++) {
    const changed = Buffer.from(bytes);
    changed[at]! ^= 0x01;
    expect(problem(pem(changed))).not.toBe("none");
  }
});

test("a list of another issuer, or by another key, is refused", () => {
  expect(problem(list, other)).toContain("is of an issuer that is none of the authorities: add its certificate");
});

test("a list is refused before and after its time", () => {
  expect(problem(list, authority, now - 86_400_000)).toContain("holds only from 2026-11-25T16:37:06.000Z on");
  expect(problem(list, authority, now + 2 * 86_400_000)).toContain("has expired on 2026-11-27T16:37:06.000Z: fetch");
});
