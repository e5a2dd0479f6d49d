// A listener that terminates TLS: the chain by server name, the certificate by its names, both looked up at each handshake, so
// that new certificates serve new connections and touch no old one. On node's `tls`, because Bun's own listener takes one
// certificate and keeps it (measured: 1.5 to 3 µs a request more; see docs/proxy.md).

import { X509Certificate } from "node:crypto";
import tls from "node:tls";
import { messageOf } from "../../base/errors.ts";
import { hostMatches } from "../../model/host-pattern.ts";
import type { ChainCondition, Secret, TlsContext } from "../../model/model.ts";
import { beginTurn, endTurn, type Wire } from "../wire.ts";
import { type Accepting, shared } from "./plain.ts";
import type { Seat, ServedChain } from "./serve.ts";

/** A certificate ready to serve. */
export interface Certificate {
  /** Patterns in lower case. */
  readonly names: readonly string[];
  readonly context: tls.SecureContext;
  /** What the context was made of: node wants it again for clients that send no server name. */
  readonly options: tls.SecureContextOptions;
}

/** A listener whose chains can be changed while it listens. */
export interface AcceptingTls extends Accepting {
  /** Takes the certificate for clients without a server name from the chains as they are now. */
  refresh(): void;
}

export interface TlsChain {
  readonly when: ChainCondition;
  readonly certificates: readonly Certificate[];
  /** Protocols to agree on, the best first. Empty: all that are spoken. */
  readonly alpn: readonly string[];
  readonly served: ServedChain;
}

export interface TlsCounts {
  handshakes: number;
  failures: number;
  unknownNames: number;
}

/** Protocols that are spoken here. */
const spoken = ["h2", "http/1.1"];
/** Milliseconds for a handshake. */
const handshakeTimeout = 10_000;

/** Makes a certificate of a secret. Throws an Error that names what does not fit; its text holds no key material. */
export function loadCertificate(secret: Secret, config: TlsContext): Certificate {
  if (secret.content.kind !== "certificate") throw new Error(`${secret.name} holds authorities, not a certificate`);
  const { certificate, privateKey } = secret.content;
  let names: string[];
  try {
    const leaf = new X509Certificate(certificate);
    names = (leaf.subjectAltName ?? "")
      .split(", ")
      .filter((part) => part.startsWith("DNS:"))
      .map((part) => part.slice(4).toLowerCase());
  } catch (error) {
    throw new Error(`the certificate of ${secret.name} cannot be parsed: ${messageOf(error)}`);
  }
  try {
    const options: tls.SecureContextOptions = {
      cert: certificate,
      key: privateKey.reveal(),
      minVersion: config.minVersion === "1.3" ? "TLSv1.3" : "TLSv1.2",
      maxVersion: config.maxVersion === "1.2" ? "TLSv1.2" : "TLSv1.3",
    };
    return { names, options, context: tls.createSecureContext(options) };
  } catch (error) {
    throw new Error(`the key of ${secret.name} does not fit its certificate: ${messageOf(error)}`);
  }
}

/** The chain that takes a server name: the first whose condition holds. */
export function chainFor<C extends { readonly when: ChainCondition }>(
  chains: readonly C[],
  serverName: string | undefined,
): C | undefined {
  const name = serverName?.toLowerCase();
  return chains.find(({ when }) => {
    if (when.kind === "tls") return true;
    return when.kind === "sni" && name !== undefined && when.names.some((pattern) => hostMatches(pattern, name));
  });
}

/** The certificate for a name: exact, then wildcard (one label, RFC 9525 §6.3), else the first. */
export function certificateFor<C extends { readonly names: readonly string[] }>(
  certificates: readonly C[],
  serverName: string | undefined,
): C | undefined {
  const name = serverName?.toLowerCase();
  if (name === undefined) return certificates[0];
  const wildcard = `*${name.slice(Math.max(0, name.indexOf(".")))}`;
  return (
    certificates.find((certificate) => certificate.names.includes(name)) ??
    certificates.find((certificate) => certificate.names.includes(wildcard)) ??
    certificates[0]
  );
}

