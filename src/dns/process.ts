// The DNS server as a process of its own: what it knows comes from the control process over a Unix socket, so that answers wait
// for none of its work, and go on while it is away. The entry point is `cluster/dns-main.ts`, which knows about namespaces.

import { parseArgs } from "node:util";
import { systemClock } from "../base/clock.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { createLogger } from "../base/log.ts";
import { type DnsConfig, defaultConfig } from "./config.ts";
import { goFirst } from "./priority.ts";
import { startDnsService } from "./service.ts";
import { followZone } from "./zone-client.ts";
import { keepSnapshot, readSnapshot } from "./zone-snapshot.ts";
import { ZoneTable } from "./zone-table.ts";

export interface DnsArguments {
  readonly control: string;
  /** The file that keeps the last state for the next process. */
  readonly snapshot: string;
  readonly addresses: readonly string[];
  readonly port: number;
  readonly metricsPort: number;
  /** Said to the control process, which knows by it whether this is the present program. */
  readonly program: string;
  readonly clients: readonly string[];
  readonly ownAddresses: readonly string[];
  readonly netns: string | undefined;
}

/** `--control SOCKET --snapshot FILE --address A,… --port P --metrics-port P --program NAME --clients RANGE,… --own ADDRESS,… [--netns PATH]`. */
export function dnsArguments(argv: readonly string[]): DnsArguments {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      control: { type: "string" },
      snapshot: { type: "string" },
      address: { type: "string" },
      port: { type: "string", default: "53" },
      "metrics-port": { type: "string", default: "9153" },
      program: { type: "string", default: "" },
      clients: { type: "string", default: "" },
      own: { type: "string", default: "" },
      netns: { type: "string" },
    },
  });
  if (!values.control || !values.snapshot || !values.address)
    throw new UserError("dns: --control, --snapshot and --address are needed", { exitCode: 2 });
  return {
    control: values.control,
    snapshot: values.snapshot,
    addresses: values.address.split(","),
    port: Number(values.port),
    metricsPort: Number(values["metrics-port"]),
    program: values.program,
    clients: values.clients.split(",").filter(Boolean),
    ownAddresses: values.own.split(",").filter(Boolean),
    netns: values.netns,
  };
}

/** The arguments that `dnsArguments` reads. */
export function dnsArgv(options: DnsArguments): string[] {
  return [
    ...["--control", options.control, "--snapshot", options.snapshot],
    ...["--address", options.addresses.join(","), "--port", String(options.port)],
    ...[
      "--metrics-port",
      String(options.metricsPort),
      "--program",
      options.program,
      "--clients",
      options.clients.join(","),
    ],
    ...["--own", options.ownAddresses.join(","), ...(options.netns === undefined ? [] : ["--netns", options.netns])],
  ];
}

/** What the room of namespaces and sockets does for the process. */
export interface DnsProcessHost {
  /** Runs `open` where the sockets belong. */
  readonly bind: <T>(open: () => T) => T;
  /** Lets other sockets of a UDP port have what comes from now on. Throws where that cannot be done. */
  readonly stopReceiving: (port: number) => void;
}

/** Milliseconds for what was asked before the end: what waits in the sockets, and answers of other servers. */
const lastAnswers = 200;

/** Serves until a signal ends the process. Rejects when the sockets cannot be opened. */
export async function runDnsProcess(options: DnsArguments, { bind, stopReceiving }: DnsProcessHost): Promise<void> {
  const log = createLogger((line) => process.stderr.write(`${line}\n`), "info", { component: "dns" });
  // A fault in one question must not cost all the others: it is told, and the rest goes on.
  process.on("uncaughtException", (error) => log.error("fault", { error, stack: error.stack }));
  process.on("unhandledRejection", (error) => log.error("fault", { error, stack: (error as Error).stack }));
  goFirst();
  const { addresses, port, metricsPort, clients, ownAddresses } = options;
  const kept = readSnapshot(options.snapshot);
  // Until the control process has ever said where to ask, nobody is asked.
  let config: DnsConfig = kept?.config ?? { ...defaultConfig, forward: { to: "nobody" } };
  const table = new ZoneTable({
    zone: config.zones[0]!,
    nameservers: addresses,
    ttl: config.ttl,
    pods: config.pods,
  });
  if (kept) {
    for (const changes of kept.changes) table.apply(changes);
    table.end();
  }
  const service = await startDnsService({
    table,
    config,
    addresses,
    port,
    metricsPort,
    shared: true,
    clients,
    ownAddresses,
    bind,
    clock: systemClock,
    log,
  });
  const snapshot = keepSnapshot({ path: options.snapshot, table, config: () => config, clock: systemClock, log });
  const zone = followZone({
    path: options.control,
    table,
    listening: { pid: process.pid, address: addresses[0]!, port: service.port, program: options.program },
    clock: systemClock,
    log,
    onConfig: (next) => {
      config = next;
      service.configure(next);
      snapshot.remember();
    },
    onProgrammed: (seconds) => service.metrics.programmed(seconds),
  });
  log.info("listening", { addresses, port: service.port, metricsPort: service.metricsPort, kept: kept !== undefined });
  let ending = false;
  const end = () => {
    if (ending) return;
    ending = true;
    zone.dispose();
    snapshot.dispose();
    try {
      stopReceiving(service.port);
    } catch (error) {
      log.warn("questions that come just now may be lost", { error: messageOf(error) });
    }
    systemClock.after(lastAnswers, () => void service.dispose().then(() => process.exit(0)));
  };
  process.on("SIGTERM", end);
  process.on("SIGINT", end);
  // The clock's timers do not keep the process alive.
  setInterval(() => {}, 1 << 30);
}
