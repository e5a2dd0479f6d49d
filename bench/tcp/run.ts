// Connections passed through, beside HAProxy: CPU time of the proxy for one byte there and back over 32 connections, and for a MB that
// four clients read. Usage: bun bench/tcp/run.ts [SECONDS [ROUNDS]]. Needs haproxy for the comparison.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
} from "../../test/e2e/proxy-harness.ts";
import { type Contender, inTurns, keep, table } from "../contenders.ts";
import { cpuTime } from "../cpu.ts";

const seconds = Number(process.argv[2] ?? 4);
const rounds = Number(process.argv[3] ?? 3);

interface Run {
  readonly figure: number;
}

/** Microseconds of CPU time for a byte that came. `greeting` is what each client says, again whenever it hears something, but for `s`. */
async function measure({ port, pid }: Contender, clients: number, greeting: string, duration: number): Promise<number> {
  let bytes = 0;
  const again = greeting !== "s";
  const open = await Promise.all(
    Array.from({ length: clients }, () =>
      Bun.connect({
        hostname: "127.0.0.1",
        port,
        socket: {
          data(socket, chunk) {
            bytes += chunk.length;
            if (again) socket.write(greeting);
          },
        },
      }),
    ),
  );
  for (const socket of open) socket.write(greeting);
  await Bun.sleep(300);
  const [before, already] = [cpuTime(pid), bytes];
  await Bun.sleep(duration * 1000);
  const figure = (cpuTime(pid) - before) / (bytes - already);
  for (const socket of open) socket.terminate();
  return figure;
}

const folder = mkdtempSync(join(tmpdir(), "fl-bench-"));
const origin = Bun.spawn([process.execPath, join(import.meta.dir, "origin.ts")], { stdout: "pipe" });
const originPort = Number(new TextDecoder().decode((await origin.stdout.getReader().read()).value));
const proxy = new ProxyUnderTest();
const haproxyProgram = Bun.which("haproxy", { PATH: `${process.env["PATH"]}:/usr/sbin` });
let haproxy: Bun.Subprocess | undefined;
try {
  await proxy.start();
  const ours = freePort();
  const chains = [{ from, when: { kind: "plain" }, serve: { tcp: [forwardTo("one")] } }];
  const rejected = await proxy.control.update({
    backends: [backend("one", { protocol: "tcp" })],
    endpoints: [endpoints("one", originPort)],
    listeners: [{ ...plainListener(ours), chains }],
  });
  if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
  const contenders: Contender[] = [{ name: "fairlead", port: ours, pid: proxy.process!.pid }];
  if (haproxyProgram) {
    const port = freePort();
    const file = join(folder, "haproxy.conf");
    const timeouts = "timeout connect 5s\n timeout client 1h\n timeout server 1h";
    const relay = `bind 127.0.0.1:${port}\n server one 127.0.0.1:${originPort}`;
    writeFileSync(
      file,
      `global\n nbthread 1\n maxconn 1000\ndefaults\n mode tcp\n ${timeouts}\nlisten relay\n ${relay}\n`,
    );
    haproxy = Bun.spawn([haproxyProgram, "-db", "-f", file], { stdout: "ignore", stderr: "inherit" });
    await Bun.sleep(1000);
    contenders.push({ name: "haproxy", port, pid: haproxy.pid });
  } else console.log("haproxy is not there and is left out");
  const figures = (clients: number, greeting: string, scale: number) =>
    inTurns<Run>(contenders, rounds, async (one, warm) => ({
      figure: (await measure(one, clients, greeting, warm ? 1 : seconds)) * scale,
    }));
  const roundTrips = table(await figures(32, "x", 1), "µs CPU/round trip", ({ figure }) => figure);
  const megabytes = table(await figures(4, "s", 1e6), "µs CPU/MB", ({ figure }) => figure);
  const title = `TCP passed through: a byte and its answer over 32 connections, and a MB read by 4; ${rounds} runs of ${seconds} s in turns`;
  keep(import.meta.dir, title, [...roundTrips, ...megabytes]);
} finally {
  origin.kill();
  haproxy?.kill("SIGKILL");
  await proxy.stop();
  rmSync(folder, { recursive: true, force: true });
}
process.exit(0);
