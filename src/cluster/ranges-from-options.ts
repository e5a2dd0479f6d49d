// The IP families and address ranges of a stack, from the options of `up`. Each range option takes one range or two of different
// families, joined by a comma, as kube-apiserver's --service-cluster-ip-range does. Pure.

import { parseCidr } from "../base/cidr.ts";
import { UserError } from "../base/errors.ts";
import type { IpFamily } from "../base/ip.ts";
import { checkLoopbackRanges } from "../node/loopback/loopback-network.ts";
import { checkRanges } from "../node/netns/ranges.ts";
import type { NetworkRanges } from "../node/network.ts";
import { defaultLoopbackRanges, defaultRanges, type NetworkKind } from "./stack.ts";

/** What the user said; absent is not said. */
export interface RangeOptions {
  /** `ipv4`, `ipv6`, `ipv4,ipv6`, `ipv6,ipv4`. */
  readonly ipFamilies?: string;
  readonly ranges: { readonly [R in keyof NetworkRanges]?: string };
}

/** Which option sets which range; of several without --ip-families, the first one here decides which family is the primary one. */
export const rangeOptions: Readonly<Record<keyof NetworkRanges, string>> = {
  services: "--service-cidr",
  pods: "--pod-cidr",
  loadBalancers: "--load-balancer-cidr",
  nodes: "--node-cidr",
};

const rangeNames = Object.keys(rangeOptions) as (keyof NetworkRanges)[];

/**
 * The ranges of each family, the primary one first: those asked for, and defaults where none was. Without --ip-families the
 * families are those of the ranges. Throws a UserError (exit code 2) that names the option.
 */
export function rangesFromOptions(options: RangeOptions, network: NetworkKind): readonly NetworkRanges[] {
  const asked = new Map(rangeNames.map((name) => [name, askedRanges(name, options.ranges[name])] as const));
  const families =
    options.ipFamilies === undefined
      ? [...new Set([...asked.values()].flatMap((byFamily) => [...byFamily.keys()]))]
      : parseFamilies(options.ipFamilies);
  if (families.length === 0) families.push(4);
  for (const [name, byFamily] of asked) {
    for (const [family, text] of byFamily) {
      if (families.includes(family)) continue;
      throw wrong(
        `${rangeOptions[name]} ${text}`,
        `this is IPv${family}, and --ip-families is ${familiesText(families)}`,
      );
    }
  }
  if (network === "loopback" && families.includes(6)) {
    throw new UserError(`--ip-families ${familiesText(families)}: the loopback network has no IPv6`, {
      exitCode: 2,
      remedy:
        "It lives on the many addresses of 127.0.0.0/8, and IPv6 has only ::1. Use --network netns as root, or --ip-families ipv4.",
    });
  }
  const defaults = (family: IpFamily) => (network === "loopback" ? defaultLoopbackRanges : defaultRanges[family]);
  const ranges = families.map((family): NetworkRanges => {
    const one = (name: keyof NetworkRanges) => asked.get(name)?.get(family) ?? defaults(family)[name];
    return { pods: one("pods"), services: one("services"), loadBalancers: one("loadBalancers"), nodes: one("nodes") };
  });
  checkRanges(ranges);
  if (network === "loopback") checkLoopbackRanges(ranges);
  return ranges;
}

/** `ipv4,ipv6`: as the option is written. */
export function familiesText(families: readonly IpFamily[]): string {
  return families.map((family) => `ipv${family}`).join(",");
}

/** The families of ranges, in their order. */
export function familiesOfRanges(ranges: readonly NetworkRanges[]): readonly IpFamily[] {
  return ranges.map(({ pods }) => parseCidr(pods)!.family);
}

/** What an option asks for, in the order in which the stack has its families, to be compared with what it has. */
export function askedText(name: keyof NetworkRanges, text: string, families: readonly IpFamily[]): string {
  const byFamily = askedRanges(name, text);
  return [...byFamily.entries()]
    .sort(([a], [b]) => families.indexOf(a) - families.indexOf(b))
    .map(([, range]) => range)
    .join(",");
}

export function parseFamilies(text: string): IpFamily[] {
  const families = text.split(",").map((word): IpFamily | undefined => {
    const name = word.trim().toLowerCase();
    return name === "ipv4" ? 4 : name === "ipv6" ? 6 : undefined;
  });
  const known = families.filter((family) => family !== undefined);
  if (known.length === families.length && new Set(known).size === known.length) return known;
  throw wrong(`--ip-families ${text}`, "there are ipv4, ipv6, and both joined by a comma, the primary one first");
}

function askedRanges(name: keyof NetworkRanges, text: string | undefined): ReadonlyMap<IpFamily, string> {
  const byFamily = new Map<IpFamily, string>();
  for (const one of text?.split(",") ?? []) {
    const range = one.trim();
    const cidr = parseCidr(range);
    if (!cidr) {
      const example = "not an address range in CIDR notation (10.96.0.0/16, or 10.96.0.0/16,fd00:10:96::/112)";
      throw wrong(`${rangeOptions[name]} ${range}`, example);
    }
    if (byFamily.has(cidr.family)) {
      throw wrong(`${rangeOptions[name]} ${text}`, `two ranges of IPv${cidr.family}; there is one of each family`);
    }
    byFamily.set(cidr.family, range);
  }
  return byFamily;
}

function wrong(what: string, why: string): UserError {
  return new UserError(`${what}: ${why}`, { exitCode: 2, remedy: "See: fairlead up --help" });
}
