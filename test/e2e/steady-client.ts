// Opens new connections at fixed times, one every 1000/RATE ms whatever the answers do, until the file STOP is there. Each asks
// a stand-in for one answer and counts only when all of it came. Prints a `SteadyReport` as JSON.
//
//     bun steady-client.ts ADDRESS PORT RATE STOP

import { existsSync } from "node:fs";

export interface SteadyFailure {
  /** Milliseconds since the first connection was due. */
  readonly at: number;
  /** The errno's name, `timeout`, or `cut short` with what came. */
  readonly error: string;
}

export interface SteadyReport {
  /** Connections that were due and opened. */
  readonly opened: number;
  /** Those of them that were answered whole. */
  readonly answered: number;
  readonly failures: readonly SteadyFailure[];
  /** Answers by the pod's `version` label, and by its node. */
  readonly versions: Readonly<Record<string, number>>;
  readonly nodes: Readonly<Record<string, number>>;
  /** Every client address that pods saw. */
  readonly clients: readonly string[];
  /** How late the latest connection was opened, in milliseconds: what this machine's load did to the schedule. */
  readonly latest: number;
}

/** Milliseconds for a whole answer. Two retransmitted SYNs fit in, so that only what nobody answers counts. */
const patience = 5_000;

const request = "GET /steady HTTP/1.1\r\nHost: steady\r\nConnection: close\r\n\r\n";

interface Exchange {
  readonly due: number;
  text: string;
  over: boolean;
}

if (import.meta.main) {
  const [address = "", port, rate, stop = ""] = process.argv.slice(2);
  const every = 1000 / Number(rate);
  const start = performance.now();
  const failures: SteadyFailure[] = [];
  const versions: Record<string, number> = {};
  const nodes: Record<string, number> = {};
  const clients = new Set<string>();
  let opened = 0;
  let answered = 0;
  let latest = 0;
  const underWay = new Set<Exchange>();

  const end = (exchange: Exchange, error?: string) => {
    if (exchange.over) return;
    exchange.over = true;
    underWay.delete(exchange);
    if (error !== undefined) failures.push({ at: Math.round(exchange.due), error });
    else answered++;
  };
  const close = (exchange: Exchange) => {
    const { text } = exchange;
    const head = text.indexOf("\r\n\r\n");
    const length = /content-length: (\d+)/i.exec(text)?.[1];
    const body = text.slice(head + 4);
    if (!text.startsWith("HTTP/1.1 200 ") || head < 0 || Buffer.byteLength(body) !== Number(length)) {
      end(exchange, text === "" ? "closed without an answer" : `cut short: ${text.slice(0, 60)}`);
      return;
    }
    const { version, node, client } = JSON.parse(body);
    versions[version] = (versions[version] ?? 0) + 1;
    nodes[node] = (nodes[node] ?? 0) + 1;
    clients.add(client);
    end(exchange);
  };
  const open = (due: number) => {
    const exchange: Exchange = { due, text: "", over: false };
    opened++;
    underWay.add(exchange);
    Bun.connect<Exchange>({
      hostname: address,
      port: Number(port),
      data: exchange,
      socket: {
        open: (socket) => void socket.write(request),
        data(socket, data) {
          socket.data.text += data.toString("latin1");
        },
        close: (socket, error) => (error ? end(socket.data, codeOf(error)) : close(socket.data)),
        error: (socket, error) => end(socket.data, codeOf(error)),
        connectError: (socket, error) => end(socket.data, codeOf(error)),
      },
    }).catch((error) => end(exchange, codeOf(error)));
  };
  const codeOf = (error: Error) => (error as NodeJS.ErrnoException).code ?? error.message;

  while (!existsSync(stop)) {
    const now = performance.now() - start;
    // What is due by now is opened, also what a busy machine made late.
    for (; opened * every <= now; ) {
      latest = Math.max(latest, now - opened * every);
      open(opened * every);
    }
    for (const exchange of underWay) if (now - exchange.due > patience) end(exchange, "timeout");
    await Bun.sleep(Math.max(1, opened * every - (performance.now() - start)));
  }
  const last = performance.now() + patience;
  while (underWay.size > 0 && performance.now() < last) await Bun.sleep(5);
  for (const exchange of underWay) end(exchange, "timeout");
  const report: SteadyReport = {
    ...{ opened, answered, failures, versions, nodes, clients: [...clients], latest: Math.round(latest) },
  };
  console.log(JSON.stringify(report));
  process.exit(0);
}
