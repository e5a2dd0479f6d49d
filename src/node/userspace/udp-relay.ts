// Datagrams carried from a Service address to an endpoint and back. A client's address and port stay with one endpoint for as
// long as it keeps sending (a session), so that answers find their way.

import type { udp } from "bun";
import type { Clock } from "../../base/clock.ts";
import { sendDatagram } from "../../base/datagram.ts";
import type { RelayTarget } from "./relay.ts";

/** Milliseconds without a datagram after which a session ends (conntrack's stream timeout is 120 s, its first 30 s). */
const idle = 60_000;
/** Sessions per Service port; beyond, the longest unused ends. */
const mostSessions = 1000;

interface Session {
  readonly socket: Promise<udp.ConnectedSocket<"buffer">>;
  usedAt: number;
}

export interface UdpRelay {
  close(): void;
}

/** Listens on `hostname:port`. `target` gives the endpoint for a new session of a client. Rejects when the port is taken. */
export async function openUdpRelay(
  hostname: string,
  port: number,
  clock: Clock,
  target: (client: string) => RelayTarget | undefined,
): Promise<UdpRelay> {
  const sessions = new Map<string, Session>();
  const end = (key: string, session: Session) => {
    sessions.delete(key);
    session.socket.then(
      (socket) => socket.close(),
      () => {},
    );
  };
  const server = await Bun.udpSocket({
    hostname,
    port,
    socket: {
      data(_server, data, clientPort, client) {
        const key = `${client}:${clientPort}`;
        let session = sessions.get(key);
        if (!session) {
          const to = target(client);
          if (!to) return;
          const socket = Bun.udpSocket({
            connect: { hostname: to.hostname, port: to.port },
            socket: {
              data(_socket, answer) {
                sendDatagram(() => server.send(answer, clientPort, client));
              },
              error() {},
            },
          });
          session = { socket, usedAt: clock.now() };
          socket.catch(() => sessions.delete(key));
        }
        session.usedAt = clock.now();
        // Sessions are kept in the order of their use.
        sessions.delete(key);
        sessions.set(key, session);
        if (sessions.size > mostSessions) {
          const [oldest] = sessions;
          if (oldest) end(...oldest);
        }
        const copy = Buffer.from(data);
        session.socket.then(
          (socket) => void sendDatagram(() => socket.send(copy)),
          () => {},
        );
      },
      // A client that did not wait for its answer: the kernel says so on the socket of all clients.
      error() {},
    },
  });
  const sweep = clock.every(idle / 4, () => {
    for (const [key, session] of sessions) if (clock.now() - session.usedAt > idle) end(key, session);
  });
  return {
    close() {
      sweep.dispose();
      for (const [key, session] of sessions) end(key, session);
      server.close();
    },
  };
}
