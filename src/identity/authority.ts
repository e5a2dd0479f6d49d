// A local certificate authority: one self-signed ECDSA P-256 certificate that signs server, client and workload certificates
// (RFC 5280; SPIFFE X.509-SVID for workloads). It is no cert-manager: Issuers and Certificates are built on top of it.
// Nothing is kept here but the authority's own key; `authority-store.ts` keeps it, and what it issued, on disk.

import { createPrivateKey, randomBytes, X509Certificate } from "node:crypto";
import { type Clock, systemClock } from "../base/clock.ts";
import { UserError } from "../base/errors.ts";
import { ipFamily } from "../base/ip.ts";
import type { Extension, JsonGeneralNames } from "./x509.ts";

/** A certificate and its key, in PEM. The key is a secret: it goes into a file with mode 0600 or a Secret, never into a log. */
export interface KeyPair {
  /** The certificate; the authority's own is not appended, as clients trust it already. */
  readonly certificate: string;
  /** PKCS #8. */
  readonly privateKey: string;
}

export interface IssueOptions {
  /** How long the certificate is valid, in milliseconds. Cut at the end of the authority's own certificate. */
  readonly lifetime?: number;
}

export interface Authority {
  /** The authority's own certificate in PEM: what `curl --cacert` and `certificate-authority-data` take. */
  readonly certificate: string;
  /** Its private key in PEM, to be kept. */
  readonly privateKey: string;
  /** For a server: `names` are DNS names (`*.example.com` too) and IP addresses, at least one. Valid 397 days unless told otherwise. */
  issueServer(names: readonly string[], options?: IssueOptions): Promise<KeyPair>;
  /** For a client of the API server: the user is the common name, groups are organizations. Valid one year unless told otherwise. */
  issueClient(user: string, groups?: readonly string[], options?: IssueOptions): Promise<KeyPair>;
  /** For a workload: `uri` is its SPIFFE ID (`spiffe://cluster.local/ns/shop/sa/cart`). Valid 24 hours unless told otherwise. */
  issueWorkload(uri: string, options?: IssueOptions): Promise<KeyPair>;
}

const day = 24 * 60 * 60 * 1000;
/** Ten years: kubeadm's lifetime of a cluster's authority. */
const authorityLifetime = 3650 * day;
/** 397 days: the longest that public trust programmes accepted when this was written, so that no client refuses it. */
const serverLifetime = 397 * day;
const clientLifetime = 365 * day;
/** Istio's default for workload certificates. */
const workloadLifetime = day;
/** Certificates are valid from a little before now, so that a machine whose clock runs behind takes them. */
const clockSkew = 5 * 60 * 1000;

const keyAlgorithm = { name: "ECDSA", namedCurve: "P-256" } as const;
const signatureAlgorithm = { name: "ECDSA", hash: "SHA-256" } as const;

