// A packet as people write it: `tcp 10.244.1.5:40000 -> 10.96.0.20:80`. Text to parts and nothing more: names of pods, nodes
// and Services stay names; whoever knows the cluster gives them addresses.

import { UserError } from "../base/errors.ts";
import { canonicalAddress, ipFamily } from "../base/ip.ts";
import type { Protocol } from "./objects.ts";

/** Where a packet comes from or goes to, as it was written. */
export type PacketPlace =
  | { readonly kind: "address"; readonly address: string }
  /** `node`: the node that the question is put to; `node/NAME`: that one. */
  | { readonly kind: "node"; readonly name: string | undefined }
  /** `NAMESPACE/NAME`: of a pod where a packet comes from, of a Service where it goes to. */
  | { readonly kind: "object"; readonly namespace: string; readonly name: string };

export interface PacketQuestion {
  readonly protocol: Protocol;
  readonly source: { readonly place: PacketPlace; readonly port: number | undefined };
  readonly destination: { readonly place: PacketPlace; readonly port: number };
}

const example = "tcp 10.244.1.5:40000 -> 10.96.0.20:80";

/** Throws a UserError (exit code 2) that says which part is wrong. */
export function parsePacketQuestion(text: string): PacketQuestion {
  const parts = /^\s*(\S+)\s+(\S+)\s*(?:->|→)\s*(\S+)\s*$/.exec(text);
  if (!parts) throw wrong(text, "it is not written as PROTOCOL SOURCE -> DESTINATION");
  const [, protocolText = "", from = "", to = ""] = parts;
  const protocol = protocolText.toUpperCase();
  if (protocol !== "TCP" && protocol !== "UDP" && protocol !== "SCTP") {
    throw wrong(text, `there is no protocol "${protocolText}" for Services; there are tcp, udp and sctp`);
  }
  const source = endOf(text, from);
  const destination = endOf(text, to);
  const { port } = destination;
  if (port === undefined) throw wrong(text, `the destination "${to}" has no port`);
  const families = [source.place, destination.place].map((place) =>
    place.kind === "address" ? ipFamily(place.address) : undefined,
  );
  if (families[0] && families[1] && families[0] !== families[1]) {
    throw wrong(text, "source and destination are of different IP families");
  }
  return { protocol, source, destination: { place: destination.place, port } };
}

function endOf(text: string, end: string): PacketQuestion["source"] {
  const bracketed = /^\[([^\]]*)\](?::(\d+))?$/.exec(end);
  const bare = bracketed || ipFamily(end) === 6 ? undefined : /^([^:]*)(?::(\d+))?$/.exec(end);
  const [host, portText] = bracketed
    ? [bracketed[1] ?? "", bracketed[2]]
    : bare
      ? [bare[1] ?? "", bare[2]]
      : [end, undefined];
  const port = portText === undefined ? undefined : Number(portText);
  if (port !== undefined && (port < 1 || port > 65_535)) {
    throw wrong(text, `${portText} is no port; ports are 1 to 65535`);
  }
  if (ipFamily(host) !== undefined) return { place: { kind: "address", address: canonicalAddress(host) }, port };
  if (host === "node") return { place: { kind: "node", name: undefined }, port };
  const names = /^([^/]+)\/([^/]+)$/.exec(host);
  if (names?.[1] === "node") return { place: { kind: "node", name: names[2]! }, port };
  if (names) return { place: { kind: "object", namespace: names[1]!, name: names[2]! }, port };
  const remedy = end.includes(":") && !bracketed && !bare ? "; write IPv6 addresses with ports as [fd00::1]:80" : "";
  throw wrong(text, `"${end}" is no address, node, node/NAME or NAMESPACE/NAME${remedy}`);
}

function wrong(text: string, why: string): UserError {
  return new UserError(`packet '${text}': ${why}`, { remedy: `For example: --packet '${example}'`, exitCode: 2 });
}
