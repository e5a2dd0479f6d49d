// The stack's own load balancer, outside of its nodes where a cloud's would be: it follows the Service tables of all nodes and
// sends what comes from outside to an address under externalTrafficPolicy Local only to nodes that have endpoints
// (`services/balanced-ports.ts`). Everything else leads to the first node by the network's routes.

import { backoff } from "../../base/backoff.ts";
import type { Clock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { messageOf } from "../../base/errors.ts";
import type { IpFamily } from "../../base/ip.ts";
import type { Logger } from "../../base/log.ts";
import type { Collection } from "../../collections/collection.ts";
import { type BalancedPort, balancedPort } from "../../services/balanced-ports.ts";
import type { ServicePort } from "../../services/service-table.ts";
import { watchRules } from "../rules-watch.ts";
import type { Run } from "../service-rules.ts";
import { comparable, isWhole, listCommands } from "./balancer-listing.ts";
import {
  type BalancerTool,
  iptablesChanges,
  iptablesFrom,
  nftBase,
  nftChanges,
  type PortChange,
} from "./balancer-rules.ts";

export interface LoadBalancerOptions {
  /** In the order of the nodes' numbers. */
  readonly nodes: readonly {
    readonly table: Collection<ServicePort>;
    /** Resolves when the node's rules are as its table says. */
    readonly settled: () => Promise<void>;
  }[];
  readonly tool: BalancerTool;
  readonly families: readonly IpFamily[];
  /** Runs programs where the load balancer is. */
  readonly run: Run;
  /** Tells whether anybody changed rules since it was asked last. With it the rules are read only then, and every 10 s. */
  readonly events?: { changed(): boolean } | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface LoadBalancer extends Disposable {
  /** Resolves when what the tables say now is in force; at once while the rules cannot be written. */
  settled(): Promise<void>;
  /** The numbers of the nodes, from 1, that new connections to a port are sent to; undefined when no choice is made. */
  nodesOf(key: string): readonly number[] | undefined;
}

export function startLoadBalancer(options: LoadBalancerOptions): LoadBalancer {
  const { nodes, tool, families, run, events, clock, log } = options;
  /** By node, the rows that its rules are known to have; only those that a choice may be about. */
  const inForce = nodes.map(() => new Map<string, ServicePort>());
  const written = new Map<string, BalancedPort>();
  const dirty = new Set<string>();
  let known = false;
  let begun = false;
  let attempt = 0;
  let complaint: string | undefined;
  let retry: Disposable | undefined;
  let working: Promise<void> | undefined;
  let disposed = false;
  /** Rows that wait for their node's rules. */
  let waiting = 0;
  const waiters = new Set<() => void>();

  async function tell(argv: readonly string[], text?: string): Promise<void> {
    const { code, stderr } = await run(argv, text);
    if (code !== 0) throw new Error(`${argv[0]} failed (exit code ${code}): ${stderr.trim().split("\n")[0]}`);
  }

  async function write(changes: readonly PortChange[]): Promise<void> {
    const fresh = !begun;
    begun = false;
    watch.wrote();
    if (tool === "nftables") {
      const text = `${fresh ? nftBase : ""}${nftChanges(changes)}`;
      if (text !== "") await tell(["nft", "-f", "-"], text);
    } else {
      for (const family of families) {
        const program = family === 4 ? "iptables-restore" : "ip6tables-restore";
        const text = iptablesChanges(changes.filter(({ before, after }) => (after ?? before)!.family === family));
        if (fresh) await tell([program, "-w", "5"], iptablesFrom(text));
        else if (text !== "") await tell([program, "-w", "5", "--noflush"], text);
      }
    }
    begun = true;
  }

  /** A UDP client that goes on sending is one connection without end: it is sent anew when its node is none any more. */
  async function forget(changes: readonly PortChange[]): Promise<void> {
    for (const { before, after } of changes) {
      const port = (before ?? after)!;
      if (port.protocol !== "UDP" || before?.nodes.every((node) => after?.nodes.includes(node))) continue;
      for (const address of port.addresses) {
        const family = port.family === 6 ? ["-f", "ipv6"] : [];
        await run([
          "conntrack",
          "-D",
          ...family,
          "-p",
          "udp",
          "--orig-dst",
          address,
          "--orig-port-dst",
          `${port.port}`,
        ]);
      }
    }
  }

  async function work(): Promise<void> {
    await Promise.resolve();
    while (!disposed && (dirty.size > 0 || !begun)) {
      if (!begun) for (const key of written.keys()) dirty.add(key);
      const keys = [...dirty];
      dirty.clear();
      const changes = keys.flatMap((key): PortChange[] => {
        const after = balancedPort(
          nodes.map(({ table }, at) => ({ now: table.get(key), inForce: inForce[at]!.get(key) })),
        );
        const before = begun ? written.get(key) : undefined;
        return before === after || Bun.deepEquals(before, after) ? [] : [{ before, after }];
      });
      try {
        if (!begun) {
          await write(changes);
          written.clear();
        } else if (changes.length > 0) await write(changes);
        for (const { before, after } of changes) {
          if (after) written.set(after.key, after);
          else if (before) written.delete(before.key);
        }
        await forget(changes);
        attempt = 0;
        complaint = undefined;
      } catch (error) {
        for (const key of keys) dirty.add(key);
        const message = messageOf(error);
        if (message !== complaint)
          log.warn("the load balancer's rules were not written; trying again", { error: message });
        complaint = message;
        if (!disposed) retry = clock.after(backoff(attempt++, { initial: 200, max: 10_000 }), start);
        return;
      }
    }
  }

  const watch = watchRules({
    what: "the load balancer",
    settled: () => begun && !working && !disposed,
    async list() {
      const ports = [...written.values()];
      const outputs = await Promise.all(listCommands(tool, families).map((argv) => run(argv)));
      const whole = outputs.every(({ code, stdout }, number) => {
        const family = tool === "iptables" ? families[number] : undefined;
        return code === 0 && isWhole(tool, family, stdout, ports);
      });
      return whole ? outputs.map(({ stdout }) => comparable(stdout)).join("") : undefined;
    },
    repair() {
      begun = false;
      start();
    },
    ...{ events, clock, log },
  });

  function start(): void {
    if (disposed || working || !known) return;
    retry?.dispose();
    retry = undefined;
    working = work().finally(() => {
      working = undefined;
      if (dirty.size > 0 && complaint === undefined) start();
      else wake();
    });
  }

  function wake(): void {
    if (waiting > 0 || working) return;
    for (const done of waiters) done();
    waiters.clear();
  }

  function follow(at: number): Disposable {
    const { table, settled } = nodes[at]!;
    return table.subscribe(
      (batch) => {
        const keys = batch
          .filter(({ before, after }) => mayBeChosen(before) || mayBeChosen(after))
          .map(({ key }) => key);
        if (keys.length === 0) return;
        for (const key of keys) dirty.add(key);
        start();
        waiting++;
        void settled().then(() => {
          waiting--;
          for (const key of keys) {
            const row = table.get(key);
            if (row && mayBeChosen(row)) inForce[at]!.set(key, row);
            else inForce[at]!.delete(key);
            dirty.add(key);
          }
          start();
        });
      },
      { replay: true },
    );
  }

  const subscriptions = nodes.map((_, at) => follow(at));
  // What an earlier run wrote stays until it is known what is in force on the nodes.
  waiting++;
  void Promise.all(nodes.map(({ settled }) => settled())).then(() => {
    waiting--;
    known = true;
    start();
  });
  return {
    settled() {
      if (disposed || (waiting === 0 && !working)) return Promise.resolve();
      return new Promise((resolve) => waiters.add(resolve));
    },
    nodesOf: (key) => written.get(key)?.nodes,
    dispose() {
      disposed = true;
      watch.dispose();
      retry?.dispose();
      for (const one of subscriptions) one.dispose();
      for (const done of waiters) done();
    },
  };
}

/** Whether a choice may be about this row: its port has addresses under policy Local. */
function mayBeChosen(row: ServicePort | undefined): boolean {
  return row?.externalPolicyLocal === true && row.loadBalancerIPs.length > 0;
}
