// kube-proxy's own flags, under its names, for `up` and `rules`: what may be said, and what it means for a backend. They are kept
// as they were written (`stack.json`), checked when they come in, and read here whenever rules are set up.

import { contains, parseCidr } from "../base/cidr.ts";
import { parseDuration } from "../base/duration.ts";
import { UserError } from "../base/errors.ts";
import { type IpFamily, ipFamily } from "../base/ip.ts";
import type { LocalDetector } from "../node/iptables/fixed-chains.ts";
import { type Scheduler, schedulers } from "../node/ipvs/names.ts";
import type { ProxyMode } from "./stack.ts";

interface ProxyFlag {
  readonly type: "string" | "boolean";
  readonly value?: string;
  readonly help: string;
  /** The modes that know it; all kernel modes unless given. */
  readonly modes?: readonly ProxyMode[];
  /** Whether it changes rules, so that `fairlead rules` takes it too. */
  readonly inRules?: true;
  /** Throws a UserError, or tells what is wrong. */
  check?(text: string, option: string): string | undefined;
}

const duration = (text: string, option: string) =>
  parseDuration(text, option) % 1000 === 0 ? undefined : "whole seconds are wanted (30s)";
const bool = (text: string) => (text === "true" || text === "false" ? undefined : "true or false is wanted");
const interfaceName = (longest: number) => (text: string) =>
  text.length <= longest && /^[^\s/:"+*]+$/.test(text)
    ? undefined
    : `no link can have that name (${longest} characters)`;
const ranges = (text: string) => {
  const wrong = text.split(",").find((one) => !parseCidr(one));
  return wrong === undefined
    ? undefined
    : `"${wrong}" is not an address range in CIDR notation; write 10.244.0.0/16, or ranges joined by commas`;
};
const localModes = ["ClusterCIDR", "NodeCIDR", "BridgeInterface", "InterfaceNamePrefix"] as const;
const oneOf = (words: readonly string[]) => (text: string) =>
  words.includes(text) ? undefined : `there are ${words.join(", ")}`;

/** The flags, as options of a command. */
export const proxyFlags = {
  "nodeport-addresses": {
    type: "string",
    value: "RANGE[,…]|primary",
    help: "Node addresses that NodePorts answer on. Default: all in iptables mode, otherwise the node's primary one.",
    inRules: true,
    check: (text) => (text === "primary" ? undefined : ranges(text)),
  },
  "iptables-localhost-nodeports": {
    type: "string",
    value: "true|false",
    help: "Whether NodePorts answer on 127.0.0.1 of the node. Default: true.",
    modes: ["iptables"],
    inRules: true,
    check: bool,
  },
  "masquerade-all": { type: "boolean", help: "Masquerade all traffic to ClusterIPs.", inRules: true },
  "iptables-masquerade-bit": {
    type: "string",
    value: "0…31",
    help: "The bit of the packet mark that asks for masquerading. Default: 14.",
    modes: ["iptables", "ipvs"],
    inRules: true,
    check: (text) => (/^\d{1,2}$/.test(text) && Number(text) <= 31 ? undefined : "a number from 0 to 31 is wanted"),
  },
  "cluster-cidr": {
    type: "string",
    value: "RANGE[,RANGE]",
    help: "What comes from elsewhere is masqueraded on its way to a ClusterIP.",
    inRules: true,
    check: ranges,
  },
  "detect-local-mode": {
    type: "string",
    value: "MODE",
    help: `How traffic of pods is told from other traffic: ${localModes.join(", ")}. Default: ClusterCIDR.`,
    inRules: true,
    check: oneOf(localModes),
  },
  "pod-bridge-interface": {
    type: "string",
    value: "LINK",
    help: "The bridge that pods' traffic comes from, with --detect-local-mode BridgeInterface.",
    inRules: true,
    check: interfaceName(15),
  },
  "pod-interface-name-prefix": {
    type: "string",
    value: "PREFIX",
    help: "How the names of pods' links begin, with --detect-local-mode InterfaceNamePrefix.",
    inRules: true,
    check: interfaceName(14),
  },
  "ipvs-scheduler": {
    type: "string",
    value: "NAME",
    help: `How connections are spread over endpoints: ${schedulers.join(", ")}. Default: rr.`,
    modes: ["ipvs"],
    inRules: true,
    check: oneOf(schedulers),
  },
  "ipvs-strict-arp": {
    type: "boolean",
    help: "Answer ARP only on the device that has the address.",
    modes: ["ipvs"],
  },
  "ipvs-exclude-cidrs": {
    type: "string",
    value: "RANGE[,…]",
    help: "Virtual servers in these ranges are somebody else's and left alone.",
    modes: ["ipvs"],
    check: ranges,
  },
  "ipvs-tcp-timeout": {
    type: "string",
    value: "DURATION",
    help: "How long idle TCP connections are kept. Default, and 0s: as the kernel has it.",
    modes: ["ipvs"],
    check: duration,
  },
  "ipvs-tcpfin-timeout": {
    type: "string",
    value: "DURATION",
    help: "How long TCP connections are kept after FIN. Default, and 0s: as the kernel has it.",
    modes: ["ipvs"],
    check: duration,
  },
  "ipvs-udp-timeout": {
    type: "string",
    value: "DURATION",
    help: "How long idle UDP conversations are kept. Default, and 0s: as the kernel has it.",
    modes: ["ipvs"],
    check: duration,
  },
  "conntrack-tcp-timeout-established": {
    type: "string",
    value: "DURATION",
    help: "How long connection tracking keeps idle TCP connections; 0s: as the kernel has it. Default: 24h.",
    check: duration,
  },
  "conntrack-tcp-timeout-close-wait": {
    type: "string",
    value: "DURATION",
    help: "The same of half-closed ones. Default: 1h.",
    check: duration,
  },
  "conntrack-tcp-be-liberal": {
    type: "boolean",
    help: "Take TCP packets outside of the window for valid ones; no rule drops INVALID packets then.",
    inRules: true,
  },
  "conntrack-udp-timeout": {
    type: "string",
    value: "DURATION",
    help: "How long connection tracking keeps unanswered UDP. Default, and 0s: as the kernel has it.",
    check: duration,
  },
  "conntrack-udp-timeout-stream": {
    type: "string",
    value: "DURATION",
    help: "The same of UDP conversations. Default, and 0s: as the kernel has it.",
    check: duration,
  },
} as const satisfies Record<string, ProxyFlag>;

export type ProxyFlagName = keyof typeof proxyFlags;
/** What was said, by the flag's name; `true` for a switch. */
export type ProxyFlagTexts = { readonly [F in ProxyFlagName]?: string };

export const proxyFlagNames = Object.keys(proxyFlags) as ProxyFlagName[];
const flagOf = (name: ProxyFlagName): ProxyFlag => proxyFlags[name];

/** The flags that `fairlead rules` takes. */
export const rulesFlagNames = proxyFlagNames.filter((name) => flagOf(name).inRules);

/** The flags among a command's words. `text` gives an option's value, `flag` whether a switch is there. */
export function flagsIn(
  words: { text(name: string): string | undefined; flag(name: string): boolean },
  names: readonly ProxyFlagName[],
): ProxyFlagTexts {
  const given = names.flatMap((name) => {
    if (flagOf(name).type === "boolean") return words.flag(name) ? [[name, "true"]] : [];
    const text = words.text(name);
    return text === undefined ? [] : [[name, text]];
  });
  return Object.fromEntries(given);
}

/** Throws a UserError (exit code 2) for a flag of another mode, a value that none can have, or flags that do not go together. */
export function checkFlags(flags: ProxyFlagTexts, mode: ProxyMode, nodes?: readonly string[]): void {
  for (const name of proxyFlagNames) {
    const text = flags[name];
    if (text === undefined) continue;
    const { type, modes, check } = flagOf(name);
    const said = type === "boolean" ? `--${name}` : `--${name} ${text}`;
    if (mode === "userspace") {
      throw wrong(`${said}: without kernel rules (--network loopback) there is nothing that it could change`, name);
    }
    if (modes && !modes.includes(mode)) {
      throw wrong(`${said}: the proxy mode is ${mode}`, name, `Leave it out, or use the mode ${modes.join(" or ")}.`);
    }
    const problem = check?.(text, `--${name}`);
    if (problem !== undefined) throw wrong(`${said}: ${problem}`, name, "See the command's --help.");
  }
  checkDetector(flags);
  const addresses = flags["nodeport-addresses"];
  if (nodes !== undefined && addresses !== undefined && addresses !== "primary") {
    const all = addresses.split(",").flatMap((one) => parseCidr(one) ?? []);
    const own = [...nodes, "127.0.0.0/8"].flatMap((one) => parseCidr(one) ?? []);
    const meets = all.some((a) =>
      own.some((b) => a.family === b.family && a.first < b.first + b.size && b.first < a.first + a.size),
    );
    if (!meets) {
      const remedy = `Give a range that has some of them (they are in ${nodes.join(", ")}), or primary.`;
      throw wrong(`--nodeport-addresses ${addresses}: no node has an address there`, "nodeport-addresses", remedy);
    }
  }
}

function checkDetector(flags: ProxyFlagTexts): void {
  const mode = flags["detect-local-mode"] ?? "ClusterCIDR";
  for (const [needed, of] of [
    ["pod-bridge-interface", "BridgeInterface"],
    ["pod-interface-name-prefix", "InterfaceNamePrefix"],
  ] as const) {
    if (mode === of && flags[needed] === undefined) {
      throw wrong(
        `--detect-local-mode ${of} needs --${needed}`,
        needed,
        `Say --${needed} ${proxyFlags[needed].value}.`,
      );
    }
    if (mode !== of && flags[needed] !== undefined) {
      throw wrong(`--${needed} ${flags[needed]}: only --detect-local-mode ${of} uses it`, needed);
    }
  }
  if (mode !== "ClusterCIDR" && flags["cluster-cidr"] !== undefined) {
    throw wrong(`--cluster-cidr ${flags["cluster-cidr"]}: --detect-local-mode ${mode} does not use it`, "cluster-cidr");
  }
}

function wrong(message: string, flag: ProxyFlagName, remedy = `Leave --${flag} out.`): UserError {
  return new UserError(message, { remedy, exitCode: 2 });
}

/** How pods' traffic is known. `cluster` are all pods' ranges unless --cluster-cidr says otherwise, `node` the node's own parts. */
export function localDetector(
  flags: ProxyFlagTexts,
  family: IpFamily,
  podRanges: { readonly cluster: readonly string[]; readonly node: readonly string[] },
): LocalDetector | undefined {
  const firstOf = (all: readonly string[]): LocalDetector | undefined => {
    const cidr = all.find((one) => parseCidr(one)?.family === family);
    return cidr === undefined ? undefined : { kind: "cidr", cidr };
  };
  switch (flags["detect-local-mode"]) {
    case "BridgeInterface":
      return { kind: "bridge", name: flags["pod-bridge-interface"]! };
    case "InterfaceNamePrefix":
      return { kind: "prefix", prefix: flags["pod-interface-name-prefix"]! };
    case "NodeCIDR":
      return firstOf(podRanges.node);
    default:
      return firstOf(flags["cluster-cidr"]?.split(",") ?? podRanges.cluster);
  }
}

/**
 * The node's addresses that take NodePort traffic; undefined is all local ones. `own` are the node's addresses, the primary one of
 * the family first. Ranges of the other family alone leave this one as if the range were of everything, as kube-proxy does.
 */
export function nodePortAddresses(
  flags: ProxyFlagTexts,
  mode: ProxyMode,
  family: IpFamily,
  own: readonly string[],
): readonly string[] | undefined {
  const mine = own.filter((one) => ipFamily(one) === family);
  const text = flags["nodeport-addresses"] ?? (mode === "iptables" ? undefined : "primary");
  const all = mode === "ipvs" ? mine : undefined;
  if (text === undefined) return all;
  if (text === "primary") return mine.slice(0, 1);
  const given = text.split(",").flatMap((one) => parseCidr(one) ?? []);
  const relevant = given.filter((one) => one.family === family);
  if (relevant.length === 0 || relevant.some(({ prefix }) => prefix === 0)) return all;
  const loopback = family === 4 && mode === "iptables" && localhostNodePorts(flags, family) ? ["127.0.0.1"] : [];
  return [...mine, ...loopback].filter((address) => relevant.some((range) => contains(range, address)));
}

/** Whether NodePorts answer on 127.0.0.0/8, in the one mode that can: not when the addresses that were chosen have none of it. */
export function localhostNodePorts(flags: ProxyFlagTexts, family: IpFamily): boolean {
  if (family !== 4 || flags["iptables-localhost-nodeports"] === "false") return false;
  const text = flags["nodeport-addresses"];
  if (text === undefined) return true;
  const ranges = text.split(",").flatMap((one) => parseCidr(one) ?? []);
  const relevant = ranges.filter((one) => one.family === 4);
  if (text !== "primary" && relevant.length === 0) return true;
  return relevant.some((one) => one.prefix === 0 || contains(one, "127.0.0.1"));
}

/** What all backends have in common. */
export function commonOptions(flags: ProxyFlagTexts) {
  const bit = flags["iptables-masquerade-bit"];
  return {
    ...(flags["masquerade-all"] ? { masqueradeAll: true } : {}),
    ...(bit === undefined ? {} : { masqueradeBit: Number(bit) }),
  };
}

/** What only ipvs has. Timeouts are in seconds, 0 being the kernel's own. */
export function ipvsOptions(flags: ProxyFlagTexts) {
  const seconds = (name: ProxyFlagName) => parseDuration(flags[name] ?? "0s", `--${name}`) / 1000;
  const timeouts = {
    tcp: seconds("ipvs-tcp-timeout"),
    tcpFin: seconds("ipvs-tcpfin-timeout"),
    udp: seconds("ipvs-udp-timeout"),
  };
  return {
    ...(flags["ipvs-scheduler"] ? { scheduler: flags["ipvs-scheduler"] as Scheduler } : {}),
    ...(flags["ipvs-strict-arp"] ? { strictArp: true } : {}),
    ...(flags["ipvs-exclude-cidrs"] ? { excludeCidrs: flags["ipvs-exclude-cidrs"].split(",") } : {}),
    ...(timeouts.tcp + timeouts.tcpFin + timeouts.udp > 0 ? { timeouts } : {}),
  };
}

/**
 * Kernel settings of a node's namespace, as `/proc/sys` paths and values; kube-proxy's defaults where nothing was said
 * (pkg/proxy/conntrack/sysctls.go): a connection whose client does not close may take an hour, where the kernel would forget it
 * after a minute and break it.
 */
export function conntrackSettings(flags: ProxyFlagTexts): Readonly<Record<string, string>> {
  const settings: Record<string, string> = {};
  const timeout = (setting: string, name: ProxyFlagName, byDefault = "0s") => {
    const seconds = parseDuration(flags[name] ?? byDefault, `--${name}`) / 1000;
    if (seconds > 0) settings[`net/netfilter/nf_conntrack_${setting}`] = String(seconds);
  };
  timeout("tcp_timeout_established", "conntrack-tcp-timeout-established", "24h");
  timeout("tcp_timeout_close_wait", "conntrack-tcp-timeout-close-wait", "1h");
  timeout("udp_timeout", "conntrack-udp-timeout");
  timeout("udp_timeout_stream", "conntrack-udp-timeout-stream");
  if (flags["conntrack-tcp-be-liberal"]) settings["net/netfilter/nf_conntrack_tcp_be_liberal"] = "1";
  return settings;
}
