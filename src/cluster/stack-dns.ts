// The cluster DNS server of an embedded stack: a process of its own (`dns-main.ts`) that is supervised here, told every change, and
// configured by the ConfigMap `kube-system/fairlead-dns`. A configuration that is wrong is told as an Event and in `status`, and
// the one before stays in force.

import { join } from "node:path";
import type { KubeObject } from "../api/object.ts";
import type { Clock } from "../base/clock.ts";
import { type AsyncDisposable, disposeAll } from "../base/disposal.ts";
import { UserError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { type DnsConfig, defaultConfig } from "../dns/config.ts";
import { type ConfigProblem, forwardOf, parseConfig } from "../dns/config-map.ts";
import { serviceNamesCollection } from "../dns/names.ts";
import { dnsArgv } from "../dns/process.ts";
import { zoneFeed } from "../dns/zone-changes.ts";
import { type Listening, serveZone } from "../dns/zone-server.ts";
import { Supervisor } from "../node/supervisor.ts";
import type { ServiceInputs } from "../services/inputs.ts";
import type { SqliteStore } from "../store/sqlite/sqlite-store.ts";
import { recorder } from "../workloads/events.ts";
import { dnsAddress } from "./dns-service.ts";
import type { StackObjects } from "./objects.ts";
import { programFingerprint } from "./program.ts";
import type { StackPaths, StackSettings } from "./stack.ts";

export interface StackDnsOptions {
  readonly settings: StackSettings;
  readonly paths: StackPaths;
  readonly store: SqliteStore;
  readonly objects: StackObjects;
  readonly inputs: ServiceInputs;
  /** Where it listens, and in which network namespace. */
  readonly addresses: readonly string[];
  readonly port: number;
  readonly metricsPort: number;
  readonly netns: string | undefined;
  readonly clock: Clock;
  readonly log: Logger;
}

export interface StackDns extends AsyncDisposable {
  readonly process: Supervisor;
  /** Resolves when it listens. Rejects with a UserError when its process ends instead. */
  started(): Promise<Listening>;
  /** Resolves when what is known now is answered. */
  settled(): Promise<void>;
  problems(): readonly string[];
}

const configMapKey = "kube-system/fairlead-dns";
const program = [process.execPath, join(import.meta.dir, "dns-main.ts")];

export function startStackDns(options: StackDnsOptions): StackDns {
  const { settings, paths, objects, inputs, addresses, port, metricsPort, netns, clock, log } = options;
  const base: DnsConfig = {
    ...defaultConfig,
    ...(settings.dnsUpstream === undefined ? {} : { forward: forwardOf(settings.dnsUpstream) }),
  };
  const initial = configOf(objects.configMaps.get(configMapKey), base);
  let problems: readonly ConfigProblem[] = initial.problems;
  const control = join(paths.runtime, "dns.sock");
  const names = serviceNamesCollection(inputs.resolved);
  const feed = zoneFeed({
    names,
    namespaces: objects.namespaces,
    pods: objects.pods,
    slices: inputs.slicesByService,
  });
  const current = programFingerprint();
  const server = serveZone({ path: control, feed, config: initial.config ?? base, program: current, log });
  const events = recorder({ store: options.store, clock, log }, "fairlead-dns");
  const configuration = objects.configMaps.subscribe((batch) => {
    const change = batch.find(({ key }) => key === configMapKey);
    if (!change) return;
    const read = configOf(change.after, base);
    problems = read.problems;
    if (read.config) {
      server.configure(read.config);
      log.info("DNS configuration taken", { from: change.after ? configMapKey : "the stack's settings" });
      return;
    }
    for (const { field, message } of problems) {
      log.warn("DNS configuration refused; the one before stays", { configMap: configMapKey, field, reason: message });
      events(change.after!, { type: "Warning", reason: "InvalidConfiguration", message: `${field}: ${message}` });
    }
  });

  let disposed = false;
  const exits = Promise.withResolvers<never>();
  exits.promise.catch(() => {}); // awaited by those who start
  const supervisor = new Supervisor(
    {
      name: "dns",
      argv: [
        ...program,
        ...dnsArgv({
          control,
          snapshot: join(paths.runtime, "dns-zone.jsonl"),
          addresses,
          port,
          metricsPort,
          program: current,
          netns,
          clients: settings.ranges.flatMap(({ pods, services, loadBalancers, nodes }) => [
            ...[pods, services, loadBalancers, nodes],
          ]),
          ownAddresses: settings.ranges.map(({ services }) => dnsAddress(services)),
        }),
      ],
      logFile: join(paths.logs, "dns.log"),
      pidFile: join(paths.runtime, "dns.pid"),
    },
    {
      log: log.child("supervisor"),
      clock,
      onExit: (reason) =>
        exits.reject(
          new UserError(`the DNS server at ${addresses.join(", ")}, port ${port}, does not start: ${reason}`, {
            remedy: `See why with: fairlead logs dns --name ${settings.name}`,
          }),
        ),
    },
  );
  supervisor.start();
  // One that an older program left serves until the present one does.
  void server.connected().then(async ({ pid, program: found }) => {
    if (found === current || disposed) return;
    log.info("the DNS server is of another program; the present one takes over", { pid, found, current });
    await supervisor.replace(() => server.upToDate());
  });
  return {
    process: supervisor,
    started: () => Promise.race([server.connected(), exits.promise]),
    settled: () => server.settled(),
    problems: () =>
      problems.map(
        ({ field, message }) => `ConfigMap ${configMapKey}: ${field}: ${message} (the configuration before stays)`,
      ),
    async dispose() {
      disposed = true;
      disposeAll([names, feed, server, configuration]).dispose();
      supervisor.release();
    },
  };
}

/** Without the ConfigMap, what the stack was made with. */
function configOf(
  configMap: KubeObject | undefined,
  base: DnsConfig,
): { readonly config: DnsConfig | undefined; readonly problems: readonly ConfigProblem[] } {
  if (!configMap) return { config: base, problems: [] };
  const { config, problems = [] } = parseConfig((configMap["data"] as Record<string, string> | undefined) ?? {}, base);
  return { config, problems };
}