/** What a chain and a client agree on (RFC 7301), by the chain's order; undefined when they have nothing in common. */
export function agreedProtocol(alpn: readonly string[], offered: readonly string[]): string | undefined {
  return (alpn.length > 0 ? alpn : spoken).find((one) => offered.includes(one) && spoken.includes(one));
}

/** Resolves when it listens; rejects with an Error with `code` when the address cannot be had. */
export function listenTls(
  address: string,
  port: number,
  chains: () => readonly TlsChain[],
  counts: TlsCounts,
): Promise<AcceptingTls> {
  const server = tls.createServer(
    {
      ALPNCallback({ servername, protocols }) {
        // Without a name it is an empty text.
        const chain = chainFor(chains(), servername || undefined);
        return chain && agreedProtocol(chain.alpn, protocols);
      },
      handshakeTimeout,
      allowHalfOpen: true,
      SNICallback(name, done) {
        const chain = chainFor(chains(), name);
        const certificate = chain && certificateFor(chain.certificates, name);
        if (certificate) return done(null, certificate.context);
        counts.unknownNames++;
        done(new Error("unrecognized name"));
      },
    },
    (socket) => {
      counts.handshakes++;
      const name = typeof socket.servername === "string" ? socket.servername : undefined;
      const chain = chainFor(chains(), name);
      if (!chain) {
        socket.destroy();
        return;
      }
      serve(socket, chain.served);
    },
  );
  let current: Certificate | undefined;
  const refresh = () => {
    const certificate = chainFor(chains(), undefined)?.certificates[0];
    // Without a chain for them, such clients are closed after the handshake, or in it while there never was one.
    if (!certificate || certificate === current) return;
    current = certificate;
    server.setSecureContext(certificate.options);
  };
  refresh();
  server.on("tlsClientError", () => counts.failures++);
  return new Promise((resolve, reject) => {
    server.once("error", reject);
    server.listen({ host: address, port, exclusive: true, ...shared }, () => {
      server.off("error", reject);
      server.on("error", () => {});
      resolve({ close: () => server.close(), refresh });
    });
  });
}

function serve(socket: tls.TLSSocket, chain: ServedChain): void {
  const wire = new TlsWire(socket);
  const seat: Seat = { connection: undefined };
  const protocol = socket.alpnProtocol === "h2" ? "h2" : "http/1.1";
  if (!chain.accept(seat, wire, socket.remoteAddress ?? "", protocol)) {
    socket.destroy();
    return;
  }
  // TLS agreed on it: nothing replaces this one.
  const connection = seat.connection!;
  socket.setNoDelay(true);
  socket.on("data", (bytes: Buffer) => {
    beginTurn();
    connection.onData(bytes);
    endTurn();
  });
  socket.on("drain", () => {
    beginTurn();
    wire.full = false;
    connection.onDrain();
    endTurn();
  });
  socket.on("end", () => {
    beginTurn();
    connection.onEnd();
    endTurn();
  });
  socket.on("close", () => {
    beginTurn();
    connection.onClose();
    endTurn();
  });
  // `close` follows.
  socket.on("error", () => {});
}

/** A node stream as a {@link Wire}: it takes everything until it says that it is full. */
class TlsWire implements Wire {
  full = false;
  readonly #socket: tls.TLSSocket;

  constructor(socket: tls.TLSSocket) {
    this.#socket = socket;
  }

  write(data: Uint8Array, offset: number, length: number): number {
    if (this.full) return 0;
    // The stream keeps what it is given, and the caller goes on using its buffer.
    this.full = !this.#socket.write(Buffer.from(data.subarray(offset, offset + length)));
    return length;
  }

  pause(): void {
    this.#socket.pause();
  }

  resume(): void {
    this.#socket.resume();
  }

  end(): void {
    this.#socket.end();
  }

  terminate(): void {
    this.#socket.destroy();
  }
}
