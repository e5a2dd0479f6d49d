import { describe, expect, test } from "bun:test";
import { generateKeyPairSync } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkCertificate } from "./certificate.ts";

const { certificate, key } = selfSigned();
const otherKey = generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey.export({ type: "pkcs8", format: "pem" });

function selfSigned(): { certificate: string; key: string } {
  const directory = mkdtempSync(join(tmpdir(), "fl-t-certificate-"));
  const [cert, key] = [join(directory, "c"), join(directory, "k")];
  // biome-ignore format: one command
  Bun.spawnSync(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "10",
    "-subj", "/CN=a", "-addext", "subjectAltName=DNS:a.example.com,DNS:*.b.example.com,IP:10.0.0.1", "-keyout", key, "-out", cert]);
  const read = { certificate: readFileSync(cert, "utf8"), key: readFileSync(key, "utf8") };
  rmSync(directory, { recursive: true });
  return read;
}

const reason = (cert: string, k: string, now?: number) => {
  const check = checkCertificate(cert, k, now);
  return check.ok ? "ok" : check.reason;
};

describe("the content of a TLS Secret", () => {
  test("is good when certificate and key belong together, and says its names", () => {
    const check = checkCertificate(certificate, key);
    expect(check).toMatchObject({ ok: true, names: ["a.example.com", "*.b.example.com", "10.0.0.1"] });
  });

  test("is refused with a clause that says what is wrong", () => {
    const day = 24 * 3600 * 1000;
    expect(reason("hello", key)).toContain("tls.crt holds no PEM certificate");
    expect(reason(certificate.replace(/M/g, "A"), key)).toContain("certificate 1 of 1 cannot be parsed");
    expect(reason(certificate, "hello")).toContain("tls.key holds no PEM private key");
    expect(reason(certificate, "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n")).toContain(
      "cannot be parsed",
    );
    expect(reason(certificate, otherKey as string)).toContain("does not belong");
    expect(reason(certificate, key, Date.now() + 11 * day)).toContain("expired on");
    expect(reason(certificate, key, Date.now() - day)).toContain("not valid before");
  });
});
