// A listener that ends no TLS: Bun's own sockets, the cheapest way there is.

import type { Socket } from "bun";
import type { Listener } from "../../model/model.ts";
import { beginTurn, endTurn } from "../wire.ts";
import type { Reception } from "./reception.ts";
import type { Seat } from "./served.ts";
import { listenTransparently } from "./transparent.ts";

/** Something that accepts. Closing it leaves its connections alone. */
export interface Accepting {
  close(): void;
}

/** SO_REUSEPORT, which Bun's types do not name. */
export const shared: object = { reusePort: true };

/** Of a listener, what its socket depends on. */
export type Listening = Pick<Listener, "address" | "port" | "transparent">;

/** Throws an Error with `code` EADDRINUSE, EADDRNOTAVAIL or EACCES when the address cannot be had. */
export function listenPlain({ address, port, transparent }: Listening, reception: Reception): Accepting {
  const listener = Bun.listen<Seat>({
    hostname: address,
    port,
    // So that the next process can listen before this one goes.
    ...shared,
    allowHalfOpen: true,
    socket: {
      open(socket: Socket<Seat>) {
        socket.setNoDelay(true);
        const seat: Seat = { connection: undefined };
        socket.data = seat;
        const address: string | undefined = socket.remoteAddress;
        if (address === undefined) {
          // Reset before it was accepted.
          socket.terminate();
          return;
        }
        const peer = reception.peer(address, socket.remotePort, (socket as { fd?: number }).fd, socket);
        beginTurn();
        if (!reception.receive(seat, socket, peer, undefined)) socket.terminate();
        endTurn();
      },
      data(socket: Socket<Seat>, bytes: Buffer) {
        beginTurn();
        socket.data.connection?.onData(bytes);
        endTurn();
      },
      drain(socket: Socket<Seat>) {
        beginTurn();
        socket.data?.connection?.onDrain();
        endTurn();
      },
      end(socket: Socket<Seat>) {
        beginTurn();
        socket.data.connection?.onEnd();
        endTurn();
      },
      close(socket: Socket<Seat>) {
        beginTurn();
        socket.data?.connection?.onClose();
        endTurn();
      },
      error(socket: Socket<Seat>, error: Error) {
        if (!("errno" in error)) reception.faulted(error);
        beginTurn();
        socket.data?.connection?.terminate();
        endTurn();
      },
    },
  });
  if (transparent) {
    try {
      listenTransparently((listener as { fd?: number }).fd, address);
    } catch (error) {
      listener.stop(true);
      throw error;
    }
  }
  return { close: () => listener.stop(false) };
}
