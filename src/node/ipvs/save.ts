// What the tools print of the kernel's state (`ipvsadm -Sn`, `ipset save`, `ip -o address`, `iptables-save`) read back as
// pieces in the form that `render` writes, and the pieces printed in those formats. What belongs to others is not looked at.

import { type Cidr, contains, parseCidr } from "../../base/cidr.ts";
import type { IpFamily } from "../../base/ip.ts";
import { normaliseRule } from "../iptables/save.ts";
import type { Rules } from "../service-rules.ts";
import { realServerOf } from "./difference.ts";
import { device, setIds, setName } from "./names.ts";

type Pieces = readonly (readonly [name: string, lines: readonly string[]])[];

export interface SavedServers {
  readonly pieces: Pieces;
  /** Real servers with weight 0, by virtual server: they only finish their connections, and are in no piece. */
  readonly draining: ReadonlyMap<string, ReadonlySet<string>>;
}

/** Parses `ipvsadm -Sn`: virtual servers of one family that are in none of the ranges of others. */
export function parseServers(text: string, family: IpFamily, excludeCidrs: readonly string[] = []): SavedServers {
  const excluded = excludeCidrs.flatMap((range) => parseCidr(range) ?? []);
  const found = new Map<string, string[]>();
  const draining = new Map<string, Set<string>>();
  for (const line of text.split("\n")) {
    const words = line.trim().split(" ");
    const [verb, flag, address] = words;
    if (flag === undefined || address === undefined || flag === "-f") continue;
    const server = `${flag} ${address}`;
    if (!isOurs(address, family, excluded)) continue;
    const rest = words.slice(3).join(" ");
    if (verb === "-A") found.set(server, [rest]);
    else if (verb === "-a") {
      if (!/ -w 0( |$)/.test(rest)) found.get(server)?.push(rest);
      else {
        const reals = draining.get(server) ?? new Set();
        draining.set(server, reals.add(realServerOf(rest)));
      }
    }
  }
  const pieces = [...found].map(([server, [header = "", ...reals]]): Pieces[number] => [
    `ipvs/${server}`,
    [header, ...reals.sort()],
  ]);
  return { pieces, draining };
}

function isOurs(text: string, family: IpFamily, excluded: readonly Cidr[]): boolean {
  if (text.startsWith("[") !== (family === 6)) return false;
  if (excluded.length === 0) return true;
  const address = text.slice(0, text.lastIndexOf(":")).replace(/[[\]]/g, "");
  return !excluded.some((range) => contains(range, address));
}

/** Connections of a real server. */
export interface RealServerLoad {
  readonly server: string;
  readonly real: string;
  readonly weight: number;
  readonly connections: number;
}

const protocolFlags: Readonly<Record<string, string>> = { TCP: "-t", UDP: "-u", SCTP: "--sctp-service" };

/** Parses `ipvsadm -Ln`: active and inactive connections together. */
export function parseLoads(text: string): readonly RealServerLoad[] {
  const loads: RealServerLoad[] = [];
  let server: string | undefined;
  for (const line of text.split("\n")) {
    const words = line.trim().split(/\s+/);
    const [first = "", second = ""] = words;
    const flag = protocolFlags[first];
    if (flag) server = `${flag} ${second}`;
    else if (first === "FWM") server = undefined;
    else if (first === "->" && server !== undefined && words.length >= 6) {
      const [weight, active, inactive] = words.slice(3).map(Number) as [number, number, number];
      loads.push({ server, real: second, weight, connections: active + inactive });
    }
  }
  return loads;
}

/** Parses `ipset save`: our sets of one family and their entries. */
export function parseSets(text: string, family: IpFamily): Pieces {
  const ours = new Set(setIds.map((id) => setName(id, family)));
  const pieces: (readonly [string, readonly string[]])[] = [];
  for (const line of text.split("\n")) {
    const [verb, name = "", ...rest] = line.trim().split(" ");
    if (!ours.has(name)) continue;
    if (verb === "create") pieces.push([`set/${name}`, [headerOf(rest)]]);
    else if (verb === "add") pieces.push([`entry/${name} ${rest[0]}`, [`add ${name} ${rest[0]}`]]);
  }
  return pieces;
}

