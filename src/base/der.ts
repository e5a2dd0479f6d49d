// Reading DER (X.690) as far as certificates and revocation lists need it: elements with their tags and bounds. Strict about
// lengths, never throws; what the elements mean is for the reader to know. It writes nothing and verifies nothing.

export interface DerElement {
  readonly tag: number;
  readonly body: Buffer;
  /** With tag and length. */
  readonly whole: Buffer;
  /** Offset behind it. */
  readonly after: number;
}

export const derTag = { boolean: 0x01, bits: 0x03, octets: 0x04, objectId: 0x06, sequence: 0x30, set: 0x31 } as const;

/** The element at an offset; undefined when there is none that is whole. Lengths up to 16 MiB. */
export function derElement(bytes: Buffer, at = 0): DerElement | undefined {
  if (bytes.length < at + 2) return undefined;
  const tag = bytes[at]!;
  let length = bytes[at + 1]!;
  let start = at + 2;
  if (length >= 0x80) {
    const size = length & 0x7f;
    if (size === 0 || size > 3 || bytes.length < start + size) return undefined;
    length = bytes.readUIntBE(start, size);
    start += size;
  }
  const after = start + length;
  if (after > bytes.length) return undefined;
  return { tag, body: bytes.subarray(start, after), whole: bytes.subarray(at, after), after };
}

/** All elements of a body; undefined when it does not end with one. */
export function derElements(bytes: Buffer): DerElement[] | undefined {
  const list: DerElement[] = [];
  for (let at = 0; at < bytes.length; ) {
    const one = derElement(bytes, at);
    if (!one) return undefined;
    list.push(one);
    at = one.after;
  }
  return list;
}

/** The elements of the sequence that the bytes are; undefined when they are none. */
export function derSequence(bytes: Buffer): DerElement[] | undefined {
  const outer = derElement(bytes);
  return outer?.tag === derTag.sequence ? derElements(outer.body) : undefined;
}

/** Parts of a certificate (RFC 5280 §4.1) as they are encoded. */
export interface CertificateParts {
  readonly issuer: DerElement;
  readonly subject: DerElement;
  readonly extensions: readonly DerElement[];
}

/** Undefined: it cannot be read. */
export function certificateParts(certificate: Buffer): CertificateParts | undefined {
  const tbs = derSequence(certificate)?.[0];
  const parts = tbs?.tag === derTag.sequence ? derElements(tbs.body) : undefined;
  if (!parts) return undefined;
  // version [0], which the first version leaves out; serial number, signature, issuer, validity, subject, key, …, extensions [3]
  const first = parts[0]?.tag === 0xa0 ? 1 : 0;
  const issuer = parts[first + 2];
  const subject = parts[first + 4];
  if (issuer?.tag !== derTag.sequence || subject?.tag !== derTag.sequence) return undefined;
  const wrapped = parts.find(({ tag }) => tag === 0xa3);
  const extensions = wrapped ? derSequence(wrapped.body) : [];
  return extensions && { issuer, subject, extensions };
}
