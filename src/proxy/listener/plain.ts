// A listener without TLS: Bun's own sockets, the cheapest way there is.

import type { Socket } from "bun";
import type { Http1Downstream } from "../http1/downstream.ts";
import { beginTurn, endTurn } from "../wire.ts";
import type { ServedChain } from "./serve.ts";

/** Something that accepts. Closing it leaves its connections alone. */
export interface Accepting {
  close(): void;
}

interface Accepted {
  connection: Http1Downstream | undefined;
}

/** Throws an Error with `code` EADDRINUSE, EADDRNOTAVAIL or EACCES when the address cannot be had. */
export function listenPlain(address: string, port: number, chain: () => ServedChain): Accepting {
  const listener = Bun.listen<Accepted>({
    hostname: address,
    port,
    allowHalfOpen: true,
    socket: {
      open(socket: Socket<Accepted>) {
        socket.setNoDelay(true);
        const connection = chain().accept(socket, socket.remoteAddress);
        socket.data = { connection };
        if (!connection) socket.terminate();
      },
      data(socket: Socket<Accepted>, bytes: Buffer) {
        beginTurn();
        socket.data.connection?.onData(bytes);
        endTurn();
      },
      drain(socket: Socket<Accepted>) {
        beginTurn();
        socket.data?.connection?.onDrain();
        endTurn();
      },
      end(socket: Socket<Accepted>) {
        beginTurn();
        socket.data.connection?.onEnd();
        endTurn();
      },
      close(socket: Socket<Accepted>) {
        beginTurn();
        socket.data?.connection?.onClose();
        endTurn();
      },
      error(socket: Socket<Accepted>, error: Error) {
        if (!("errno" in error)) chain().faulted(error);
        beginTurn();
        socket.data?.connection?.terminate();
        endTurn();
      },
    },
  });
  return { close: () => listener.stop(false) };
}
