// What is looked at of a peer's certificate after a handshake whose chain was verified: pins, how long the chain is, and whether the
// revocation lists that it was verified with are still of today, which a resumed session does not ask. For clients and for backends.

import { createHash, X509Certificate } from "node:crypto";
import type { DetailedPeerCertificate, PeerCertificate } from "node:tls";
import { certificateParts } from "../../base/der.ts";
import type { Secret } from "../../model/model.ts";
import { type PeerDemands, pinDigits } from "../../model/peer-demands.ts";
import { type RevocationList, readRevocationLists } from "../../model/revocation-list.ts";

/** More than a library builds. */
const longestChain = 24;

export class PeerChecks {
  readonly #certificates: ReadonlySet<string>;
  readonly #keys: ReadonlySet<string>;
  readonly #maxIntermediates: number | undefined;
  /** Fingerprints of the certificates at which a chain may end. */
  readonly #roots: ReadonlySet<string>;
  readonly #lists: readonly RevocationList[];
  /** When the first list expires. */
  readonly #fresh: number;

  /** `roots` in PEM. Throws an Error that says which certificate or revocation list cannot be used. */
  constructor(
    demands: PeerDemands,
    roots: readonly string[],
    authorities: Secret | undefined,
    now: number = Date.now(),
  ) {
    const digits = (kind: string) =>
      (demands.pins ?? []).filter((pin) => pin.kind === kind).map((pin) => pinDigits(pin)!);
    this.#certificates = new Set(digits("certificate"));
    this.#keys = new Set(digits("key"));
    this.#maxIntermediates = demands.maxIntermediates;
    this.#roots = new Set(
      demands.maxIntermediates === undefined ? [] : roots.map((pem) => new X509Certificate(pem).fingerprint256),
    );
    this.#lists = revocationsOf(authorities, now);
    this.#fresh = Math.min(...this.#lists.map(({ nextUpdate }) => nextUpdate));
  }

  /** The lists for the library, in PEM. */
  get lists(): string[] {
    return this.#lists.map(({ pem }) => pem);
  }

  /** Whether a peer may not go on. `peer` is its certificate, with its issuers where {@link wantsChain}. */
  refuses(peer: PeerCertificate | DetailedPeerCertificate, now: number = Date.now()): boolean {
    return !this.#isPinned(peer.raw) || this.#isTooLong(peer) || this.#isStale(peer, now);
  }

  get wantsChain(): boolean {
    return this.#maxIntermediates !== undefined || this.#lists.length > 0;
  }

  #isPinned(raw: Buffer): boolean {
    if (this.#certificates.size === 0 && this.#keys.size === 0) return true;
    const sha256 = (bytes: Buffer) => createHash("sha256").update(bytes).digest("hex");
    if (this.#certificates.size > 0 && this.#certificates.has(sha256(raw))) return true;
    if (this.#keys.size === 0) return false;
    const key = new X509Certificate(raw).publicKey.export({ type: "spki", format: "der" });
    return this.#keys.has(sha256(key));
  }

  /**
   * The library links what the peer sent by names alone, so that each signature is looked at again: no stray certificate of the peer's
   * makes a chain shorter than the one that was verified.
   */
  #isTooLong(peer: PeerCertificate | DetailedPeerCertificate): boolean {
    if (this.#maxIntermediates === undefined) return false;
    const chain = chainOf(peer).map((raw) => new X509Certificate(raw));
    if (chain.length === 0 || !this.#roots.has(chain.at(-1)!.fingerprint256)) return true;
    if (chain.length - 2 > this.#maxIntermediates) return true;
    return chain.some((one, i) => i > 0 && !chain[i - 1]!.verify(one.publicKey));
  }

  /** Where a list of one of the chain's issuers has expired. */
  #isStale(peer: PeerCertificate | DetailedPeerCertificate, now: number): boolean {
    if (now < this.#fresh) return false;
    const stale = new Set(this.#lists.filter(({ nextUpdate }) => nextUpdate <= now).map(({ issuer }) => issuer));
    return chainOf(peer).some((raw) => {
      const issuer = certificateParts(raw)?.issuer.whole.toString("hex");
      return issuer === undefined || stale.has(issuer);
    });
  }
}

/** The usable lists beside authorities; none: what is revoked is not asked. */
export function revocationsOf(authorities: Secret | undefined, now?: number): readonly RevocationList[] {
  const content = authorities?.content;
  if (content?.kind !== "authorities" || content.revocationLists === undefined) return [];
  try {
    return readRevocationLists(content.revocationLists, content.certificates, now);
  } catch (error) {
    throw new Error(`revocationLists of ${authorities!.name}: ${(error as Error).message}`);
  }
}

/** In DER, the peer's first. */
function chainOf(peer: PeerCertificate | DetailedPeerCertificate): Buffer[] {
  const chain: Buffer[] = [];
  let at: Partial<DetailedPeerCertificate> | undefined = peer;
  while (at?.raw && chain.length < longestChain && !chain.some((one) => one.equals(at!.raw!))) {
    chain.push(at.raw);
    at = at.issuerCertificate;
  }
  return chain;
}
