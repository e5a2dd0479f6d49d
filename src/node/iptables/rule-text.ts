// Pieces of rules in the form that `iptables-save` prints (addresses first, then protocol, matches in the order they were
// given, target last), so that what was rendered and what is read back compare as text. iptables-restore takes the same form.

import { formatCidr, parseCidr } from "../../base/cidr.ts";
import type { IpFamily } from "../../base/ip.ts";

/** `-d 10.96.0.1/32`. */
export function to(address: string): string {
  return `-d ${host(address)}`;
}

/** `-s 10.244.0.5/32`. */
export function from(address: string): string {
  return `-s ${host(address)}`;
}

function host(address: string): string {
  return `${address}/${address.includes(":") ? 128 : 32}`;
}

/** `-s 203.0.113.0/25`; a range that holds everything is no condition, and undefined is no range. */
export function fromRange(range: string): string | undefined {
  const cidr = parseCidr(range);
  if (!cidr) return undefined;
  return cidr.prefix === 0 ? "" : `-s ${formatCidr(cidr)}`;
}

export function comment(text: string): string {
  return `-m comment --comment "${text}"`;
}

/** `-m tcp --dport 80`. */
export function toPort(protocol: string, port: number): string {
  return `-m ${protocol} --dport ${port}`;
}

/** 1/n as the kernel keeps it (31 bits) and prints it, after kube-proxy's own rounding to ten digits. */
export function probability(n: number): string {
  probabilities[n] ??= (Math.round(Number((1 / n).toFixed(10)) * 0x80000000) / 0x80000000).toFixed(11);
  return probabilities[n];
}

/** By n: a Service of 5,000 endpoints asks for all of them whenever one changes. */
const probabilities: string[] = [];

/** Affinity's list of clients, by full source address. */
export function recentTail(list: string, family: IpFamily): string {
  const mask = family === 4 ? "255.255.255.255" : "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff";
  return `--name ${list} --mask ${mask} --rsource`;
}

export function reject(family: IpFamily): string {
  return `-j REJECT --reject-with ${family === 4 ? "icmp" : "icmp6"}-port-unreachable`;
}

/** Joins the parts that are there. */
export function rule(...parts: (string | undefined | false)[]): string {
  return parts.filter((part) => part).join(" ");
}
