// Entries of the kernel's connection tracking as `conntrack -L` prints them, and the arguments that delete them. Pure.

import { canonicalAddress } from "../../base/ip.ts";
import { endpointText } from "../../services/service-table.ts";

interface Place {
  readonly address: string;
  readonly port: number;
}

/** What two entries have in common that lead from one destination to one endpoint. */
export interface ConntrackEntry {
  /** Where the client sends to. */
  readonly destination: Place;
  /** Where answers come from: the endpoint that the destination was translated to, or the destination itself. */
  readonly answers: Place;
}

/** Entries of UDP in the output of `conntrack -L -p udp`; lines of other forms are left out. */
export function parseEntries(text: string): readonly ConntrackEntry[] {
  const entries: ConntrackEntry[] = [];
  for (const line of text.split("\n")) {
    if (!line.startsWith("udp")) continue;
    const values = (field: string) =>
      [...line.matchAll(new RegExp(` ${field}=(\\S+)`, "g"))].map(([, value]) => value!);
    const [destination] = values("dst");
    const [, answers] = values("src");
    const [port] = values("dport");
    const [, answersPort] = values("sport");
    if (!destination || !answers || !port || !answersPort) continue;
    entries.push({
      destination: { address: canonicalAddress(destination), port: Number(port) },
      answers: { address: canonicalAddress(answers), port: Number(answersPort) },
    });
  }
  return entries;
}

/** Deletes all entries that lead from this destination to this endpoint, of whichever client. */
export function deleteArguments({ destination, answers }: ConntrackEntry): readonly string[] {
  return [
    ...["-D", "-f", destination.address.includes(":") ? "ipv6" : "ipv4", "-p", "udp"],
    ...["--orig-dst", destination.address, "--orig-port-dst", String(destination.port)],
    ...["--reply-src", answers.address, "--reply-port-src", String(answers.port)],
  ];
}

export function entryText({ destination, answers }: ConntrackEntry): string {
  return `${endpointText(destination)} ${endpointText(answers)}`;
}
