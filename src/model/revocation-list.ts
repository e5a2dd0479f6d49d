// Certificate revocation lists (RFC 5280 §5) beside authorities: whether they can be used, in words, before a proxy's TLS library
// fails at them, and until when. Whether a certificate is on one is what the library looks at, in the handshake.

import { verify, X509Certificate } from "node:crypto";
import { certificateParts, type DerElement, derElement, derElements, derSequence, derTag } from "../base/der.ts";

export interface RevocationList {
  readonly pem: string;
  /** The issuer's name in DER, hexadecimal. */
  readonly issuer: string;
  /** Milliseconds since the epoch; from then on it says nothing any more. */
  readonly nextUpdate: number;
}

const block = /-----BEGIN X509 CRL-----([A-Za-z0-9+/=\s]+?)-----END X509 CRL-----/g;

/** Signatures that are checked, with their hash; null where the algorithm has its own. Keys are OIDs in hexadecimal. */
const signatures: Readonly<Record<string, string | null>> = {
  "2a8648ce3d040302": "sha256",
  "2a8648ce3d040303": "sha384",
  "2a8648ce3d040304": "sha512",
  "2a864886f70d01010b": "sha256",
  "2a864886f70d01010c": "sha384",
  "2a864886f70d01010d": "sha512",
  "2b6570": null,
};
/** 2.5.29.27, of a list that holds only what is new since another. */
const deltaIndicator = "551d1b";

/**
 * Lists of a text in PEM that authorities (PEM, too) have issued. Throws an Error that says which list cannot be used, why, and what to
 * do; `now` is in milliseconds since the epoch.
 */
export function readRevocationLists(text: string, authorities: string, now: number = Date.now()): RevocationList[] {
  const blocks = [...text.matchAll(block)];
  const begun = text.match(/-----BEGIN /g)?.length ?? 0;
  if (blocks.length === 0 || begun !== blocks.length)
    throw new Error(
      begun > blocks.length
        ? "holds something else than PEM revocation lists, or one that is cut off"
        : "holds no PEM revocation list (no BEGIN X509 CRL block); leave it out for none",
    );
  const issuers = (authorities.match(/-----BEGIN CERTIFICATE-----[\s\S]+?-----END CERTIFICATE-----/g) ?? []).map(
    (pem) => new X509Certificate(pem),
  );
  return blocks.map(([pem, base64], index) => {
    try {
      return readList(pem, Buffer.from(base64!, "base64"), issuers, now);
    } catch (error) {
      throw new Error(`list ${index + 1} of ${blocks.length} ${(error as Error).message}`);
    }
  });
}

function readList(pem: string, der: Buffer, issuers: readonly X509Certificate[], now: number): RevocationList {
  const [tbs, algorithm, signature] = derSequence(der) ?? [];
  const parts = tbs?.tag === derTag.sequence ? derElements(tbs.body) : undefined;
  if (!parts || !algorithm || signature?.tag !== derTag.bits || derElement(der)?.after !== der.length)
    throw new Error("cannot be parsed");
  // version (an integer, which the first version leaves out), signature, issuer, thisUpdate, nextUpdate, certificates, extensions [0]
  const first = parts[0]?.tag === 0x02 ? 1 : 0;
  // Both say how it is signed, and must agree (§5.1.2.2).
  if (!parts[first]?.whole.equals(algorithm.whole) || signature.body[0] !== 0) throw new Error("cannot be parsed");
  const name = parts[first + 1];
  const thisUpdate = timeOf(parts[first + 2]);
  const nextUpdate = timeOf(parts[first + 3]);
  if (name?.tag !== derTag.sequence || thisUpdate === undefined) throw new Error("cannot be parsed");
  if (nextUpdate === undefined)
    throw new Error("does not say until when it holds (nextUpdate): have one issued that does");
  const issuer = name.whole.toString("hex");
  const named = issuers.filter((one) => certificateParts(one.raw)?.subject.whole.toString("hex") === issuer);
  if (named.length === 0)
    throw new Error("is of an issuer that is none of the authorities: add its certificate, or take the list out");
  const oid = derElement(algorithm.body)?.body.toString("hex") ?? "";
  const hash = signatures[oid];
  if (hash === undefined)
    throw new Error("is signed in a way that is not taken: it must be ECDSA or RSA (PKCS #1) with SHA-2, or Ed25519");
  if (!named.some((one) => isSigned(tbs!.whole, hash, one, signature.body.subarray(1))))
    throw new Error("is not signed by the authority that it names: take the list of the authority that is there");
  if (isDelta(parts)) throw new Error("is a delta list, which says nothing alone: take the complete one");
  if (now < thisUpdate) throw new Error(`holds only from ${new Date(thisUpdate).toISOString()} on`);
  if (now >= nextUpdate)
    throw new Error(`has expired on ${new Date(nextUpdate).toISOString()}: fetch the authority's new one`);
  return { pem, issuer, nextUpdate };
}

function isSigned(bytes: Buffer, hash: string | null, issuer: X509Certificate, signature: Buffer): boolean {
  try {
    return verify(hash, bytes, issuer.publicKey, signature);
  } catch {
    return false;
  }
}

function isDelta(parts: readonly DerElement[]): boolean {
  const wrapped = parts.find(({ tag }) => tag === 0xa0);
  const extensions = (wrapped && derSequence(wrapped.body)) ?? [];
  return extensions.some(({ body }) => derElement(body)?.body.toString("hex") === deltaIndicator);
}

/** UTCTime or GeneralizedTime as RFC 5280 §5.1.2.4 wants them: with seconds, in UTC. */
function timeOf(element: DerElement | undefined): number | undefined {
  if (element?.tag !== 0x17 && element?.tag !== 0x18) return undefined;
  const text = element.body.toString("latin1");
  const digits = element.tag === 0x18 ? text : `${Number(text.slice(0, 2)) < 50 ? "20" : "19"}${text}`;
  const at = /^(\d{4})(\d\d)(\d\d)(\d\d)(\d\d)(\d\d)Z$/.exec(digits);
  if (!at) return undefined;
  const time = Date.parse(`${at[1]}-${at[2]}-${at[3]}T${at[4]}:${at[5]}:${at[6]}Z`);
  return Number.isNaN(time) ? undefined : time;
}
