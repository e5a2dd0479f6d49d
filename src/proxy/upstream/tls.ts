// TLS towards a backend's endpoints: what a handshake is made with, and whether the endpoint's certificate is the one that was
// asked for. On the sockets of Bun, which verify the chain and say so; the names are checked here (RFC 9525, and for SPIFFE ids
// X509-SVID §2). Nothing is sent before both are done. A change of secrets makes a new one, for new connections only.

import tls, { type PeerCertificate } from "node:tls";
import { messageOf } from "../../base/errors.ts";
import type { Backend, Secret } from "../../model/model.ts";
import type { UpstreamTls } from "../../model/upstream-policies.ts";
import { stringMatches } from "../../model/value-match.ts";
import { PeerChecks } from "../listener/peer-checks.ts";
import { subjectNames } from "../listener/subject-names.ts";
import { cipherList, loadAuthorities } from "../listener/tls-context.ts";
import type { Reason } from "../reason.ts";

/** Endpoints whose sessions are kept for resumption. */
const maxSessions = 1_000;
/** How versions are written on the wire (RFC 8446 §4.2.1). */
const versions = { "1.2": 0x0303, "1.3": 0x0304 } as const;
/** The chain is good, but the server name fits none of the certificate's; the names are looked at here anyway. */
const nameError = "ERR_TLS_CERT_ALTNAME_INVALID";

/** What Bun takes; its types lack some of it. */
type SocketOptions = NonNullable<Parameters<typeof Bun.connect>[0]["tls"]>;

export class TlsClient {
  readonly options: SocketOptions;
  readonly #config: UpstreamTls;
  readonly #checks: PeerChecks;
  readonly #protocol: Backend["protocol"];
  /** By endpoint. A session is only kept after its certificate was found good, so that resuming one is, too. */
  readonly #sessions = new Map<string, Uint8Array>();
  /** For connections that speak the other version of HTTP, where a backend has both. */
  readonly other: TlsClient | undefined;

  /** Throws an Error that names what does not fit; its text holds no key material. */
  constructor(
    config: UpstreamTls,
    protocol: Backend["protocol"],
    secret: (name: string, holds: "authorities" | "certificate") => Secret,
    both = false,
  ) {
    this.other = both ? new TlsClient(config, protocol === "h2c" ? "http1" : "h2c", secret) : undefined;
    this.#config = config;
    this.#protocol = protocol;
    const { authorities, certificate, serverName, minVersion, maxVersion } = config;
    const options: Record<string, unknown> = {
      serverName: serverName ?? "",
      // The verdict comes with the handshake; rejecting is done here, with its reason.
      rejectUnauthorized: false,
      ALPNProtocols: protocol === "tcp" ? undefined : alpn(protocol === "h2c" ? "h2" : "http/1.1"),
      minVersion: versions[minVersion ?? "1.2"],
      maxVersion: versions[maxVersion ?? "1.3"],
    };
    const own = authorities === "system" || authorities === "insecure" ? undefined : secret(authorities, "authorities");
    const roots = own ? loadAuthorities(own) : authorities === "system" ? systemAuthorities() : undefined;
    if (roots) options["ca"] = [...roots];
    this.#checks = new PeerChecks(config, roots ?? [], own);
    if (this.#checks.lists.length > 0) options["crl"] = this.#checks.lists;
    if (config.ciphers) options["ciphers"] = cipherList(config.ciphers);
    if (certificate !== undefined) {
      const { name, content } = secret(certificate, "certificate");
      if (content.kind !== "certificate") throw new Error(`${name} holds ${content.kind}, not a certificate`);
      options["cert"] = content.certificate;
      options["key"] = content.privateKey.reveal();
      try {
        tls.createSecureContext({ cert: content.certificate, key: content.privateKey.reveal() });
      } catch (error) {
        throw new Error(`the key of ${name} does not fit its certificate: ${messageOf(error)}`);
      }
    }
    this.options = options as SocketOptions;
  }

  /**
   * Why a socket may not be used after its handshake; undefined when it may. `done` and `failure` are what the library says of it,
   * `address` is the endpoint's.
   */
  problem(socket: object, done: boolean, failure: Error | null, address: string): Reason | undefined {
    const peer = socket as Peer;
    const error = failure ? ((failure as { code?: string }).code ?? "") : undefined;
    const nameOnly = error === nameError;
    if (!done && !nameOnly && !isVerdict(error)) return "handshake_failed";
    if (this.#config.authorities !== "insecure") {
      if (error !== undefined && !nameOnly) return "backend_not_trusted";
      const certificate = peer.getPeerCertificate();
      if (!certificate || !this.#isNamed(certificate, address)) return "backend_has_other_name";
    }
    // Its issuers, too. Pins hold where nothing else is looked at.
    const shown = peer.getPeerCertificate(!this.#checks.wantsChain);
    if (!shown?.raw || this.#checks.refuses(shown)) return "backend_not_trusted";
    if (this.#protocol === "h2c" && peer.alpnProtocol !== "h2") return "upgrade_refused";
    return undefined;
  }

  #isNamed(certificate: PeerCertificate, address: string): boolean {
    const { names, serverName } = this.#config;
    if (names === undefined) return tls.checkServerIdentity(serverName ?? address, certificate) === undefined;
    const { dns, uris } = subjectNames(certificate.raw);
    return names.some(({ kind, match }) => {
      if (kind === "uri") return uris.some((uri) => stringMatches(match, uri));
      return dns.some((name) => stringMatches(match, name) || (match.kind === "exact" && isCovered(name, match.value)));
    });
  }

  /** Of a socket that is about to begin its handshake. */
  resume(socket: object, endpoint: string): void {
    const session = this.#sessions.get(endpoint);
    if (session) (socket as Peer).setSession(session);
  }

  keepSession(endpoint: string, session: Uint8Array): void {
    this.#sessions.delete(endpoint);
    this.#sessions.set(endpoint, session);
    if (this.#sessions.size > maxSessions) this.#sessions.delete(this.#sessions.keys().next().value!);
  }
}

/**
 * Whether an error speaks of the chain (OpenSSL's names, like CERT_HAS_EXPIRED) and not of the handshake (EPROTO, ERR_SSL_…): the
 * library says "not done" of both when the name does not fit either.
 */
function isVerdict(error: string | undefined): boolean {
  return error?.includes("_") === true && !error.startsWith("ERR_");
}

/** What Bun's types do not tell of its sockets with TLS. */
interface Peer {
  setSession(session: Uint8Array): void;
  getPeerCertificate(abbreviated?: boolean): PeerCertificate | undefined;
  readonly alpnProtocol: string | false | null;
}

/** Whether a wildcard of a certificate stands for a name: one whole label, the first (RFC 9525 §6.3). */
function isCovered(pattern: string, name: string): boolean {
  return pattern.startsWith("*.") && name.toLowerCase().replace(/^[^.]+/, "*") === pattern;
}

function alpn(name: string): Buffer {
  return Buffer.from(`${String.fromCharCode(name.length)}${name}`, "latin1");
}

let system: readonly string[] | undefined;

/** The machine's own list; where it has none, the one that comes with Bun (Mozilla's). */
function systemAuthorities(): string[] {
  if (!system) {
    const own = tls.getCACertificates("system");
    system = own.length > 0 ? own : tls.getCACertificates("bundled");
  }
  return [...system];
}
