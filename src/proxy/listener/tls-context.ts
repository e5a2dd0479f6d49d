// The TLS contexts of a listener's chains, on node's `tls` (BoringSSL): a certificate with its key, what the chain permits, and
// whom it asks of clients. One context serves all connections of its kind, so that what it has handed out (session tickets) is
// good as long as neither certificate nor policy changes, across any other change of configuration.

import { X509Certificate } from "node:crypto";
import tls from "node:tls";
import { messageOf } from "../../base/errors.ts";
import type { Secret, TlsContext } from "../../model/model.ts";
import { revocationsOf } from "./peer-checks.ts";

/** A certificate ready to serve. */
export interface Certificate {
  /** Patterns in lower case. */
  readonly names: readonly string[];
  readonly context: tls.SecureContext;
}

/** TLS 1.2 with forward secrecy and AEAD only (RFC 9325 §4.2); TLS 1.3 has nothing else. */
const defaultCiphers: readonly string[] = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-CHACHA20-POLY1305",
];

const certificateBlock = /-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g;

/** Makes a certificate of a secret. Throws an Error that names what does not fit; its text holds no key material. */
export function loadCertificate(secret: Secret, config: TlsContext, authorities?: Secret): Certificate {
  if (secret.content.kind !== "certificate") {
    throw new Error(`${secret.name} holds ${secret.content.kind}, not a certificate`);
  }
  const { certificate, privateKey } = secret.content;
  let names: string[];
  try {
    const leaf = new X509Certificate(certificate);
    names = (leaf.subjectAltName ?? "")
      .split(", ")
      .filter((part) => part.startsWith("DNS:"))
      .map((part) => part.slice(4).toLowerCase());
  } catch (error) {
    throw new Error(`the certificate of ${secret.name} cannot be parsed: ${messageOf(error)}`);
  }
  const ciphers = cipherList(config.ciphers);
  const ca = authorities && loadAuthorities(authorities);
  const crl = revocationsOf(authorities).map(({ pem }) => pem);
  try {
    const context = tls.createSecureContext({
      cert: certificate,
      key: privateKey.reveal(),
      minVersion: config.minVersion === "1.3" ? "TLSv1.3" : "TLSv1.2",
      maxVersion: config.maxVersion === "1.2" ? "TLSv1.2" : "TLSv1.3",
      ciphers,
      ...(ca ? { ca: [...ca] } : {}),
      // With lists, the library wants one of each authority of a chain, and takes none that has expired.
      ...(crl.length > 0 ? { crl } : {}),
    });
    return { names, context };
  } catch (error) {
    throw new Error(`the key of ${secret.name} does not fit its certificate: ${messageOf(error)}`);
  }
}

/** As the library takes them. Throws an Error that names the one that it does not have. */
export function cipherList(ciphers: readonly string[] | undefined): string {
  // The library takes a list with a name that it does not know, and leaves that one out.
  for (const name of ciphers ?? []) {
    try {
      tls.createSecureContext({ ciphers: name });
    } catch {
      throw new Error(`${name} is no cipher that this proxy has; there are ${defaultCiphers.join(", ")} and more`);
    }
  }
  return (ciphers ?? defaultCiphers).join(":");
}

/** The certificates of an authorities secret, in PEM. Throws an Error that says which cannot be read, or that there are none. */
export function loadAuthorities(secret: Secret): readonly string[] {
  if (secret.content.kind !== "authorities") {
    throw new Error(`${secret.name} holds ${secret.content.kind}, not authorities`);
  }
  const blocks = secret.content.certificates.match(certificateBlock);
  if (!blocks) throw new Error(`the authorities ${secret.name} are empty: no client could be verified`);
  for (const [index, block] of blocks.entries()) {
    try {
      new X509Certificate(block);
    } catch (error) {
      throw new Error(
        `authority ${index + 1} of ${blocks.length} of ${secret.name} cannot be parsed: ${messageOf(error)}`,
      );
    }
  }
  return blocks;
}

/** What tells contexts of one certificate apart. */
export function contextKey(secret: Secret, config: TlsContext, authorities: Secret | undefined): string {
  const { minVersion, maxVersion, ciphers, clients } = config;
  return `${secret.fingerprint} ${JSON.stringify([minVersion, maxVersion, ciphers, clients, authorities?.fingerprint])}`;
}
