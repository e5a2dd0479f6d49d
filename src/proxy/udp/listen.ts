// The socket of a UDP listener: all clients' datagrams come by it, and all answers leave by it.

import { sendDatagram } from "../../base/datagram.ts";
import type { Accepting } from "../listener/plain.ts";
import { beginTurn, endTurn } from "../wire.ts";
import { hearNoMore } from "./hearing.ts";
import type { Answer, ServedUdp } from "./served.ts";

/** SO_REUSEPORT, so that the next process can listen before this one goes (uSockets' LIBUS_LISTEN_REUSE_PORT). */
const reusePort: object = { flags: 4 };

/** `served`: who takes what comes, at the moment. Rejects with an Error with `code` when the address cannot be had. */
export async function listenUdp(address: string, port: number, served: () => ServedUdp): Promise<Accepting> {
  const socket = await Bun.udpSocket({
    hostname: address,
    port,
    binaryType: "buffer",
    ...reusePort,
    socket: {
      data(_socket, bytes, clientPort, client) {
        beginTurn();
        served().datagram(bytes, clientPort, client, answer);
        endTurn();
      },
      // A client that did not wait for its answer: the kernel says so on the socket of all clients.
      error() {},
    },
  });
  const answer: Answer = (bytes, clientPort, client) => {
    try {
      sendDatagram(() => socket.send(bytes, clientPort, client));
    } catch {
      // A client that cannot be reached any more, or the listener is closing.
    }
  };
  return {
    close() {
      // Bun's types do not name `fd`.
      hearNoMore((socket as { fd?: number }).fd ?? -1, address, port);
      // What is in its queue is read in the turns of the loop that come first.
      served().finish(answer, () => socket.close());
    },
  };
}
