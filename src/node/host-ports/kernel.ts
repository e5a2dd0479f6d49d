// Host ports in a node's kernel: the edge that runs what `iptables.ts` or `nftables.ts` say, one change after another. After
// each, stale UDP entries of connection tracking go, as portmap does it: a client that keeps sending would never see the change.

import type { Clock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { Logger } from "../../base/log.ts";
import { Batcher } from "../batcher.ts";
import { watchRules } from "../rules-watch.ts";
import type { Run } from "../service-rules.ts";
import { type HostPorts, HostPortTable, type PodHostPorts } from "./host-ports.ts";
import * as iptables from "./iptables.ts";
import * as nftables from "./nftables.ts";

type Text = (pods: readonly PodHostPorts[], family: 4 | 6) => string;

export interface KernelHostPortsOptions {
  readonly tool: "iptables" | "nftables";
  /** Runs programs in the node's network namespace. */
  readonly run: Run;
  readonly families: readonly (4 | 6)[];
  /** Ranges whose addresses are local to the node without being its own (load balancers, Services). */
  readonly foreign: (family: 4 | 6) => readonly string[];
  /** Tells whether anybody changed rules in the node since it was asked last. */
  readonly events?: { changed(): boolean } | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

export function kernelHostPorts(options: KernelHostPortsOptions): HostPorts & Disposable {
  const { tool, run, families, foreign, events, clock, log } = options;
  const [addText, removeText] =
    tool === "nftables" ? [nftables.addText, nftables.removeText] : [iptables.addText, iptables.removeText];
  const table = new HostPortTable();
  const served = new Set<string>();
  let loaded: Promise<void> | undefined;
  const adding = new Batcher<PodHostPorts>((pods) => change(pods, addText));
  const removing = new Batcher<PodHostPorts>((pods) => change(pods, removeText));
  let last: Promise<unknown> = Promise.resolve();
  let underWay = 0;

  const servedPods = () => [...served].flatMap((uid) => table.get(uid) ?? []);
  const watch = watchRules({
    what: "host ports",
    settled: () => underWay === 0 && served.size > 0,
    async list() {
      const pods = servedPods();
      const found = await Promise.all(families.map((family) => ownRules(family, pods)));
      return found.includes(undefined) ? undefined : found.join("\n---\n");
    },
    repair() {
      const pods = servedPods();
      load(pods)
        .then(() => forgetUdp(pods))
        .catch((error) => log.warn("host ports were not put back", { error: messageOf(error) }));
    },
    ...{ events, clock, log },
  });

  async function ownRules(family: 4 | 6, pods: readonly PodHostPorts[]): Promise<string | undefined> {
    const argv =
      tool === "nftables"
        ? ["nft", "list", "table", family === 4 ? "ip" : "ip6", "cni_hostport"]
        : [family === 4 ? "iptables" : "ip6tables", "-w", "5", "-t", "nat", "-S"];
    const { code, stdout } = await run(argv);
    return code === 0
      ? (tool === "nftables" ? nftables : iptables).ownRules(stdout, pods, family, foreign(family))
      : undefined;
  }

  /** One transaction at a time, in the order of the calls. */
  function inTurn<T>(work: () => Promise<T>): Promise<T> {
    underWay++;
    watch.wrote();
    const result = last.then(work).finally(() => underWay--);
    last = result.catch(() => {});
    return result;
  }

  function change(pods: readonly PodHostPorts[], text: Text): Promise<void> {
    return inTurn(async () => {
      for (const family of families) await commit(family, text(pods, family));
      await forgetUdp(pods);
    });
  }

  async function commit(family: 4 | 6, text: string): Promise<void> {
    if (text === "") return;
    const argv =
      tool === "nftables"
        ? ["nft", "-f", "-"]
        : [family === 4 ? "iptables-restore" : "ip6tables-restore", "-w", "5", "--noflush"];
    const { code, stderr } = await run(argv, text);
    if (code !== 0) throw new Error(`host ports: ${argv[0]} failed (exit code ${code}): ${firstLine(stderr)}`);
  }

  async function loadFamily(family: 4 | 6, pods: readonly PodHostPorts[]): Promise<void> {
    if (tool === "nftables") return commit(family, nftables.loadText(pods, family, foreign(family)));
    const program = family === 4 ? "iptables" : "ip6tables";
    const { code, stdout, stderr } = await run([program, "-w", "5", "-t", "nat", "-S"]);
    if (code !== 0) throw new Error(`host ports: ${program} failed (exit code ${code}): ${firstLine(stderr)}`);
    const { chains, jumps } = iptables.readChains(stdout);
    await commit(family, iptables.loadText(pods, family, foreign(family), chains, jumps));
  }

  async function forgetUdp(pods: readonly PodHostPorts[]): Promise<void> {
    const ports = new Set(
      pods.flatMap((pod) => pod.ports.filter(({ protocol }) => protocol === "UDP").map(({ hostPort }) => hostPort)),
    );
    // Without conntrack-tools the entries go when their clients pause; the cleaner of Services says that it is missing.
    for (const port of ports) await run(["conntrack", "-D", "-p", "udp", "--orig-port-dst", String(port)]);
  }

  function load(pods: readonly PodHostPorts[]): Promise<void> {
    return inTurn(async () => {
      for (const family of families) await loadFamily(family, pods);
    });
  }

  return {
    async load(pods) {
      const taken = pods.filter((pod) => {
        if (pod.ports.length === 0) return false;
        try {
          table.add(pod);
          return true;
        } catch {
          return false; // its own `add` will say whose the port is
        }
      });
      for (const { uid } of taken) served.add(uid);
      // A node that has no such pods, and never had, has no such rules either.
      if (taken.length === 0 && !(await leftOvers())) return;
      loaded = load(taken);
      await loaded.catch((error) => {
        // Their `add` begins anew.
        loaded = undefined;
        served.clear();
        throw error;
      });
    },
    async add(pod) {
      if (pod.ports.length === 0 || served.has(pod.uid)) return [];
      table.add(pod);
      try {
        loaded ??= load([]);
        await loaded.catch((error) => {
          loaded = undefined;
          throw error;
        });
        await adding.add(pod);
        served.add(pod.uid);
        return [];
      } catch (error) {
        table.remove(pod.uid);
        throw error;
      }
    },
    async remove(uid) {
      const pod = table.get(uid);
      if (!pod) return;
      if (served.delete(uid)) await removing.add(pod);
      table.remove(uid);
    },
    dispose: watch.dispose,
  };

  async function leftOvers(): Promise<boolean> {
    if (tool === "nftables") return (await run(["nft", "list", "chain", "ip", "cni_hostport", "to-pods"])).code === 0;
    return (await run(["iptables", "-w", "5", "-t", "nat", "-S", "CNI-HOSTPORT-DNAT"])).code === 0;
  }
}

function firstLine(text: string): string {
  return text.trim().split("\n")[0] ?? "";
}
