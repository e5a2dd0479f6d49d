// The ipvs backend: kube-proxy's ipvs mode written with ipvsadm, ipset, ip and iptables. What to write is decided in
// `difference.ts`; here the tools are run, one at a time, and real servers that finish their connections are looked after.

import type { Clock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import type { ServiceTable } from "../../services/service-table.ts";
import type { Renderer, Rules, Run, ServiceRules, Transaction } from "../service-rules.ts";
import { difference, type Step, stepsOf, type Tool } from "./difference.ts";
import { Draining } from "./draining.ts";
import type { IpvsOptions } from "./fixed-chains.ts";
import { device, setName } from "./names.ts";
import { IpvsRenderer, render } from "./renderer.ts";
import { parseAddresses, parseChains, parseLoads, parseServers, parseSets } from "./save.ts";

export interface IpvsTiming {
  readonly clock: Clock;
  readonly log: Logger;
  /** Milliseconds between looks whether connections of removed real servers have ended; upstream's minute unless given. */
  readonly drainEvery?: number;
}

/** The backend, and the timer that it has while real servers drain: `dispose` ends it and leaves everything as it is. */
export type IpvsRules = ServiceRules & Disposable;

/** Seconds to wait for /run/xtables.lock, as kube-proxy does. */
const lockWait = "5";

/** The backend for one family on one node. `run` starts programs inside the node's network namespace. */
export function ipvs(run: Run, options: IpvsOptions, timing: IpvsTiming): IpvsRules {
  const { clock, log, drainEvery = 60_000 } = timing;
  const { family } = options;
  const iptables = family === 4 ? "iptables" : "ip6tables";
  const commands: Readonly<Record<Tool, readonly string[]>> = {
    ipset: ["ipset", "-exist", "restore"],
    iptables: [`${iptables}-restore`, "-w", lockWait, "--noflush"],
    ipvsadm: ["ipvsadm", "-R"],
    ip: ["ip", "-force", "-batch", "-"],
  };
  const draining = new Draining();
  let timer: Disposable | undefined;
  let disposed = false;
  let prepared = false;
  /** Whether the kernel should have virtual servers now; `intact` has no other way to know. */
  let serving = false;
  /** The tail of a queue: reading, writing and draining see each other's work as a whole. */
  let last: Promise<unknown> = Promise.resolve();

  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    const turn = last.then(work);
    last = turn.catch(() => undefined);
    return turn;
  }

  async function output(argv: readonly string[]): Promise<string> {
    const result = await run(argv);
    if (result.code !== 0) throw new Error(`${argv[0]} failed (exit code ${result.code}): ${firstLine(result.stderr)}`);
    return result.stdout;
  }

  async function read(): Promise<Rules> {
    const links = await run(["ip", "-o", "address", "show", "dev", device]);
    const present = links.code === 0 || (await run(["ip", "-o", "link", "show", "dev", device])).code === 0;
    const servers = parseServers(await output(["ipvsadm", "-Sn"]), family, options.excludeCidrs);
    const rules = new Map([
      ...parseAddresses(present ? links.stdout : undefined, family),
      ...parseSets(await output(["ipset", "save"]), family),
      ...parseChains(await output([`${iptables}-save`])),
      ...servers.pieces,
    ]);
    draining.set(servers.draining);
    serving = servers.pieces.length > 0;
    watchDraining();
    return rules;
  }

  async function commitStep(step: Step): Promise<void> {
    const text = step.tool === "ipvsadm" ? draining.follow(step.text) : step.text;
    const { code, stderr } = await run(commands[step.tool], text);
    // ipvsadm goes on after a line that the kernel refused, and ends with 0.
    if (code === 0 && !(step.tool === "ipvsadm" && stderr.trim() !== "")) return;
    throw new Error(`${commands[step.tool].join(" ")} failed (exit code ${code}): ${explainFailure(stderr, text)}`);
  }

  async function commit(transaction: Transaction): Promise<void> {
    const steps = stepsOf(transaction.text);
    if (steps.length === 0) return;
    if (!prepared) await setSysctls(run, options);
    prepared = true;
    for (const step of steps) {
      await commitStep(step);
      if (step.tool === "ipvsadm" && /^-A /m.test(step.text)) serving = true;
    }
    watchDraining();
  }

  function watchDraining(): void {
    if (timer || disposed || draining.size === 0) return;
    timer = clock.after(drainEvery, () => {
      timer = undefined;
      inTurn(drain)
        .catch((error) => log.warn("removed real servers could not be looked at", { error: messageOf(error) }))
        .finally(watchDraining);
    });
  }

  async function drain(): Promise<void> {
    if (disposed) return;
    const text = draining.finished(parseLoads(await output(["ipvsadm", "-Ln"])));
    if (text !== "") await commitStep({ tool: "ipvsadm", text });
  }

  return {
    mode: "ipvs",
    family,
    render: (table: ServiceTable): Rules => render(table, options),
    renderer: (): Renderer => new IpvsRenderer(options),
    difference,
    read: () => inTurn(read),
    commit: (transaction) => inTurn(() => commit(transaction)),
    remove: () =>
      inTurn(async () => {
        prepared = true;
        const now = new Map(await read());
        // Both families keep addresses on the device: the last one to leave takes it away.
        const had = now.delete(`device/${device}`);
        await commit(difference(now, new Map()));
        if (had && !/\sinet6?\s/.test((await run(["ip", "-o", "address", "show", "dev", device])).stdout)) {
          await commitStep({ tool: "ip", text: `link delete dev ${device}\n` });
        }
        timer?.dispose();
        timer = undefined;
      }),
    intact: () =>
      inTurn(async () => {
        for (const [table, chain] of [
          ["nat", "KUBE-MARK-MASQ"],
          ["filter", "KUBE-IPVS-FILTER"],
        ]) {
          const listed = await run([iptables, "-w", lockWait, "-t", table!, "-S", chain!]);
          if (listed.code !== 0 || !listed.stdout.includes("-A ")) return false;
        }
        if ((await run(["ip", "-o", "link", "show", "dev", device])).code !== 0) return false;
        const portals = await run(["ipset", "list", "-terse", setName("KUBE-CLUSTER-IP", family)]);
        if (portals.code !== 0) return false;
        if (!serving) return true;
        const virtual = await run(["grep", "-qE", "^(TCP|UDP|SCTP) ", "/proc/net/ip_vs"]);
        return virtual.code === 0 && !/^Number of entries: 0$/m.test(portals.stdout);
      }),
    dispose() {
      disposed = true;
      timer?.dispose();
      timer = undefined;
    },
  };
}

