// From the options of `up` to the settings of a stack: defaults, checks, and what may not change while a stack exists. Pure,
// but for the port that the API server gets.

import { overlaps, parseCidr } from "../base/cidr.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { forwardOf } from "../dns/config-map.ts";
import { checkFlags, type ProxyFlagTexts, proxyFlagNames } from "./proxy-flags.ts";
import {
  defaultRanges,
  type ImageRule,
  type NetworkKind,
  type ProxyMode,
  type Ranges,
  type StackSettings,
} from "./stack.ts";

/** What the user said; absent is not said. */
export interface UpOptions {
  readonly name: string;
  readonly network?: string;
  readonly nodes?: string;
  /** Names joined by commas. */
  readonly zones?: string;
  readonly proxyMode?: string;
  readonly proxyFlags?: ProxyFlagTexts;
  readonly images: readonly string[];
  /** Addresses joined by commas, or `none`. */
  readonly dnsUpstream?: string;
  readonly ranges: { readonly [R in keyof Ranges]?: string };
}

/** Which option sets which range. */
export const rangeOptions: Readonly<Record<keyof Ranges, string>> = {
  pods: "--pod-cidr",
  services: "--service-cidr",
  loadBalancers: "--load-balancer-cidr",
  nodes: "--node-cidr",
};

const mostNodes = 16;

/**
 * The settings of a new stack. `host.privileged` says whether namespaces can be made here. Throws a UserError (exit code 2) that
 * names the option.
 */
export function newSettings(
  options: UpOptions,
  host: { readonly privileged: boolean; readonly apiPort: number; readonly workingDirectory: string },
): StackSettings {
  const { privileged, apiPort, workingDirectory } = host;
  const network = networkKind(options.network) ?? (privileged ? "netns" : "loopback");
  const ranges = { ...defaultRanges[network], ...dropUndefined(options.ranges) };
  checkRanges(ranges, network);
  const mode = proxyMode(options.proxyMode, network);
  const { proxyFlags = {} } = options;
  checkFlags(proxyFlags, mode, ranges.nodes);
  return {
    name: options.name,
    network,
    ranges,
    nodes: nodeCount(options.nodes) ?? 1,
    ...(options.zones === undefined ? {} : { zones: zoneNames(options.zones) }),
    proxyMode: mode,
    ...(Object.keys(proxyFlags).length > 0 ? { proxyFlags } : {}),
    images: options.images.map(imageRule),
    ...(options.dnsUpstream === undefined ? {} : { dnsUpstream: dnsUpstream(options.dnsUpstream) }),
    apiPort,
    workingDirectory,
  };
}

/**
 * The settings of a stack that exists, with what may be added to them. Throws a UserError when the options ask for another
 * network, other ranges or another number of nodes.
 */
export function joinedSettings(existing: StackSettings, options: UpOptions): StackSettings {
  const differs = (option: string, has: string | number, asked: string | undefined) => {
    if (asked === undefined || String(has) === asked) return;
    throw new UserError(`stack "${existing.name}" was made with ${option} ${has}, not ${asked}`, {
      remedy: `Leave the option out, or begin anew after: fairlead down --name ${existing.name}`,
    });
  };
  differs("--network", existing.network, options.network);
  differs("--nodes", existing.nodes, options.nodes);
  differs("--zones", existing.zones?.join(",") ?? "(none)", options.zones && zoneNames(options.zones).join(","));
  differs("--proxy-mode", existing.proxyMode, options.proxyMode);
  differs("--dns-upstream", existing.dnsUpstream ?? "host", options.dnsUpstream && dnsUpstream(options.dnsUpstream));
  for (const flag of proxyFlagNames) {
    differs(`--${flag}`, existing.proxyFlags?.[flag] ?? "as it is by default", options.proxyFlags?.[flag]);
  }
  for (const range of Object.keys(rangeOptions) as (keyof Ranges)[]) {
    differs(rangeOptions[range], existing.ranges[range], options.ranges[range]);
  }
  const added = options.images
    .map(imageRule)
    .filter((rule) => !existing.images.some((one) => Bun.deepEquals(one, rule)));
  return added.length > 0 ? { ...existing, images: [...existing.images, ...added] } : existing;
}

