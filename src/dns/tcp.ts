// DNS over TCP: messages with a two-byte length, several in one connection, answered in any order (RFC 7766). Bounded in
// connections, in time without a question, and in answers that wait for a slow reader.

import type { Socket } from "bun";
import type { Disposable } from "../base/disposal.ts";

const maxConnections = 256;
/** Seconds without anything received. */
const idleSeconds = 10;
/** Bytes that may wait for a reader that does not read; more ends the connection. */
const maxWaiting = 1024 * 1024;

interface Connection {
  received: Buffer;
  waiting: Buffer;
}

/** Listens, `shared` with other processes of ours (SO_REUSEPORT); `handle` is given whole messages and may answer later. */
export function serveTcp(
  address: string,
  port: number,
  shared: boolean,
  handle: (message: Uint8Array, send: (reply: Uint8Array) => void, client: string) => void,
): Disposable {
  const open = new Set<Socket<Connection>>();
  const listener = Bun.listen<Connection>({
    hostname: address,
    port,
    // Bun.serve's option, which the types of Bun.listen do not name.
    ...({ reusePort: shared } as object),
    socket: {
      open(socket) {
        socket.data = { received: Buffer.alloc(0), waiting: Buffer.alloc(0) };
        if (open.size >= maxConnections) {
          socket.terminate();
          return;
        }
        open.add(socket);
        socket.timeout(idleSeconds);
      },
      data(socket, data) {
        socket.timeout(idleSeconds);
        const { data: connection } = socket;
        connection.received =
          connection.received.length === 0 ? Buffer.from(data) : Buffer.concat([connection.received, data]);
        while (connection.received.length >= 2) {
          const length = connection.received.readUInt16BE(0);
          if (connection.received.length < 2 + length) break;
          const message = connection.received.subarray(2, 2 + length);
          connection.received = connection.received.subarray(2 + length);
          handle(message, (reply) => send(socket, reply), socket.remoteAddress);
        }
      },
      drain(socket) {
        flush(socket);
      },
      timeout(socket) {
        socket.end();
      },
      close(socket) {
        open.delete(socket);
      },
      error(socket) {
        open.delete(socket);
      },
    },
  });
  function send(socket: Socket<Connection>, reply: Uint8Array): void {
    if (!open.has(socket)) return;
    const framed = Buffer.alloc(2 + reply.length);
    framed.writeUInt16BE(reply.length, 0);
    framed.set(reply, 2);
    socket.data.waiting = socket.data.waiting.length === 0 ? framed : Buffer.concat([socket.data.waiting, framed]);
    if (socket.data.waiting.length > maxWaiting) socket.terminate();
    else flush(socket);
  }
  function flush(socket: Socket<Connection>): void {
    const { waiting } = socket.data;
    if (waiting.length === 0) return;
    const written = socket.write(waiting);
    if (written > 0) socket.data.waiting = waiting.subarray(written);
  }
  return {
    dispose() {
      listener.stop(true);
    },
  };
}
