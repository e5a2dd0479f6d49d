// Memory of idle connections: resident memory of each proxy before and after 10,000 clients have each asked once and stay; HTTP/1.1
// and HTTP/2, without and with TLS. The clients are processes of their own; each proxy
// needs 10,300 open files (HAProxy, with 20,000, is asked by 9,500 clients). Usage: bun bench/memory/run.ts [CONNECTIONS].

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Contender, keep, withContenders } from "../contenders.ts";

const wanted = Number(process.argv[2] ?? 10_000);
/** Clients of one process. */
const most = 5_000;
/** What the first requests cost once is not a connection's. */
const before = 200;

function resident(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
}

interface Clients {
  /** Resolves when they are gone; rejects when some went before. */
  end(): Promise<void>;
}

async function clients(port: number, kind: readonly string[], count: number): Promise<Clients> {
  const child = Bun.spawn(
    [process.execPath, join(import.meta.dir, "clients.ts"), String(port), ...kind, String(count)],
    {
      stdin: "pipe",
      stdout: "pipe",
      stderr: "inherit",
    },
  );
  const { value } = await child.stdout.getReader().read();
  if (new TextDecoder().decode(value) !== "ready\n") throw new Error("clients had no answers");
  return {
    async end() {
      await child.stdin.end();
      if ((await child.exited) !== 0) throw new Error("connections did not stay");
    },
  };
}

async function measure({ name, port, pid }: Contender, kind: readonly string[]): Promise<string> {
  // HAProxy takes its limit of connections from that of open files, two for each.
  const here = name === "haproxy" ? Math.min(wanted, 9_500) : wanted;
  const all = [await clients(port, kind, before)];
  await Bun.sleep(1000);
  const at = resident(pid);
  for (let count = here; count > 0; count -= most) all.push(await clients(port, kind, Math.min(most, count)));
  await Bun.sleep(3000);
  const after = resident(pid);
  const ends = await Promise.allSettled(all.map((some) => some.end()));
  await Bun.sleep(2000);
  const stayed = ends.every(({ status }) => status === "fulfilled") ? "" : "; some did not stay";
  const mib = (kib: number) => (kib / 1024).toFixed(0);
  return `${name.padEnd(9)} ${((after - at) / here).toFixed(1)} KiB a connection (${mib(at)} -> ${mib(after)} MiB, ${mib(resident(pid))} afterwards${stayed})`;
}

const lines: string[] = [];
for (const tls of [false, true]) {
  for (const http2 of [false, true]) {
    const options = { origin: [join(import.meta.dir, "../http1/backend.ts")], http2, tls };
    await withContenders(options, async ({ contenders }) => {
      lines.push(`${http2 ? "HTTP/2" : "HTTP/1.1"}${tls ? " over TLS" : ""}`);
      const kind = [http2 ? "h2" : "h1", tls ? "tls" : "plain"];
      for (const one of contenders) lines.push(await measure(one, kind));
    });
  }
}
keep(
  import.meta.dir,
  `${wanted} idle connections after one request each, 1000 rules, fairlead with all telemetry on`,
  lines,
);
