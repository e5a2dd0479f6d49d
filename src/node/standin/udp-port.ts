// One UDP port of a stand-in: answers each datagram with JSON about it and about the pod.

import { sendDatagram } from "../../base/datagram.ts";
import { unmapped } from "../../base/ip.ts";
import { inNetns } from "../../base/setns.ts";
import { identityOf } from "./answer.ts";
import type { HttpPortOptions } from "./http-port.ts";

export interface UdpPort {
  close(): void;
}

/** Opens the port on each address of the pod. Rejects when one cannot be had, and leaves none open then. */
export async function openUdpPort(options: HttpPortOptions): Promise<UdpPort> {
  const { pod, container, port, listenPort, log } = options;
  const identity = identityOf(pod, container, port);
  // A socket is made before the call returns, so that it is in the pod's namespace; only its announcement comes later.
  const opening = inNetns(pod.netns, () =>
    pod.listenAddresses.map((hostname) =>
      Bun.udpSocket({
        hostname,
        port: listenPort,
        socket: {
          data(socket, data, clientPort, from) {
            const client = unmapped(from);
            const about = { request: data.toString("utf8"), length: data.length, client, clientPort };
            const answer = `{${identity},${JSON.stringify(about).slice(1)}\n`;
            sendDatagram(() => socket.send(answer, clientPort, from));
            if (log.wantsMore) log.line(`${client} datagram ${data.length}`, Date.now());
          },
          // A client that did not wait for its answer: the kernel says so on the socket of all clients.
          error() {},
        },
      }),
    ),
  );
  const opened = await Promise.allSettled(opening);
  const close = () => {
    for (const one of opened) if (one.status === "fulfilled") one.value.close();
  };
  const failed = opened.find((one) => one.status === "rejected");
  if (!failed) return { close };
  close();
  throw failed.reason;
}
