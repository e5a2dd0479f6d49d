// The names in a certificate's subjectAltName (RFC 5280 §4.2.1.6) and its common name, read from its DER bytes: the text form that
// libraries give has been a way to smuggle names in (a comma in a URI), and who a client is must not depend on it. Strict; never throws.

import { certificateParts, derElements, derSequence, derTag } from "../../base/der.ts";

/** DNS names and URIs, in their order. */
export interface SubjectNames {
  readonly dns: readonly string[];
  readonly uris: readonly string[];
}

/** 2.5.29.17 */
const subjectAltName = Buffer.from([0x55, 0x1d, 0x11]);
/** 2.5.4.3 */
const commonNameId = Buffer.from([0x55, 0x04, 0x03]);
const utf8Tag = 0x0c;
const printableTag = 0x13;
const asciiTag = 0x16;
const dnsTag = 0x82;
const uriTag = 0x86;

/** Names of a certificate in DER; none when it has none, or cannot be read. */
export function subjectNames(certificate: Buffer): SubjectNames {
  const none: SubjectNames = { dns: [], uris: [] };
  for (const extension of certificateParts(certificate)?.extensions ?? []) {
    const parts = derElements(extension.body);
    if (parts?.[0]?.tag !== derTag.objectId || !parts[0].body.equals(subjectAltName)) continue;
    const value = parts.at(-1)!;
    const found = value.tag === derTag.octets ? derSequence(value.body) : undefined;
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

/** The common name of its subject; undefined when there is none, or several, or one with control characters or not of UTF-8. */
export function commonName(certificate: Buffer): string | undefined {
  const found: string[] = [];
  for (const set of derElements(certificateParts(certificate)?.subject.body ?? Buffer.alloc(0)) ?? []) {
    for (const attribute of derElements(set.body) ?? []) {
      const [id, value] = derElements(attribute.body) ?? [];
      if (id?.tag !== derTag.objectId || !id.body.equals(commonNameId)) continue;
      if (value?.tag !== utf8Tag && value?.tag !== printableTag && value?.tag !== asciiTag) return undefined;
      found.push(value.body.toString("utf8"));
    }
  }
  return found.length === 1 && !/[\x00-\x1f\x7f\ufffd]/.test(found[0]!) ? found[0] : undefined;
}
