// Who a client is, by the certificate that it has shown and that was verified: its names, whether they are wanted, and what
// backends are told of them in `x-forwarded-client-cert` (Envoy's format, so that what reads Envoy's reads ours).

import type { X509Certificate } from "node:crypto";
import type { TlsContext } from "../../model/model.ts";
import { stringMatches } from "../../model/value-match.ts";
import { commonName, subjectNames } from "./subject-names.ts";

type Clients = NonNullable<TlsContext["clients"]>;

export interface ClientIdentity {
  /** For logs and filters: the first URI, else the first DNS name, else the subject. */
  readonly name: string;
  /** RFC 4514: the most specific part first. */
  readonly subject: string;
  readonly uris: readonly string[];
  readonly dns: readonly string[];
  /** Of the subject; undefined: none, or not a single one. */
  readonly commonName: string | undefined;
  /** SHA-256 of the certificate, its serial number, in hexadecimal digits, and who issued it. For logs. */
  readonly hash: string;
  readonly serial: string;
  readonly issuer: string;
  /** Value of `x-forwarded-client-cert`; undefined: backends are told nothing. */
  readonly told: string | undefined;
}

/** Of a certificate that was verified. */
export function clientIdentity(certificate: X509Certificate, tell: Clients["tell"]): ClientIdentity {
  const { dns, uris } = subjectNames(certificate.raw);
  const subject = distinguishedName(certificate.subject);
  const hash = certificate.fingerprint256.replaceAll(":", "").toLowerCase();
  const parts: string[] = [];
  // In Envoy's order, whatever the order of the list.
  if (tell?.includes("hash")) parts.push(`Hash=${hash}`);
  if (tell?.includes("cert")) parts.push(`Cert="${encodeURIComponent(certificate.toString())}"`);
  if (tell?.includes("subject")) parts.push(`Subject="${subject}"`);
  if (tell?.includes("uri")) parts.push(...(uris.length === 0 ? ["URI="] : uris.map((uri) => `URI=${plain(uri)}`)));
  if (tell?.includes("dns")) parts.push(...dns.map((name) => `DNS=${plain(name)}`));
  return {
    name: uris[0] ?? dns[0] ?? subject,
    subject,
    uris,
    dns,
    commonName: commonName(certificate.raw),
    hash,
    serial: certificate.serialNumber.toLowerCase(),
    issuer: distinguishedName(certificate.issuer),
    told: parts.length > 0 ? parts.join(";") : undefined,
  };
}

/** Whether one of the names that the chain wants is the client's. */
export function isWanted({ dns, uris, commonName }: ClientIdentity, names: Clients["names"]): boolean {
  if (!names || names.length === 0) return true;
  const of = { dns, uri: uris, cn: commonName === undefined ? [] : [commonName] };
  return names.some(({ kind, match }) => of[kind].some((name) => stringMatches(match, name)));
}

/**
 * Values with a separator in them are quoted. Readers disagree about backslashes before a quote, and a name must not become
 * two fields for one of them: neither quotes nor backslashes are left inside.
 */
function plain(uri: string): string {
  const safe = uri.replace(/["\\]/g, (one) => `%${one.charCodeAt(0).toString(16).toUpperCase()}`);
  return /[,;=]/.test(safe) ? `"${safe}"` : safe;
}

/** RFC 4514: the most specific part first. */
function distinguishedName(lines: string): string {
  return visible(lines.split("\n").reverse().join(","));
}

/** What is not visible ASCII as `\XX` of its UTF-8 bytes (RFC 4514 §2.4), and so quotes and backslashes that were escaped. */
function visible(subject: string): string {
  const hex = (one: string) =>
    [...Buffer.from(one)].map((byte) => `\\${byte.toString(16).padStart(2, "0").toUpperCase()}`).join("");
  return subject
    .replace(/\\(["\\])/g, (_, escaped: string) => hex(escaped))
    .replace(/[^\x20-\x7e]|"/gu, (one) => hex(one));
}
