// Host ports of the network without privileges: listeners on the node's 127.x address (or on the hostIP) that carry TCP and
// UDP to the pod. What cannot be had there, SCTP and addresses that are not this machine's, is said and left out.

import type { TCPSocketListener } from "bun";
import type { Clock } from "../../base/clock.ts";
import { messageOf } from "../../base/errors.ts";
import { ipFamily } from "../../base/ip.ts";
import { relayHandlers } from "../userspace/relay.ts";
import { openUdpRelay } from "../userspace/udp-relay.ts";
import { type HostPort, type HostPorts, HostPortTable, hostPortText, type PodHostPorts } from "./host-ports.ts";

export interface UserspaceHostPortsOptions {
  readonly nodeAddresses: readonly string[];
  readonly effectivePort: (port: number) => number;
  readonly clock: Clock;
}

export function userspaceHostPorts({ nodeAddresses, effectivePort, clock }: UserspaceHostPortsOptions): HostPorts {
  const table = new HostPortTable();
  const listeners = new Map<string, (() => void)[]>();

  async function open(port: HostPort): Promise<() => void> {
    const hostname = port.hostIP ?? nodeAddresses.find((one) => ipFamily(one) === port.family);
    if (hostname === undefined) throw new Error(`the node has no IPv${port.family} address`);
    const listenPort = effectivePort(port.hostPort);
    const key = `${port.podIP}:${port.podPort}`;
    const to = { hostname: port.podIP, port: effectivePort(port.podPort), key };
    if (port.protocol === "UDP") {
      const relay = await openUdpRelay(hostname, listenPort, clock, () => to);
      return () => relay.close();
    }
    if (port.protocol === "SCTP") throw new Error("the loopback network carries TCP and UDP only");
    const socket = relayHandlers((_client, failed) => (failed.length === 0 ? to : undefined));
    const listener: TCPSocketListener<unknown> = Bun.listen({
      hostname,
      port: listenPort,
      allowHalfOpen: true,
      socket: socket as never,
    });
    return () => listener.stop();
  }

  async function add(pod: PodHostPorts): Promise<readonly string[]> {
    if (pod.ports.length === 0 || listeners.has(pod.uid)) return [];
    table.add(pod);
    const opened: (() => void)[] = [];
    listeners.set(pod.uid, opened);
    const problems: string[] = [];
    for (const port of pod.ports) {
      try {
        opened.push(await open(port));
      } catch (error) {
        problems.push(`host port ${hostPortText(port)} is not served: ${messageOf(error)}`);
      }
    }
    return problems;
  }

  return {
    async load(pods) {
      // Each is opened by its own `add`, which can say what is wrong.
      for (const { uid } of pods) table.remove(uid);
    },
    add,
    async remove(uid) {
      for (const close of listeners.get(uid) ?? []) close();
      listeners.delete(uid);
      table.remove(uid);
    },
  };
}
