// The `ip` program (iproute2): many commands with one process start. The only file here that starts it.

import { type Cidr, parseCidr } from "../../base/cidr.ts";
import { UserError } from "../../base/errors.ts";
import type { IpFamily } from "../../base/ip.ts";
import { runCommand } from "../network.ts";

/** Commands for one namespace (the host's own when `netns` is undefined), as `ip -batch` reads them: without the word `ip`. */
export interface IpBatch {
  readonly netns: string | undefined;
  readonly lines: readonly string[];
  /** Goes on after a command that fails (removals). */
  readonly force?: boolean;
  /** For lines that have no address to take the family from. */
  readonly family?: IpFamily;
}

/** Processes at a time: enough to keep a small machine busy, few enough to leave it usable. */
const sideBySide = 8;

/** Runs batches that do not depend on each other side by side. Throws on the first command that failed, naming it. */
export async function runBatches(batches: readonly IpBatch[]): Promise<void> {
  const waiting = batches.filter((batch) => batch.lines.length > 0);
  const worker = async () => {
    for (let batch = waiting.shift(); batch; batch = waiting.shift()) await runBatch(batch);
  };
  await Promise.all(Array.from({ length: Math.min(sideBySide, waiting.length) }, worker));
}

export async function runBatch(batch: IpBatch): Promise<void> {
  const options = [
    ...(batch.netns ? ["-n", batch.netns] : []),
    ...(batch.family === 6 ? ["-6"] : []),
    ...(batch.force ? ["-force"] : []),
  ];
  const argv = ["ip", ...options, "-batch", "-"];
  let result: Awaited<ReturnType<typeof runCommand>>;
  try {
    result = await runCommand(argv, { stdin: `${batch.lines.join("\n")}\n` });
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== "ENOENT") throw error;
    throw new UserError("the program `ip` is not there", {
      remedy: "install the package iproute2, or use --network loopback",
    });
  }
  if (result.exitCode === 0 || batch.force) return;
  const at = /Command failed -:(\d+)/.exec(result.stderr);
  const line = at ? batch.lines[Number(at[1]) - 1] : undefined;
  const reason = result.stderr.split("\n")[0]?.trim() ?? "";
  const where = batch.netns ? `ip -n ${batch.netns}` : "ip";
  throw new UserError(`\`${where} ${line ?? "-batch"}\` failed: ${reason}`);
}

/** One route of the host, as far as it matters whether a range is free. */
export interface HostRoute {
  /** An address, a CIDR, or `default`. */
  readonly dst: string;
  readonly dev?: string;
  readonly gateway?: string;
}

/** The unicast routes of all tables of the host, of both families. */
export async function hostRoutes(): Promise<readonly HostRoute[]> {
  const routes = await Promise.all(
    ["-4", "-6"].map(async (family) => {
      const result = await runCommand(["ip", family, "-j", "route", "show", "table", "all", "type", "unicast"]);
      if (result.exitCode !== 0) throw new UserError(`\`ip ${family} route\` failed: ${result.stderr.trim()}`);
      return result.stdout.trim() === "" ? [] : (JSON.parse(result.stdout) as HostRoute[]);
    }),
  );
  return routes.flat();
}

/** What a route is for; undefined for `default` and what is no range. */
export function routeRange({ dst }: HostRoute): Cidr | undefined {
  return parseCidr(dst.includes("/") ? dst : `${dst}/${dst.includes(":") ? 128 : 32}`);
}
