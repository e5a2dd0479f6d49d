// What `up` looks at before it touches anything: whether namespaces can be made here, whether the programs are there, and
// whether a range is taken by somebody else's route.

import { readFileSync } from "node:fs";
import { UserError } from "../base/errors.ts";
import { missingIpvsSupport } from "../node/ipvs/support.ts";
import { hostRoutes } from "../node/netns/ip.ts";
import { hostLink } from "../node/netns/names.ts";
import { netnsSupport } from "../node/netns/netns-network.ts";
import { checkRanges } from "../node/netns/ranges.ts";
import type { Run } from "../node/service-rules.ts";
import { ipvsOptions, type ProxyFlagTexts } from "./proxy-flags.ts";
import { familiesOfRanges } from "./ranges-from-options.ts";
import { checkRulesSupport } from "./rules-support.ts";
import type { StackSettings } from "./stack.ts";

export interface Prerequisites {
  readonly privileged: boolean;
  /** One line for the user, when privileges are missing and nobody asked for a network. */
  readonly note: string | undefined;
  /** Throws a UserError when a stack of these settings cannot be made here. */
  check(settings: StackSettings): Promise<void>;
}

/** `asked` is the network that the user, or the stack's own settings, ask for. Throws a UserError when it cannot be had. */
export async function hostPrerequisites(asked: string | undefined): Promise<Prerequisites> {
  const support = netnsSupport();
  if (asked === "netns" && !support.ok) {
    throw new UserError(`--network netns: ${support.reason}`, {
      remedy: "Use --network loopback, which needs no privileges, or run as root.",
    });
  }
  return {
    privileged: support.ok,
    note: support.ok || asked !== undefined ? undefined : `Using --network loopback: ${support.reason}.`,
    async check(settings) {
      if (settings.network !== "netns") return;
      const six = familiesOfRanges(settings.ranges).includes(6);
      const iptables = ["iptables", "iptables-restore", ...(six ? ["ip6tables", "ip6tables-restore"] : [])];
      const programs = settings.proxyMode === "nftables" ? ["nft"] : iptables;
      for (const program of programs) {
        if (Bun.which(program, { PATH: `${process.env.PATH}:/usr/sbin:/sbin` })) continue;
        const packageName = program === "nft" ? "nftables" : "iptables";
        throw new UserError(`the program ${program} is missing; Service rules need it`, {
          remedy: `Install it (Debian: apt-get install ${packageName}).`,
        });
      }
      if (settings.proxyMode === "ipvs") await checkIpvs(settings.proxyFlags ?? {});
      if (six) checkIPv6(hasIPv6());
      checkRanges(settings.ranges, await hostRoutes(), hostLink(settings.name));
      const { proxyMode } = settings;
      if (proxyMode === "iptables" || proxyMode === "nftables")
        await checkRulesSupport(proxyMode, familiesOfRanges(settings.ranges));
    },
  };
}

/** Whether a link that is made now would have IPv6; undefined when the kernel has none at all. */
function hasIPv6(): boolean | undefined {
  try {
    return readFileSync("/proc/sys/net/ipv6/conf/default/disable_ipv6", "utf8").trim() === "0";
  } catch {
    return undefined;
  }
}

/** Throws a UserError where the machine could not be joined to an IPv6 network; its settings are not ours to change. */
function checkIPv6(has: boolean | undefined): void {
  if (has) return;
  throw new UserError(
    `--ip-families: ${has === undefined ? "this kernel has no IPv6" : "IPv6 is off on this machine"}`,
    {
      remedy:
        has === undefined
          ? "Load the module ipv6, or use --ip-families ipv4."
          : "Turn it on for links that are made from now on: sysctl -w net.ipv6.conf.default.disable_ipv6=0",
      exitCode: 2,
    },
  );
}

async function checkIpvs(flags: ProxyFlagTexts): Promise<void> {
  const run: Run = async (argv) => {
    const child = Bun.spawn([...argv], { stdin: "ignore", stdout: "pipe", stderr: "pipe" });
    const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
    return { code: await child.exited, stdout, stderr };
  };
  const missing = await missingIpvsSupport(run, ipvsOptions(flags).scheduler);
  if (missing) throw new UserError(`--proxy-mode ipvs: ${missing.reason}`, { remedy: missing.remedy });
}
