// The names in a certificate's subjectAltName (RFC 5280 §4.2.1.6), read from its DER bytes: the text form that libraries give has
// been a way to smuggle names in (a comma in a URI), and who a client is must not depend on it. Strict; never throws.

/** DNS names and URIs, in their order. */
export interface SubjectNames {
  readonly dns: readonly string[];
  readonly uris: readonly string[];
}

interface Element {
  readonly tag: number;
  readonly body: Buffer;
  /** Offset behind it. */
  readonly after: number;
}

const sequence = 0x30;
const octets = 0x04;
const objectId = 0x06;
const extensionsTag = 0xa3;
/** 2.5.29.17 */
const subjectAltName = Buffer.from([0x55, 0x1d, 0x11]);
const dnsTag = 0x82;
const uriTag = 0x86;

/** Names of a certificate in DER; none when it has none, or cannot be read. */
export function subjectNames(certificate: Buffer): SubjectNames {
  const none: SubjectNames = { dns: [], uris: [] };
  const outer = element(certificate, 0);
  const tbs = outer?.tag === sequence ? element(outer.body, 0) : undefined;
  if (tbs?.tag !== sequence) return none;
  const wrapped = elements(tbs.body)?.find(({ tag }) => tag === extensionsTag);
  const list = wrapped && element(wrapped.body, 0);
  const extensions = list && elements(list.body);
  for (const extension of extensions ?? []) {
    const parts = elements(extension.body);
    if (parts?.[0]?.tag !== objectId || !parts[0].body.equals(subjectAltName)) continue;
    const value = parts.at(-1)!;
    const names = value.tag === octets ? element(value.body, 0) : undefined;
    const found = names?.tag === sequence ? elements(names.body) : undefined;
    if (!found) return none;
    const ofTag = (wanted: number) => found.filter(({ tag }) => tag === wanted).map(({ body }) => body);
    const dns = ofTag(dnsTag);
    const uris = ofTag(uriTag);
    // IA5String without control characters: one name that is none makes all of them suspect.
    if (![...dns, ...uris].every((name) => /^[\x21-\x7e]+$/.test(name.toString("latin1")))) return none;
    return {
      dns: dns.map((name) => name.toString("latin1").toLowerCase()),
      uris: uris.map((name) => name.toString("latin1")),
    };
  }
  return none;
}

function elements(bytes: Buffer): Element[] | undefined {
  const list: Element[] = [];
  for (let at = 0; at < bytes.length; ) {
    const one = element(bytes, at);
    if (!one) return undefined;
    list.push(one);
    at = one.after;
  }
  return list;
}

function element(bytes: Buffer, at: number): Element | undefined {
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
  return after > bytes.length ? undefined : { tag, body: bytes.subarray(start, after), after };
}
