// One TCP connection carried from a Service address to an endpoint: bytes both ways with back-pressure, half-closes passed
// on, resets passed on. Handlers are shared by all connections; state is in the socket's data.

import type { Socket, SocketHandler } from "bun";

/** One of the two ends of a connection. */
interface End {
  socket: Socket<End> | undefined;
  other: End;
  /** Bytes for this end's socket that it has not taken yet. */
  pending: Buffer[];
  /** The other end has sent its last byte: this one's writing side is shut once `pending` is out. */
  finish: boolean;
  finished: boolean;
  closed: boolean;
}

export interface RelayTarget {
  readonly hostname: string;
  readonly port: number;
  /** Names the endpoint among the others. */
  readonly key: string;
}

/**
 * Handlers for a listener with `allowHalfOpen`. `target` is asked for an endpoint, and again when one refuses, with how often
 * it was asked; undefined gives up and resets the client.
 */
export function relayHandlers(target: (client: string, failed: readonly RelayTarget[]) => RelayTarget | undefined) {
  const handlers: SocketHandler<End> = {
    open(socket) {
      const client: End = newEnd(socket);
      const upstream: End = newEnd(undefined);
      client.other = upstream;
      upstream.other = client;
      socket.data = client;
      const failed: RelayTarget[] = [];
      const dial = () => {
        const to = target(socket.remoteAddress, failed);
        if (!to) {
          socket.terminate();
          return;
        }
        Bun.connect<End>({
          hostname: to.hostname,
          port: to.port,
          allowHalfOpen: true,
          data: upstream,
          socket: upstreamHandlers,
        }).catch(() => {
          if (client.closed) return;
          failed.push(to);
          dial();
        });
      };
      dial();
    },
    ...both,
  };
  return handlers;
}

const both = {
  data(socket: Socket<End>, chunk: Buffer) {
    const { other } = socket.data;
    if (other.socket && other.pending.length === 0) {
      const taken = Math.max(0, other.socket.write(chunk));
      if (taken === chunk.length) return;
      other.pending.push(Buffer.from(chunk.subarray(taken)));
    } else other.pending.push(Buffer.from(chunk));
    socket.pause();
  },
  drain(socket: Socket<End>) {
    flush(socket.data);
  },
  end(socket: Socket<End>) {
    const { other } = socket.data;
    other.finish = true;
    flush(other);
  },
  close(socket: Socket<End>, error?: unknown) {
    const end = socket.data;
    end.closed = true;
    const { other } = end;
    if (other.closed || !other.socket) return;
    if (error || !other.finish) other.socket.terminate();
    else flush(other);
  },
  error() {},
};

const upstreamHandlers: SocketHandler<End> = {
  open(socket) {
    const end = socket.data;
    end.socket = socket;
    if (end.other.closed) socket.terminate();
    else flush(end);
  },
  ...both,
};

function newEnd(socket: Socket<End> | undefined): End {
  const end = { socket, pending: [], finish: false, finished: false, closed: false } as unknown as End;
  return end;
}

/** Writes what waits for this end, lets the other read on, and shuts this end's writing side after the last byte. */
function flush(end: End): void {
  const { socket, other } = end;
  if (!socket || end.closed) return;
  while (end.pending.length > 0) {
    const chunk = end.pending[0]!;
    const taken = Math.max(0, socket.write(chunk));
    if (taken < chunk.length) {
      end.pending[0] = chunk.subarray(taken);
      return;
    }
    end.pending.shift();
  }
  if (end.finish) {
    if (end.finished) return;
    end.finished = true;
    // Both directions are over when the other end's is: then the sockets go.
    if (other.finished || other.closed) {
      socket.end();
      other.socket?.end();
    } else socket.shutdown();
  } else if (other.socket && !other.closed) other.socket.resume();
}
