// The iptables backend: kube-proxy's rules written with whatever `iptables` the host has, nft or legacy (`iptables --version`
// says which; both were tried). Reading and writing are one process each; what to write is decided in `difference.ts`.

import type { ServiceTable } from "../../services/service-table.ts";
import type { Renderer, Rules, Run, ServiceRules, Transaction } from "../service-rules.ts";
import { difference } from "./difference.ts";
import { canaryChain, type IptablesOptions } from "./fixed-chains.ts";
import { IptablesRenderer, render } from "./renderer.ts";
import { parseSave } from "./save.ts";
import { inSections } from "./sections.ts";
import { speaksNftables } from "./variant.ts";

/** Seconds to wait for /run/xtables.lock, as kube-proxy does. */
const lockWait = "5";

/** The backend for one family on one node. `run` starts programs inside the node's network namespace. */
export function iptables(run: Run, options: IptablesOptions): ServiceRules {
  const tool = options.family === 4 ? "iptables" : "ip6tables";
  let prepared = false;
  let overNftables: boolean | undefined;

  async function read(): Promise<Rules> {
    const result = await run([`${tool}-save`]);
    if (result.code !== 0)
      throw new Error(`${tool}-save failed (exit code ${result.code}): ${firstLine(result.stderr)}`);
    return parseSave(result.stdout);
  }

  /** Without it the kernel drops what is sent from 127.0.0.1 to a pod (pkg/proxy/iptables/proxier.go NewProxier). */
  async function allowLocalhostNodePorts(): Promise<void> {
    if (prepared || options.family !== 4 || !options.localhostNodePorts) return;
    const result = await run(["sh", "-c", "echo 1 > /proc/sys/net/ipv4/conf/all/route_localnet"]);
    if (result.code !== 0) throw new Error(`net.ipv4.conf.all.route_localnet was not set: ${firstLine(result.stderr)}`);
    prepared = true;
  }

  async function commit(transaction: Transaction): Promise<void> {
    if (transaction.text === "") return;
    await allowLocalhostNodePorts();
    overNftables ??= await speaksNftables(run);
    const text = overNftables ? inSections(transaction.text) : transaction.text;
    const result = await run([`${tool}-restore`, "-w", lockWait, "--noflush"], text);
    if (result.code === 0) return;
    throw new Error(`${tool}-restore failed (exit code ${result.code}): ${explainFailure(result.stderr, text)}`);
  }

  return {
    mode: "iptables",
    family: options.family,
    render: (table: ServiceTable): Rules => render(table, options),
    renderer: (): Renderer => new IptablesRenderer(options),
    difference,
    read,
    commit,
    async remove() {
      prepared = true;
      await commit(difference(await read(), new Map()));
    },
    async intact() {
      for (const table of ["nat", "filter", "mangle"]) {
        const result = await run([tool, "-w", lockWait, "-t", table, "-S", canaryChain]);
        if (result.code !== 0) return false;
      }
      return true;
    },
  };
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}

/** The tool's words, with the line it stumbled over where it names one. */
function explainFailure(stderr: string, text: string): string {
  const number = /line:? (\d+)/i.exec(stderr)?.[1];
  const line = number === undefined ? undefined : text.split("\n")[Number(number) - 1];
  return line === undefined ? firstLine(stderr) : `${firstLine(stderr)}: ${line}`;
}