/** Makes a new authority whose certificate carries `name` as its common name. */
export async function createAuthority(name: string, clock: Clock = systemClock): Promise<Authority> {
  const x509 = await import("./x509.ts");
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: [{ CN: [name] }],
    keys,
    notBefore: new Date(clock.now() - clockSkew),
    notAfter: new Date(clock.now() + authorityLifetime),
    signingAlgorithm: signatureAlgorithm,
    extensions: [
      new x509.BasicConstraintsExtension(true, undefined, true),
      new x509.KeyUsagesExtension(
        x509.KeyUsageFlags.keyCertSign | x509.KeyUsageFlags.cRLSign | x509.KeyUsageFlags.digitalSignature,
        true,
      ),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return loadAuthority(
    { certificate: pem("CERTIFICATE", certificate.rawData), privateKey: await exportKey(keys) },
    clock,
  );
}

/**
 * An authority from what was kept of it. Cheap: the certificate is parsed, the key is imported at the first issue.
 * Throws a UserError when the two are not PEM, do not belong together, or the certificate is no authority's or has expired.
 */
export function loadAuthority(kept: KeyPair, clock: Clock = systemClock): Authority {
  const own = parseAuthority(kept, clock);
  const notAfter = Date.parse(own.validTo);
  let signingKey: Promise<CryptoKey> | undefined;

  async function issue(wanted: {
    readonly subject: readonly Record<string, string[]>[];
    readonly names: JsonGeneralNames;
    readonly usage: readonly ("serverAuth" | "clientAuth")[];
    readonly lifetime: number;
  }): Promise<KeyPair> {
    const x509 = await import("./x509.ts");
    signingKey ??= importSigningKey(kept.privateKey);
    const issuer = new x509.X509Certificate(new Uint8Array(own.raw));
    const keys = await generateKeys();
    const extensions: Extension[] = [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension(wanted.usage.map((usage) => x509.ExtendedKeyUsage[usage])),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ];
    if (wanted.names.length > 0) {
      // RFC 5280 4.2.1.6: critical when the subject is empty.
      extensions.push(new x509.SubjectAlternativeNameExtension(wanted.names, wanted.subject.length === 0));
    }
    const certificate = await x509.X509CertificateGenerator.create({
      serialNumber: serialNumber(),
      subject: [...wanted.subject],
      issuer: issuer.subjectName,
      publicKey: keys.publicKey,
      signingKey: await signingKey,
      notBefore: new Date(clock.now() - clockSkew),
      notAfter: new Date(Math.min(clock.now() + wanted.lifetime, notAfter)),
      signingAlgorithm: signatureAlgorithm,
      extensions,
    });
    return { certificate: pem("CERTIFICATE", certificate.rawData), privateKey: await exportKey(keys) };
  }

  return {
    certificate: kept.certificate,
    privateKey: kept.privateKey,
    async issueServer(names, options = {}) {
      const [first] = names;
      if (first === undefined) throw new UserError("a server certificate needs at least one DNS name or IP address");
      return issue({
        // A common name is at most 64 characters (RFC 5280 A.1); names count from the SAN alone.
        subject: [{ CN: [first.length <= 64 ? first : "server"] }],
        names: names.map((name) => ({ type: ipFamily(name) === undefined ? "dns" : "ip", value: name })),
        usage: ["serverAuth"],
        lifetime: options.lifetime ?? serverLifetime,
      });
    },
    async issueClient(user, groups = [], options = {}) {
      return issue({
        subject: [...groups.map((group) => ({ O: [group] })), { CN: [user] }],
        names: [],
        usage: ["clientAuth"],
        lifetime: options.lifetime ?? clientLifetime,
      });
    },
    async issueWorkload(uri, options = {}) {
      if (!/^spiffe:\/\/[a-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/.test(uri)) {
        throw new UserError(`"${uri}" is no SPIFFE ID`, { remedy: "use spiffe://TRUST-DOMAIN/PATH" });
      }
      return issue({
        subject: [],
        names: [{ type: "url", value: uri }],
        usage: ["serverAuth", "clientAuth"],
        lifetime: options.lifetime ?? workloadLifetime,
      });
    },
  };
}

function parseAuthority(kept: KeyPair, clock: Clock): X509Certificate {
  let own: X509Certificate;
  let matches: boolean;
  try {
    own = new X509Certificate(kept.certificate);
    matches = own.checkPrivateKey(createPrivateKey(kept.privateKey));
  } catch (cause) {
    throw new UserError("the certificate authority cannot be read: its certificate or its key is not PEM", {
      remedy: "restore the two files, or remove both to have a new authority made",
      cause,
    });
  }
  if (!matches) throw new UserError("the certificate authority's key does not belong to its certificate");
  if (!own.ca)
    throw new UserError("the certificate authority's certificate is not one of an authority (CA:TRUE is missing)");
  if (Date.parse(own.validTo) <= clock.now()) {
    throw new UserError(`the certificate authority expired on ${new Date(own.validTo).toISOString()}`, {
      remedy: "remove its certificate and key to have a new authority made",
    });
  }
  return own;
}

async function generateKeys(): Promise<CryptoKeyPair> {
  return (await crypto.subtle.generateKey(keyAlgorithm, true, ["sign", "verify"])) as CryptoKeyPair;
}

async function exportKey(keys: CryptoKeyPair): Promise<string> {
  return pem("PRIVATE KEY", await crypto.subtle.exportKey("pkcs8", keys.privateKey));
}

function importSigningKey(privateKey: string): Promise<CryptoKey> {
  const der = createPrivateKey(privateKey).export({ type: "pkcs8", format: "der" });
  return crypto.subtle.importKey("pkcs8", new Uint8Array(der), keyAlgorithm, false, ["sign"]);
}

/** 128 random bits, positive: unique without a counter to keep (RFC 5280 4.1.2.2 allows 20 octets). */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes[0] = (bytes[0]! & 0x7f) | 0x40;
  return bytes.toString("hex");
}

function pem(label: string, der: ArrayBuffer): string {
  const lines =
    Buffer.from(der)
      .toString("base64")
      .match(/.{1,64}/g) ?? [];
  return `-----BEGIN ${label}-----\n${lines.join("\n")}\n-----END ${label}-----\n`;
}
