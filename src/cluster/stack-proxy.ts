// The proxy of an embedded stack, which serves its Gateways: a process of its own that is supervised here, and handed over to another
// one when it is of an older program, or on request. The new one listens on the same ports (SO_REUSEPORT) before the old one is asked
// to finish, so that no connection is refused; what the old one has accepted it serves to the end of the drain.

import { join } from "node:path";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { UserError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Distribution, ProxyState } from "../distribution/distribution.ts";
import type { ProxyServer } from "../distribution/proxy-server.ts";
import { Supervisor } from "../node/supervisor.ts";
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
  /** Resolves when it is connected. */
  connected(): Promise<void>;
  /** Hands over to another process; resolves when that one serves. Rejects with a UserError when that does not come about. */
  replace(): Promise<void>;
}

const program = [process.execPath, join(import.meta.dir, "../proxy/main.ts")];
/** Milliseconds for what is in flight: when the stack ends, and when another process has taken over. */
const drainAtEnd = 2_000;
const drainAtHandOver = 30_000;
/** Milliseconds that a new process may take until it serves. */
const startDeadline = 20_000;

export function startStackProxy(options: StackProxyOptions): StackProxy {
  const { settings, paths, distribution, proxies, prefix, clock, log } = options;
  const name = `gateway.${settings.name}`;
  const current = programFingerprint();
  let disposed = false;
  const supervisor = new Supervisor(
    {
      name: "proxy",
      argv: [
        ...[...prefix, ...program, "--control", paths.distributionSocket, "--name", name, "--scopes", "gateway"],
        // Of the first node, whose network it is in.
        ...(settings.zones?.[0] === undefined ? [] : ["--zone", settings.zones[0]]),
        ...["--admin", join(paths.runtime, "proxy-admin.sock"), "--program", current],
        ...["--state", join(paths.directory, "proxy-state.json"), "--drain", String(drainAtEnd)],
      ],
      logFile: join(paths.logs, "proxy.log"),
      pidFile: join(paths.runtime, "proxy.pid"),
    },
    { log: log.child("supervisor"), clock },
  );
  supervisor.start();

  const until = async (holds: (state: ProxyState) => boolean) => {
    while (!disposed && !distribution.proxyStates().some((state) => state.proxy === name && holds(state)))
      await new Promise<void>((resolve) => void clock.after(5, resolve));
  };
  let replacing: Promise<void> | undefined;
  const replace = () => {
    replacing ??= handOver().finally(() => {
      replacing = undefined;
    });
    return replacing;
  };
  const handOver = async () => {
    const old = supervisor.state().pid;
    if (old === undefined) throw new UserError("the proxy is being started anew already");
    const served = Promise.withResolvers<void>();
    const gone = supervisor.replace(
      async () => {
        await until((state) => state.connected && state.pid === supervisor.state().pid && isServing(state));
        served.resolve();
      },
      {
        deadline: startDeadline,
        patience: drainAtHandOver + 2_000,
        keep: true,
        end: (pid) => proxies.drain(drainAtHandOver, name, pid) > 0,
      },
    );
    const kept = await Promise.race([served.promise.then(() => false), gone.then((replaced) => !replaced)]);
    if (kept) {
      throw new UserError("the new proxy process did not begin to serve; the one before goes on", {
        remedy: `See why with: fairlead logs proxy --name ${settings.name}`,
      });
    }
    log.info("the proxy has handed over", { from: old, to: supervisor.state().pid });
  };
  const connected = () => until((state) => state.connected);
  // One that an older program left serves until the present one does.
  void connected().then(async () => {
    const found = distribution.proxyStates().find(({ proxy, connected }) => proxy === name && connected);
    if (disposed || !found || found.program === current) return;
    log.info("the proxy is of another program; the present one takes over", { found: found.program ?? "", current });
    await replace().catch((error) => log.error("the proxy did not hand over", { error }));
  });
  return {
    process: supervisor,
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