function networkKind(text: string | undefined): NetworkKind | undefined {
  if (text === undefined || text === "netns" || text === "loopback") return text;
  throw wrong(`--network ${text}`, "there are netns and loopback");
}

/** The modes of each network; the first is the default. */
const proxyModes: Readonly<Record<NetworkKind, readonly ProxyMode[]>> = {
  netns: ["iptables", "nftables", "ipvs"],
  loopback: ["userspace"],
};

function proxyMode(text: string | undefined, network: NetworkKind): ProxyMode {
  const modes = proxyModes[network];
  if (text === undefined) return modes[0]!;
  const mode = modes.find((one) => one === text);
  if (mode) return mode;
  const why =
    network === "loopback"
      ? "the loopback network has no kernel rules, only userspace"
      : `the netns network has ${modes.join(", ")}`;
  throw wrong(`--proxy-mode ${text}`, why);
}

function nodeCount(text: string | undefined): number | undefined {
  if (text === undefined) return undefined;
  const count = Number(text);
  if (Number.isInteger(count) && count >= 1 && count <= mostNodes) return count;
  throw wrong(`--nodes ${text}`, `a number from 1 to ${mostNodes} is wanted`);
}

/** Each becomes the value of a label. */
function zoneNames(text: string): readonly string[] {
  const names = text.split(",").map((name) => name.trim());
  for (const name of names) {
    if (/^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$/.test(name)) continue;
    throw wrong(`--zones ${text}`, `"${name}" cannot be a zone; write names joined by commas, for example a,b,c`);
  }
  return names;
}

/** Checked here, so that a word that is no address is told at once. */
function dnsUpstream(text: string): string {
  try {
    forwardOf(text);
    return text;
  } catch (error) {
    throw wrong(`--dns-upstream ${text}`, messageOf(error));
  }
}

function imageRule(text: string): ImageRule {
  const at = text.indexOf("=");
  if (at > 0 && at < text.length - 1) return { pattern: text.slice(0, at), command: text.slice(at + 1) };
  throw wrong(`--image '${text}'`, "write it as PATTERN=COMMAND, for example 'nginx*=python3 -m http.server 80'");
}

function checkRanges(ranges: Ranges, network: NetworkKind): void {
  const names = Object.keys(rangeOptions) as (keyof Ranges)[];
  const parsed = names.map((name) => {
    const cidr = parseCidr(ranges[name]);
    if (!cidr)
      throw wrong(`${rangeOptions[name]} ${ranges[name]}`, "not an address range in CIDR notation (10.96.0.0/16)");
    if (cidr.family !== 4) throw wrong(`${rangeOptions[name]} ${ranges[name]}`, "IPv6 ranges come in a later version");
    const smallest = name === "nodes" ? 28 : 20;
    if (cidr.prefix > smallest || cidr.prefix < 8) {
      throw wrong(`${rangeOptions[name]} ${ranges[name]}`, `a prefix length from 8 to ${smallest} is wanted`);
    }
    if (network === "loopback" && !ranges[name].startsWith("127.")) {
      throw wrong(`${rangeOptions[name]} ${ranges[name]}`, "the loopback network has only addresses of 127.0.0.0/8");
    }
    return cidr;
  });
  for (let a = 0; a < names.length; a++) {
    for (let b = a + 1; b < names.length; b++) {
      if (!overlaps(parsed[a]!, parsed[b]!)) continue;
      const [one, other] = [names[a]!, names[b]!];
      throw wrong(`${rangeOptions[one]} ${ranges[one]}`, `it overlaps ${rangeOptions[other]} ${ranges[other]}`);
    }
  }
}

function dropUndefined<T extends object>(object: T): T {
  return Object.fromEntries(Object.entries(object).filter(([, value]) => value !== undefined)) as T;
}

function wrong(what: string, why: string): UserError {
  return new UserError(`${what}: ${why}`, { exitCode: 2, remedy: "See: fairlead up --help" });
}