/** Of what a set was made with, what was asked for: sizes of the hash grow by themselves. */
function headerOf(words: readonly string[]): string {
  const [type = "", ...options] = words;
  const kept: string[] = [type];
  for (let at = 0; at + 1 < options.length; at += 2) {
    if (["family", "maxelem", "range"].includes(options[at]!)) kept.push(options[at]!, options[at + 1]!);
  }
  return kept.join(" ");
}

/** Parses `ip -o address show dev kube-ipvs0`; undefined text: there is no such device. */
export function parseAddresses(text: string | undefined, family: IpFamily): Pieces {
  if (text === undefined) return [];
  const pieces: (readonly [string, readonly string[]])[] = [[`device/${device}`, ["type dummy"]]];
  for (const line of text.split("\n")) {
    const [, word, address] = /\s(inet6?)\s+(\S+)/.exec(line) ?? [];
    if (address === undefined || word !== (family === 4 ? "inet" : "inet6")) continue;
    // The link-local address of IPv6 is the kernel's own.
    if (line.includes("scope link")) continue;
    pieces.push([`address/${address.slice(0, address.indexOf("/"))}`, [address]]);
  }
  return pieces;
}

const ownChains: Readonly<Record<string, ReadonlySet<string>>> = {
  nat: new Set(["KUBE-SERVICES", "KUBE-POSTROUTING", "KUBE-NODE-PORT", "KUBE-LOAD-BALANCER", "KUBE-MARK-MASQ"]),
  filter: new Set([
    "KUBE-FORWARD",
    "KUBE-NODE-PORT",
    "KUBE-PROXY-FIREWALL",
    "KUBE-SOURCE-RANGES-FIREWALL",
    "KUBE-IPVS-FILTER",
    "KUBE-IPVS-OUT-FILTER",
  ]),
};

/** Parses `iptables-save`: our chains with their rules, and our jumps in the built-in chains. */
export function parseChains(text: string): Pieces {
  const found = new Map<string, string[]>();
  let table = "";
  const linesOf = (chain: string) => {
    const name = `${table}/${chain}`;
    const lines = found.get(name) ?? [];
    found.set(name, lines);
    return lines;
  };
  for (const raw of text.split("\n")) {
    const line = raw.startsWith("[") ? raw.slice(raw.indexOf("]") + 2) : raw;
    const own = ownChains[table];
    if (line.startsWith("*")) table = line.slice(1).trim();
    else if (line.startsWith(":")) {
      const chain = line.slice(1, line.indexOf(" "));
      if (own?.has(chain)) linesOf(chain);
    } else if (line.startsWith("-A ")) {
      const [, chain = "", words = ""] = /^-A (\S+) ?(.*)$/.exec(line) ?? [];
      const rule = normaliseRule(words);
      const target = /(?:^| )-j (\S+)$/.exec(rule)?.[1];
      if (own?.has(chain) || (target !== undefined && own?.has(target) && !chain.startsWith("KUBE-"))) {
        linesOf(chain).push(rule);
      }
    }
  }
  return [...found];
}

/** All pieces but the chains as texts that the tools print and take: ipvsadm-save, ipset save, and the device for ip -batch. */
export function printRules(rules: Rules): string {
  const servers: string[] = [];
  const made: string[] = [];
  const entries: string[] = [];
  const links: string[] = [];
  for (const [name, lines] of [...rules].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0))) {
    const slash = name.indexOf("/");
    const kind = name.slice(0, slash);
    const rest = name.slice(slash + 1);
    if (kind === "ipvs") {
      servers.push(`-A ${rest} ${lines[0]}`, ...lines.slice(1).map((line) => `-a ${rest} ${line}`));
    } else if (kind === "set") made.push(`create ${rest} ${lines.join(" ")}`);
    else if (kind === "entry") entries.push(...lines);
    else if (kind === "device") links.unshift(`link add dev ${rest} ${lines.join(" ")}`);
    else if (kind === "address") links.push(`address add ${lines.join(" ")} dev ${device}`);
  }
  const part = (title: string, lines: readonly string[]) => `# ${title}\n${lines.map((line) => `${line}\n`).join("")}`;
  return [
    part("ipvsadm --save --numeric", servers),
    part("ipset save", [...made, ...entries]),
    part("ip -batch", links),
  ].join("\n");
}
