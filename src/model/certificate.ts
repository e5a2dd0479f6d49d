// Whether the content of a TLS Secret can serve: the checks that a proxy's TLS library would fail at, made beforehand and said
// in words, so that a dialect can put them into a condition. It judges no trust chain: that is for clients to do.

import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";

export type CertificateCheck =
  | {
      readonly ok: true;
      /** DNS names and IP addresses of the leaf certificate, as they are written there. */
      readonly names: readonly string[];
      /** Milliseconds since the epoch. */
      readonly notAfter: number;
    }
  | { readonly ok: false; readonly reason: string };

/**
 * Checks a certificate chain and its key, both PEM (a Secret's `tls.crt` and `tls.key`, decoded). `now` is in milliseconds since
 * the epoch. The reason is a clause that follows "the Secret …": it never contains key material.
 */
export function checkCertificate(certificatePem: string, keyPem: string, now: number = Date.now()): CertificateCheck {
  const blocks = certificatePem.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g);
  if (!blocks) return bad("tls.crt holds no PEM certificate (no BEGIN CERTIFICATE block)");
  let leaf: X509Certificate | undefined;
  for (const [index, block] of blocks.entries()) {
    try {
      const parsed = new X509Certificate(block);
      leaf ??= parsed;
    } catch {
      return bad(`tls.crt: certificate ${index + 1} of ${blocks.length} cannot be parsed`);
    }
  }
  if (!/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(keyPem)) {
    return bad("tls.key holds no PEM private key (no BEGIN PRIVATE KEY block)");
  }
  let key: KeyObject;
  try {
    key = createPrivateKey(keyPem);
  } catch {
    return bad(
      /ENCRYPTED/.test(keyPem)
        ? "tls.key is encrypted with a passphrase; store it without"
        : "tls.key cannot be parsed",
    );
  }
  const first = leaf!;
  if (!first.checkPrivateKey(key)) return bad("tls.key does not belong to the first certificate of tls.crt");
  const notBefore = Date.parse(first.validFrom);
  const notAfter = Date.parse(first.validTo);
  if (now < notBefore) return bad(`the certificate is not valid before ${new Date(notBefore).toISOString()}`);
  if (now >= notAfter) return bad(`the certificate expired on ${new Date(notAfter).toISOString()}`);
  return { ok: true, names: certificateNames(first), notAfter };
}

function certificateNames(certificate: X509Certificate): readonly string[] {
  return (certificate.subjectAltName ?? "")
    .split(", ")
    .filter((part) => part.startsWith("DNS:") || part.startsWith("IP Address:"))
    .map((part) => part.slice(part.indexOf(":") + 1));
}

function bad(reason: string): CertificateCheck {
  return { ok: false, reason };
}
