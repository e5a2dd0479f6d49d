// One UDP port of a stand-in: answers each datagram with JSON about it and about the pod.

import { sendDatagram } from "../../base/datagram.ts";
import { inNetns } from "../netns/setns.ts";
import { identityOf } from "./answer.ts";
import type { HttpPortOptions } from "./http-port.ts";

export interface UdpPort {
  close(): void;
}

/** Opens the port. Rejects when it cannot be had. */
export async function openUdpPort(options: HttpPortOptions): Promise<UdpPort> {
  const { pod, container, port, listenPort, log } = options;
  const identity = identityOf(pod, container, port);
  // The socket is made before the call returns, so that it is in the pod's namespace; only its announcement comes later.
  return await inNetns(pod.netns, () =>
    Bun.udpSocket({
      hostname: pod.listenAddress,
      port: listenPort,
      socket: {
        data(socket, data, clientPort, client) {
          const about = { request: data.toString("utf8"), length: data.length, client, clientPort };
          const answer = `{${identity},${JSON.stringify(about).slice(1)}\n`;
          sendDatagram(() => socket.send(answer, clientPort, client));
          if (log.wantsMore) log.line(`${client} datagram ${data.length}`, Date.now());
        },
        // A client that did not wait for its answer: the kernel says so on the socket of all clients.
        error() {},
      },
    }),
  );
}
