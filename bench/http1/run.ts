// HTTP/1.1 through our proxy and through NGINX: the same 1,000 rules with header matches, the same backend, 32 keep-alive
// connections, one process each, runs taken in turns. Prints CPU time a request of the proxy process, its ratio to NGINX's,
// requests a second and latency, and keeps the result in `last.txt`. With --telemetry every request is logged (text, Envoy's
// operators), every trace passed on and one in a hundred sent to a collector; the result is not kept.
// Usage: bun bench/http1/run.ts [SECONDS [ROUNDS]] [--telemetry].

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import type { Listener } from "../../src/model/model.ts";
import { defaultTextFormat } from "../../src/proxy/telemetry/access-log-format.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener } from "../../test/e2e/proxy-harness.ts";
import { cpuTime, median } from "../cpu.ts";
import { nginxConfiguration, routeTable, services } from "./rules.ts";

const numbers = process.argv.slice(2).filter((word) => !word.startsWith("--"));
const seconds = Number(numbers[0] ?? 5);
const rounds = Number(numbers[1] ?? 3);
const telemetry = process.argv.includes("--telemetry");
const connections = 32;

for (const program of ["wrk", "nginx"]) {
  if (Bun.which(program, { PATH: `${process.env["PATH"]}:/usr/sbin` })) continue;
  console.error(`${program} is missing: apt-get install ${program === "nginx" ? "nginx-light" : program}`);
  process.exit(1);
}

interface Run {
  microseconds: number;
  perSecond: number;
  p99: string;
}

async function wrk(port: number, pid: number, duration: number): Promise<Run> {
  const before = cpuTime(pid);
  const child = Bun.spawn(
    [
      "wrk",
      "-t1",
      `-c${connections}`,
      `-d${duration}s`,
      "--latency",
      "-H",
      "Host: bench.example.com",
      "-H",
      "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
      "-H",
      "Accept: text/html,application/json;q=0.9,*/*;q=0.8",
      "-H",
      "X-Api-Version: v2",
      `http://127.0.0.1:${port}/service-${services - 13}/items/42?verbose=1`,
    ],
    { stdout: "pipe" },
  );
  const text = await new Response(child.stdout).text();
  const requests = Number(/(\d+) requests in/.exec(text)?.[1]);
  if (/Non-2xx|Socket errors/.test(text) || !(requests > 0)) throw new Error(`wrk saw errors:\n${text}`);
  return {
    microseconds: (cpuTime(pid) - before) / requests,
    perSecond: Number(/Requests\/sec:\s+([\d.]+)/.exec(text)?.[1]),
    p99: /99%\s+(\S+)/.exec(text)?.[1] ?? "?",
  };
}

/** The collector is the backend of the benchmark, which answers whatever it is sent. */
function told(path: string): Pick<Listener, "accessLog" | "tracing"> {
  return {
    accessLog: { path, format: { text: defaultTextFormat } },
    tracing: { backend: "one", service: "bench", sample: 0.01, formats: ["w3c"] },
  };
}

const folder = mkdtempSync(join(tmpdir(), "fl-bench-"));
const origin = Bun.spawn([process.execPath, join(import.meta.dir, "backend.ts")], { stdout: "pipe" });
const proxy = new ProxyUnderTest();
let nginx: ReturnType<typeof Bun.spawn> | undefined;
try {
  const { value } = await origin.stdout.getReader().read();
  const originPort = Number(new TextDecoder().decode(value));

  await proxy.start();
  const ours = freePort();
  const rejected = await proxy.control.update({
    backends: [backend("one"), backend("two")],
    endpoints: [endpoints("one", originPort), endpoints("two", originPort)],
    routeTables: [routeTable()],
    listeners: [telemetry ? { ...plainListener(ours), ...told(join(folder, "access.log")) } : plainListener(ours)],
  });
  if (rejected.length > 0) throw new Error(JSON.stringify(rejected));

  const theirs = freePort();
  writeFileSync(join(folder, "nginx.conf"), nginxConfiguration({ port: theirs, backend: originPort, folder }));
  nginx = Bun.spawn(["nginx", "-p", folder, "-c", join(folder, "nginx.conf")], {
    stdout: "ignore",
    stderr: "inherit",
    env: { ...process.env, PATH: `${process.env["PATH"]}:/usr/sbin` },
  });
  for (let attempt = 0; ; attempt++) {
    const up = await fetch(`http://127.0.0.1:${theirs}/`).catch(() => undefined);
    if (up) break;
    if (attempt > 100) throw new Error("nginx does not answer");
    await Bun.sleep(50);
  }

  const pids = { fairlead: proxy.process!.pid, nginx: nginx.pid };
  await wrk(ours, pids.fairlead, 2);
  await wrk(theirs, pids.nginx, 1);
  const runs: { fairlead: Run[]; nginx: Run[] } = { fairlead: [], nginx: [] };
  for (let round = 0; round < rounds; round++) {
    runs.fairlead.push(await wrk(ours, pids.fairlead, seconds));
    runs.nginx.push(await wrk(theirs, pids.nginx, seconds));
  }

  const lines = [
    `HTTP/1.1, ${services * 2} rules, header match, ${connections} connections, one process each; ${rounds} runs of ${seconds} s in turns; ${cpus().length} cores`,
  ];
  for (const [name, results] of Object.entries(runs)) {
    const each = results.map(({ microseconds }) => microseconds.toFixed(2)).join(" ");
    lines.push(
      `${name.padEnd(9)} ${median(results.map((run) => run.microseconds)).toFixed(2)} µs CPU/request (${each}), ` +
        `${median(results.map((run) => run.perSecond)).toFixed(0)} requests/s, p99 ${results.map((run) => run.p99).join(" ")}`,
    );
  }
  const ratio = median(runs.fairlead.map((run, index) => run.microseconds / runs.nginx[index]!.microseconds));
  lines.push(`ratio     ${ratio.toFixed(2)} x NGINX (CPU a request; the median of the paired runs)`);
  const text = `${lines.join("\n")}\n`;
  process.stdout.write(text);
  if (!telemetry) writeFileSync(join(import.meta.dir, "last.txt"), text);
} finally {
  origin.kill();
  nginx?.kill();
  await proxy.stop();
  rmSync(folder, { recursive: true, force: true });
}
