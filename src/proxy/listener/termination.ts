// TLS ended at a listener: the handshake on node's `tls`, after the ClientHello was read, so that chain, certificate, protocol
// and what is asked of the client are decided before it begins, per connection; and the client's certificate looked at after it.

import { X509Certificate } from "node:crypto";
import type net from "node:net";
import tls from "node:tls";
import type { TlsContext } from "../../model/model.ts";
import { Deadline } from "../deadlines.ts";
import { agreedProtocol, certificateFor } from "./chains.ts";
import type { ClientHello } from "./client-hello.ts";
import { type ClientIdentity, clientIdentity, isWanted } from "./client-identity.ts";
import { openingTimeout } from "./opening.ts";
import type { PeerChecks } from "./peer-checks.ts";
import type { Chain, Reception } from "./reception.ts";
import type { Accepted } from "./served.ts";
import type { Certificate } from "./tls-context.ts";

/** What a chain's TLS is made of. */
export interface Termination {
  readonly certificates: readonly Certificate[];
  /** Protocols to agree on, the best first. Empty: all that are spoken. */
  readonly alpn: readonly string[];
  readonly clients: TlsContext["clients"];
  /** Of `clients`. */
  readonly checks?: PeerChecks | undefined;
  /** What is inside is passed on unread: any protocol of `alpn` may be agreed on. */
  readonly opaque: boolean;
}

/** The protocol for a client; `refused` when it insists on others. Who offers none gets none. */
export function protocolFor(termination: Termination, offered: readonly string[]): string | undefined | "refused" {
  const { alpn, opaque } = termination;
  if (offered.length === 0 || (opaque && alpn.length === 0)) return undefined;
  return agreedProtocol(alpn, offered, opaque) ?? "refused";
}

/** Handshakes on a socket that has its ClientHello (back) in front of it. */
export class Handshake extends Deadline {
  readonly #reception: Reception;
  readonly #chain: Chain;
  readonly #accepted: Accepted;
  readonly #tls: tls.TLSSocket;
  readonly #then: (socket: tls.TLSSocket, accepted: Accepted) => void;
  #over = false;

  /** `then` is called when the handshake is done and the client is whom the chain wants. */
  constructor(
    reception: Reception,
    chain: Chain,
    hello: ClientHello,
    protocol: string | undefined,
    accepted: Accepted,
    socket: net.Socket,
    then: (socket: tls.TLSSocket, accepted: Accepted) => void,
  ) {
    super();
    this.#reception = reception;
    this.#chain = chain;
    this.#accepted = { ...accepted, protocol: protocol === "h2" ? "h2" : "http/1.1" };
    this.#then = then;
    const { certificates, clients } = chain.termination!;
    reception.runtime.connections.open++;
    reception.runtime.deadlines.arm(this, openingTimeout);
    this.#tls = new tls.TLSSocket(socket, {
      isServer: true,
      secureContext: certificateFor(certificates, hello.serverName)!.context,
      requestCert: clients !== undefined,
      // Where one is required, a client without gets its alert from the library (certificate_required; of TLS 1.2 handshake_failure).
      // Where it is optional, and whatever its names, it is looked at in `#secured`: of that the library cannot tell the client.
      rejectUnauthorized: clients?.mode === "require",
      ...(protocol === undefined ? {} : { ALPNProtocols: [protocol] }),
    });
    this.#tls.on("secure", () => this.#secured());
    this.#tls.on("error", (error) => {
      if (!this.#over && clients && speaksOfCertificate(error))
        reception.runtime.metrics.ended("bad_client_certificate");
      this.#failed();
    });
    this.#tls.on("close", () => this.#failed());
  }

  #end(): void {
    this.#over = true;
    this.#reception.runtime.connections.open--;
    this.#reception.runtime.deadlines.disarm(this);
  }

  #failed(): void {
    if (this.#over) return;
    this.#end();
    this.#reception.counts.failures++;
    this.#tls.destroy();
  }

  expired(): void {
    this.#failed();
  }

  #secured(): void {
    if (this.#over) return;
    const { clients, checks } = this.#chain.termination!;
    if (clients?.mode === "unverified") {
      this.#go({ shown: this.#shown(clients) });
      return;
    }
    const client = clients && this.#client(clients, checks);
    if (client === "refused") {
      this.#reception.runtime.metrics.ended("bad_client_certificate");
      this.#failed();
      return;
    }
    this.#go({ client });
  }

  #go(who: Pick<Accepted, "client" | "shown">): void {
    this.#end();
    this.#reception.counts.handshakes++;
    this.#then(this.#tls, { ...this.#accepted, tlsVersion: this.#tls.getProtocol() ?? undefined, ...who });
  }

  /** What may be told of a certificate that nobody has verified. */
  #shown({ tell }: NonNullable<TlsContext["clients"]>): string | undefined {
    const raw = this.#tls.getPeerCertificate()?.raw;
    try {
      return raw && clientIdentity(new X509Certificate(raw), tell).told;
    } catch {
      // Anybody may have made it, as odd as they please.
      return undefined;
    }
  }

  /** Undefined: a client that needs no certificate, and has none. */
  #client(
    clients: NonNullable<TlsContext["clients"]>,
    checks: PeerChecks | undefined,
  ): ClientIdentity | undefined | "refused" {
    const raw = this.#tls.getPeerCertificate()?.raw;
    if (!raw) return clients.mode === "optional" ? undefined : "refused";
    if (!this.#tls.authorized) return "refused";
    if (checks?.refuses(checks.wantsChain ? this.#tls.getPeerCertificate(true) : this.#tls.getPeerCertificate()))
      return "refused";
    const identity = clientIdentity(new X509Certificate(raw), clients.tell);
    return isWanted(identity, clients.names) ? identity : "refused";
  }
}

/** Whether a handshake failed for the client's certificate: there is none, or OpenSSL's name of what is wrong with its chain. */
function speaksOfCertificate(error: Error): boolean {
  const { code = "" } = error as { code?: string };
  return code === "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE" || (code.includes("_") && !code.startsWith("ERR_"));
}
