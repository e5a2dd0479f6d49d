// The ports that programs listen on in a network namespace, as the kernel lists them (proc(5), /proc/net/tcp and udp). What is
// bound to a loopback address only is left out: nothing from outside of the node comes there.

import { readFileSync } from "node:fs";
import { inNetns } from "../../base/setns.ts";

/** `TCP 31080`. */
export type ListeningPort = `${"TCP" | "UDP"} ${number}`;

/** States of include/net/tcp_states.h: a TCP socket that listens; a UDP socket that is connected to nobody. */
const waiting = { TCP: "0A", UDP: "07" } as const;

/** The ports that somebody listens on in the namespace at `netns`, or where this process is. Reads four files. */
export function listeningPorts(netns: string | undefined): ReadonlySet<ListeningPort> {
  return inNetns(netns, () => {
    const ports = new Set<ListeningPort>();
    for (const protocol of ["TCP", "UDP"] as const) {
      for (const version of ["", "6"]) {
        for (const port of parseSockets(protocol, read(`${protocol.toLowerCase()}${version}`))) ports.add(port);
      }
    }
    return ports;
  });
}

/** A kernel without IPv6 has no files of it. */
function read(name: string): string {
  try {
    return readFileSync(`/proc/thread-self/net/${name}`, "utf8");
  } catch {
    return "";
  }
}

/** One line a socket: number, local address and port in hexadecimal, remote ones, state. Addresses are words of the host's byte order. */
export function parseSockets(protocol: "TCP" | "UDP", text: string): readonly ListeningPort[] {
  return text.split("\n").flatMap((line): ListeningPort[] => {
    const match = /^\s*\d+: ([0-9A-F]{8}|[0-9A-F]{32}):([0-9A-F]{4}) [0-9A-F]+:[0-9A-F]{4} ([0-9A-F]{2}) /.exec(line);
    if (!match || match[3] !== waiting[protocol] || isLoopback(match[1]!)) return [];
    return [`${protocol} ${Number.parseInt(match[2]!, 16)}`];
  });
}

function isLoopback(address: string): boolean {
  return address.length === 8 ? address.endsWith("7F") : address === "00000000000000000000000001000000";
}
