// TLS contexts that were made, so that a certificate is loaded once: listeners change more often than certificates, and what a context
// has handed out (session tickets) is good while it lives.

import type { Listener, Secret, TlsContext } from "../../model/model.ts";
import { type Certificate, contextKey, loadCertificate } from "./tls-context.ts";

export class TlsContexts {
  /** The keys begin with the secret's fingerprint. */
  readonly #made = new Map<string, Certificate>();

  /** Throws an Error when the certificate does not fit. */
  get(secret: Secret, context: TlsContext, authorities: Secret | undefined): Certificate {
    const key = contextKey(secret, context, authorities);
    let certificate = this.#made.get(key);
    if (!certificate) {
      certificate = loadCertificate(secret, context, authorities);
      this.#made.set(key, certificate);
    }
    return certificate;
  }

  /** Lets go of those that cannot be asked for any more, and, once there are many, of those that no listener asks for. */
  forget(secrets: ReadonlyMap<string, Secret>, listeners: Iterable<Listener>): void {
    const known = new Set([...secrets.values()].map(({ fingerprint }) => fingerprint));
    for (const key of this.#made.keys()) {
      if (!known.has(key.slice(0, key.indexOf(" ")))) this.#made.delete(key);
    }
    if (this.#made.size <= 2 * known.size + 16) return;
    const used = new Set<string>();
    for (const { tls } of [...listeners].flatMap(({ chains }) => chains)) {
      const named = tls?.clients?.authorities;
      const authorities = named === undefined ? undefined : secrets.get(named);
      for (const name of tls?.certificates ?? []) {
        const secret = secrets.get(name);
        if (secret) used.add(contextKey(secret, tls!, authorities));
      }
    }
    for (const key of this.#made.keys()) if (!used.has(key)) this.#made.delete(key);
  }
}
