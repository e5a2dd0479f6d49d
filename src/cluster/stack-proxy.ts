// The proxy of an embedded stack, which serves its Gateways: one process or several workers, supervised here, and handed over to
// another one when it is of an older program or has another number of workers, or on request. The new one listens on the same ports
// (SO_REUSEPORT) before the old one is asked to finish, so that no connection is refused; what the old one has accepted it serves to
// the end of the drain.

import { join } from "node:path";
import { backoff } from "../base/backoff.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf, UserError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Distribution, ProxyState } from "../distribution/distribution.ts";
import type { ProxyServer } from "../distribution/proxy-server.ts";
import { socketsEach } from "../model/hand-over.ts";
import { type ChildSpec, Supervisor } from "../node/supervisor.ts";
import type { PendingUpgrade } from "./control-api.ts";
import { programFingerprint } from "./program.ts";
import type { StackPaths, StackSettings } from "./stack.ts";

export interface StackProxyOptions {
  readonly settings: StackSettings;
  readonly paths: StackPaths;
  readonly distribution: Distribution;
  readonly proxies: ProxyServer;
  /** Runs a program where the proxy's sockets belong: the first node's network, which load-balancer addresses lead to. */
  readonly prefix: readonly string[];
  readonly clock: Clock;
  readonly log: Logger;
}

export interface StackProxy extends Disposable {
  readonly process: Supervisor;
  /** Set while the proxy is of another program than the present one, and does not hand over to it. */
  readonly pending: PendingUpgrade | undefined;
  /** Resolves when it is connected. */
  connected(): Promise<void>;
  /**
   * Hands over to another process, of `workers` workers if given; resolves when that one serves. Rejects with a UserError when that
   * does not come about.
   */
  replace(workers?: number): Promise<void>;
}

const program = [process.execPath, join(import.meta.dir, "../proxy/main.ts")];
/** Milliseconds for what is in flight: when the stack ends, and when another process has taken over. */
const drainAtEnd = 2_000;
const drainAtHandOver = 30_000;
/** Milliseconds that a new process may take until it serves. */
const startDeadline = 20_000;
/** Milliseconds between tries of an upgrade that failed. */
const upgradeBackoff = { initial: 5_000, max: 300_000 };

export function startStackProxy(options: StackProxyOptions): StackProxy {
  const { settings, paths, distribution, proxies, prefix, clock, log } = options;
  const name = `gateway.${settings.name}`;
  const current = programFingerprint();
  let workers = settings.proxyWorkers ?? 1;
  let sockets = 1;
  let pending: PendingUpgrade | undefined;
  let disposed = false;
  const child: ChildSpec = {
    name: "proxy",
    get argv() {
      return [
        ...[...prefix, ...program, "--control", paths.distributionSocket, "--name", name, "--scopes", "gateway"],
        // Of the first node, whose network it is in.
        ...(settings.zones?.[0] === undefined ? [] : ["--zone", settings.zones[0]]),
        ...["--admin", join(paths.runtime, "proxy-admin.sock"), "--program", current, "--workers", String(workers)],
        ...["--sockets", String(sockets)],
        ...["--state", join(paths.directory, "proxy-state.json"), "--drain", String(drainAtEnd)],
      ];
    },
    logFile: join(paths.logs, "proxy.log"),
    pidFile: join(paths.runtime, "proxy.pid"),
  };
  const supervisor = new Supervisor(child, { log: log.child("supervisor"), clock });
  supervisor.start();

  /** The connected processes of the proxy that was started as `pid`: one, or its workers. */
  const connectedOf = (pid: number | undefined): readonly ProxyState[] =>
    distribution.proxyStates().filter((state) => state.connected && (state.composition?.pid ?? state.pid) === pid);
  const until = async (holds: (states: readonly ProxyState[]) => boolean) => {
    while (!disposed && !holds(connectedOf(supervisor.state().pid)))
      await new Promise<void>((resolve) => void clock.after(5, resolve));
  };
  let replacing: Promise<void> | undefined;
  const replace = (asked = workers): Promise<void> => {
    // Who asks for what is under way waits for it; who asks for something else, until that is over.
    if (replacing && asked === workers) return replacing;
    const before = replacing?.catch(() => {});
    const turn = (async () => {
      await before;
      await handOver(asked);
    })().finally(() => {
      if (replacing === turn) replacing = undefined;
    });
    replacing = turn;
    return turn;
  };
  const handOver = async (asked: number) => {
    const old = supervisor.state().pid;
    if (old === undefined) throw new UserError("the proxy is being started anew already");
    const former = { workers, sockets };
    const leaving = connectedOf(old).reduce((sum, state) => sum + state.sockets, 0);
    workers = asked;
    sockets = socketsEach(leaving, workers);
    const served = Promise.withResolvers<void>();
    const gone = supervisor.replace(
      async () => {
        await until((states) => states.length === workers && states.every(isServing));
        served.resolve();
      },
      {
        deadline: startDeadline,
        patience: drainAtHandOver + 2_000,
        keep: true,
        end: (pid) => proxies.drain(drainAtHandOver, { proxy: name, pid }, workers * sockets) > 0,
      },
    );
    const kept = await Promise.race([served.promise.then(() => false), gone.then((replaced) => !replaced)]);
    if (kept) {
      workers = former.workers;
      sockets = former.sockets;
      throw new UserError("the new proxy process did not begin to serve; the one before goes on", {
        remedy: `See why with: fairlead logs proxy --name ${settings.name}`,
      });
    }
    log.info("the proxy has handed over", { from: old, to: supervisor.state().pid });
  };
  const connected = () => until((states) => states.length > 0);
  /** One that was left by an older program, or by one of other settings, serves until one of the present ones does. */
  const upgrade = async (failures: number): Promise<void> => {
    await connected();
    const [found] = connectedOf(supervisor.state().pid);
    const differs = found && (found.program !== current || (found.composition?.workers ?? 1) !== workers);
    if (disposed || !differs) {
      pending = undefined;
      return;
    }
    log.info("the proxy is of another program or number of workers; the present one takes over", {
      found: found.program ?? "",
      current,
      workers,
    });
    try {
      await replace();
      pending = undefined;
    } catch (error) {
      const wait = backoff(failures, upgradeBackoff);
      log.error("the proxy did not hand over; it is tried again", { error, wait: Math.round(wait) });
      pending = { program: current, failures: failures + 1, reason: messageOf(error), next: clock.now() + wait };
      clock.after(wait, () => void upgrade(failures + 1));
    }
  };
  void upgrade(0);
  return {
    process: supervisor,
    get pending() {
      return pending;
    },
    connected,
    replace,
    dispose() {
      disposed = true;
      supervisor.release();
    },
  };
}

/** Nothing that it should have is on its way. What it refused, the one before it refused, too, or holds: waiting would not help. */
function isServing(state: ProxyState): boolean {
  return Object.values(state.types).every((type) => type.state !== "stale");
}
