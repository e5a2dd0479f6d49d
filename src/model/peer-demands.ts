// What is demanded of a peer's certificate beside a good chain and its names, of clients and of backends alike: that it is one of
// those that are pinned (Envoy's verify_certificate_hash and verify_certificate_spki), and how long its chain may be.

import type { Problems } from "./problems.ts";
import type { Provenance } from "./provenance.ts";

export interface PeerDemands {
  /** One must fit; none: any certificate. */
  readonly pins?: readonly CertificatePin[];
  /**
   * The most authorities between the certificate and the root that it leads to: 0 is issued by the root. NGINX's verify depth with
   * OpenSSL of today; Envoy's `max_verify_depth` is one more. Absent: as many as the library takes.
   */
  readonly maxIntermediates?: number;
}

/** SHA-256 of the certificate in hexadecimal (colons may be between its bytes), or of its public key (SPKI) in base64. */
export interface CertificatePin {
  readonly kind: "certificate" | "key";
  readonly sha256: string;
}

/** More would be more than certificates' library takes. */
const maxIntermediates = 20;

/** A pin as its 64 hexadecimal digits in lower case; undefined when it is none. */
export function pinDigits({ kind, sha256 }: CertificatePin): string | undefined {
  if (kind === "certificate") {
    if (!/^([0-9a-f]{64}|([0-9a-f]{2}:){31}[0-9a-f]{2})$/i.test(sha256)) return undefined;
    return sha256.replaceAll(":", "").toLowerCase();
  }
  return /^[A-Za-z0-9+/]{43}=$/.test(sha256) ? Buffer.from(sha256, "base64").toString("hex") : undefined;
}

export function checkPeerDemands(problems: Problems, field: string, demands: PeerDemands, from?: Provenance): void {
  const { pins, maxIntermediates: most } = demands;
  if (pins?.length === 0) problems.add(`${field}.pins`, "lists none: leave it out to take any certificate", from);
  pins?.forEach((pin, i) => {
    const name = `${field}.pins[${i}]`;
    if (pin.kind !== "certificate" && pin.kind !== "key")
      problems.add(`${name}.kind`, `"${pin.kind}" is neither certificate nor key`, from);
    else if (pinDigits(pin) === undefined) {
      const wanted = pin.kind === "key" ? "base64 (44 characters)" : "hexadecimal (64 digits, or with colons)";
      problems.add(`${name}.sha256`, `"${pin.sha256}" is no SHA-256 in ${wanted}`, from);
    }
  });
  if (most !== undefined && !(Number.isInteger(most) && most >= 0 && most <= maxIntermediates))
    problems.add(`${field}.maxIntermediates`, `${most} is no whole number of 0 to ${maxIntermediates}`, from);
}

/** Names of ciphers, as OpenSSL writes those of TLS 1.2. */
export function checkCiphers(
  problems: Problems,
  field: string,
  ciphers: readonly string[] | undefined,
  from?: Provenance,
): void {
  if (ciphers?.length === 0) problems.add(field, "lists none", from);
  ciphers?.forEach((name, i) => {
    if (!/^[A-Z0-9-]+$/.test(name))
      problems.add(`${field}[${i}]`, `"${name}" is no OpenSSL name of a cipher of TLS 1.2`, from);
  });
}
