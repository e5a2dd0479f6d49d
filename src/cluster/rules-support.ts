// Whether this machine takes Service rules at all: the rules that are there before any Service are written once in a network
// namespace of their own, which goes away with the program that wrote them. ipvs has a look of its own (`node/ipvs/support.ts`).

import { messageOf, UserError } from "../base/errors.ts";
import type { IpFamily } from "../base/ip.ts";
import { iptables } from "../node/iptables/iptables.ts";
import { runCommand } from "../node/network.ts";
import { nftables } from "../node/nftables/nftables.ts";
import type { Run } from "../node/service-rules.ts";

/** Throws a UserError that names the tool or the feature that is missing; `run` starts programs in a namespace of their own. */
export async function checkRulesSupport(
  mode: "iptables" | "nftables",
  families: readonly IpFamily[],
  run: Run = apart,
): Promise<void> {
  for (const family of families) {
    const rules = mode === "nftables" ? nftables(run, { family }) : iptables(run, { family });
    try {
      await rules.commit(rules.difference(new Map(), rules.renderer().rules));
    } catch (error) {
      const other = mode === "nftables" ? "iptables" : "nftables";
      throw new UserError(
        `--proxy-mode ${mode}: the rules of IPv${family} cannot be written here: ${messageOf(error)}`,
        {
          remedy: `Mend what it names (a package, or a module of the kernel), or use --proxy-mode ${other}.`,
          cause: error,
        },
      );
    }
  }
}

const apart: Run = async (argv, stdin) => {
  const { exitCode, stdout, stderr } = await runCommand(
    ["sh", "-c", 'PATH="$PATH:/usr/sbin:/sbin" exec unshare --net "$@"', "sh", ...argv],
    stdin === undefined ? {} : { stdin },
  );
  return { code: exitCode, stdout, stderr };
};
