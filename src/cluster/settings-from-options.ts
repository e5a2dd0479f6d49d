// From the options of `up` to the settings of a stack: defaults, checks, and what may not change while a stack exists. Pure.

import { messageOf, UserError } from "../base/errors.ts";
import { forwardOf } from "../dns/config-map.ts";
import type { NetworkRanges } from "../node/network.ts";
import { checkFlags, type ProxyFlagTexts, proxyFlagNames } from "./proxy-flags.ts";
import { checkProxyWorkers } from "./proxy-workers.ts";
import {
  askedText,
  familiesOfRanges,
  familiesText,
  parseFamilies,
  type RangeOptions,
  rangeOptions,
  rangesFromOptions,
} from "./ranges-from-options.ts";
import type { ImageRule, NetworkKind, ProxyMode, StackSettings } from "./stack.ts";

/** What the user said; absent is not said. */
export interface UpOptions extends RangeOptions {
  readonly name: string;
  readonly network?: string;
  readonly nodes?: string;
  /** Names joined by commas. */
  readonly zones?: string;
  readonly proxyMode?: string;
  readonly proxyFlags?: ProxyFlagTexts;
  readonly proxyWorkers?: string;
  readonly images: readonly string[];
  /** Addresses joined by commas, or `none`. */
  readonly dnsUpstream?: string;
}

const mostNodes = 16;

/**
 * The settings of a new stack. `host.privileged` says whether namespaces can be made here. Throws a UserError (exit code 2) that
 * names the option.
 */
export function newSettings(
  options: UpOptions,
  host: { readonly privileged: boolean; readonly workingDirectory: string },
): StackSettings {
  const { privileged, workingDirectory } = host;
  const network = networkKind(options.network) ?? (privileged ? "netns" : "loopback");
  const mode = proxyMode(options.proxyMode, network);
  const { proxyFlags = {} } = options;
  const ranges = rangesFromOptions(options, network);
  checkFlags(
    proxyFlags,
    mode,
    ranges.map(({ nodes }) => nodes),
  );
  return {
    name: options.name,
    network,
    ranges,
    nodes: nodeCount(options.nodes) ?? 1,
    ...(options.zones === undefined ? {} : { zones: zoneNames(options.zones) }),
    proxyMode: mode,
    ...(Object.keys(proxyFlags).length > 0 ? { proxyFlags } : {}),
    ...(options.proxyWorkers === undefined
      ? {}
      : { proxyWorkers: checkProxyWorkers(options.proxyWorkers, "--proxy-workers", "up") }),
    images: options.images.map(imageRule),
    ...(options.dnsUpstream === undefined ? {} : { dnsUpstream: dnsUpstream(options.dnsUpstream) }),
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
  const families = familiesOfRanges(existing.ranges);
  differs(
    "--ip-families",
    familiesText(families),
    options.ipFamilies && familiesText(parseFamilies(options.ipFamilies)),
  );
  for (const name of Object.keys(rangeOptions) as (keyof NetworkRanges)[]) {
    const asked = options.ranges[name];
    const has = existing.ranges.map((ranges) => ranges[name]).join(",");
    differs(rangeOptions[name], has, asked && askedText(name, asked, families));
  }
  const added = options.images
    .map(imageRule)
    .filter((rule) => !existing.images.some((one) => Bun.deepEquals(one, rule)));
  const proxyWorkers =
    options.proxyWorkers === undefined ? undefined : checkProxyWorkers(options.proxyWorkers, "--proxy-workers", "up");
  const otherWorkers = proxyWorkers !== undefined && proxyWorkers !== (existing.proxyWorkers ?? 1);
  if (added.length === 0 && !otherWorkers) return existing;
  return {
    ...existing,
    images: [...existing.images, ...added],
    ...(otherWorkers ? { proxyWorkers } : {}),
  };
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

function wrong(what: string, why: string): UserError {
  return new UserError(`${what}: ${why}`, { exitCode: 2, remedy: "See: fairlead up --help" });
}
