// The TLS listener: HTTP/1.1 with optional client certificates. `node:tls` in front of `node:http`, because Bun.serve and
// node:https do not show the peer's certificate on Bun 1.4 (tried; this pair does). HTTP/1.1 is enough for kubectl and
// client-go, which then use a connection per watch.

import { createServer as createHttpServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo, Socket } from "node:net";
import { createServer as createTlsServer, type Server, type TLSSocket } from "node:tls";
import { UserError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { CertificateSubject } from "./identity.ts";

export interface TlsMaterial {
  /** PEM. */
  readonly key: string;
  readonly cert: string;
  /** The authority of client certificates, PEM. */
  readonly clientCa: string;
}

export interface Listener {
  readonly port: number;
  stop(): Promise<void>;
}

export type OnRequest = (
  request: IncomingMessage,
  response: ServerResponse,
  /** The subject of the client's certificate, when it sent one that the client CA has signed. */
  subject: CertificateSubject | undefined,
) => void;

export async function listen(
  options: {
    readonly tls: TlsMaterial;
    readonly address: string;
    readonly port: number | readonly number[];
    readonly log: Logger;
  },
  onRequest: OnRequest,
): Promise<Listener> {
  const { tls, address, port, log } = options;
  const subjects = new WeakMap<object, CertificateSubject>();
  const sockets = new Set<Socket>();

  const http = createHttpServer({ maxHeaderSize: 64 * 1024, keepAliveTimeout: 120_000 }, (request, response) =>
    onRequest(request, response, subjects.get(request.socket)),
  );
  http.on("clientError", (_error, socket) => socket.destroy());

  const server = createTlsServer(
    {
      key: tls.key,
      cert: tls.cert,
      ca: tls.clientCa,
      requestCert: true,
      rejectUnauthorized: false, // tokens come without a certificate
      ALPNProtocols: ["http/1.1"],
      minVersion: "TLSv1.2",
    },
    (socket: TLSSocket) => {
      if (socket.authorized) {
        const subject = socket.getPeerCertificate()?.subject as CertificateSubject | undefined;
        if (subject) subjects.set(socket, subject);
      }
      sockets.add(socket);
      socket.setNoDelay(true);
      socket.on("error", (error) => log.debug("connection failed", { error: error.message }));
      socket.on("close", () => sockets.delete(socket));
      http.emit("connection", socket);
    },
  );
  server.on("tlsClientError", (error) => log.debug("TLS handshake failed", { error: error.message }));

  await listenOnFirstFree(server, address, [port].flat());
  server.on("error", (error) => log.error("the listener failed", { error: error.message }));

  return {
    port: (server.address() as AddressInfo).port,
    stop: () =>
      new Promise((resolve) => {
        server.close(() => resolve());
        http.closeIdleConnections();
        for (const socket of sockets) socket.destroy();
      }),
  };
}

async function listenOnFirstFree(server: Server, address: string, ports: readonly number[]): Promise<void> {
  for (const [at, port] of ports.entries()) {
    const { promise, resolve, reject } = Promise.withResolvers<void>();
    server.once("error", reject).listen(port, address, resolve);
    try {
      return await promise;
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
      if (at < ports.length - 1) continue;
      throw new UserError(`the API server cannot listen on ${address}:${port}: the port is taken`, {
        remedy: `End the program that uses it; \`ss -ltnp 'sport = :${port}'\` names it.`,
        cause: error,
      });
    } finally {
      server.off("error", reject);
    }
  }
}