/** Kernels from 5.9 reuse connections rightly by themselves; before 4.1 there is no such setting (kubernetes 93297). */
const reuseMode = 'case "$(uname -r)" in 4.*|5.[0-8].*) put net/ipv4/vs/conn_reuse_mode 0;; esac';

async function setSysctls(run: Run, options: IpvsOptions): Promise<void> {
  const script = [
    'put() { if [ -e "/proc/sys/$1" ]; then echo "$2" > "/proc/sys/$1" || exit 1; fi; }',
    // IPVS tells connection tracking what it does, so that masquerading finds its connections.
    "put net/ipv4/vs/conntrack 1",
    reuseMode,
    "put net/ipv4/vs/expire_nodest_conn 1",
    "put net/ipv4/vs/expire_quiescent_template 1",
    "put net/ipv4/ip_forward 1",
    ...(options.strictArp ? ["put net/ipv4/conf/all/arp_ignore 1", "put net/ipv4/conf/all/arp_announce 2"] : []),
  ];
  const { code, stderr } = await run(["sh", "-c", script.join("\n")]);
  if (code !== 0) throw new Error(`kernel settings of ipvs mode were not made: ${firstLine(stderr)}`);
  if (!options.timeouts) return;
  const { tcp, tcpFin, udp } = options.timeouts;
  const set = await run(["ipvsadm", "--set", String(tcp), String(tcpFin), String(udp)]);
  if (set.code !== 0) throw new Error(`timeouts of ipvs mode were not set: ${firstLine(set.stderr)}`);
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}

/** The tool's words, with the line it stumbled over where it names one. */
function explainFailure(stderr: string, text: string): string {
  const number = /(?:line:?|-:) ?(\d+)/i.exec(stderr)?.[1];
  const line = number === undefined ? undefined : text.split("\n")[Number(number) - 1];
  return line === undefined ? firstLine(stderr) : `${firstLine(stderr)}: ${line}`;
}
