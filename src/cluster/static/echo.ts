// Stand-ins on ports of this machine, so that an example answers without anything else: each says what it was asked, and
// answers as the request wishes (`?status=503&delay=200ms`, docs/node.md). TCP with HTTP/1.1, HTTP/2 and gRPC, and UDP on the same port.

import type { Disposable } from "../../base/disposal.ts";
import { messageOf, UserError } from "../../base/errors.ts";
import { ContainerLog } from "../../node/standin/container-log.ts";
import { HttpPort } from "../../node/standin/http-port.ts";
import type { StandInPod } from "../../node/standin/protocol.ts";
import { openUdpPort } from "../../node/standin/udp-port.ts";

export interface EchoPlace {
  readonly address: string;
  readonly port: number;
}

/** Opens all, or none. Rejects with a UserError that names the port. */
export async function startEchoes(places: readonly EchoPlace[]): Promise<Disposable> {
  const opened: { close(): void }[] = [];
  const dispose = () => {
    for (const one of opened) one.close();
  };
  for (const { address, port } of places) {
    const options = {
      pod: podAt(address, port),
      container: "echo",
      port,
      listenPort: port,
      log: new ContainerLog("/dev/null"),
    };
    try {
      opened.push(new HttpPort(options), await openUdpPort(options));
    } catch (error) {
      dispose();
      throw new UserError(`--echo ${port}: ${address}:${port} cannot be listened on (${messageOf(error)})`);
    }
  }
  return { dispose };
}

function podAt(address: string, port: number): StandInPod {
  const name = `echo-${port}`;
  const addresses = [address];
  return {
    ...{ uid: name, namespace: "", name, node: "", serviceAccount: "", labels: {}, addresses },
    ...{ listenAddresses: addresses, containers: [] },
  };
}
