// HTTP/2 over TLS through our proxy, NGINX and HAProxy: the same 1,000 rules with header matches, the same backend of HTTP/1.1,
// 8 connections with 10 streams each, one process each, runs taken in turns. Prints CPU time a request of the proxy process and
// its ratios, and keeps the result in `last.txt`. Usage: bun bench/http2/run.ts [REQUESTS [ROUNDS]].

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { backend, endpoints, freePort, ProxyUnderTest } from "../../test/e2e/proxy-harness.ts";
import { makeSecret, tlsListener } from "../../test/e2e/proxy-secrets.ts";
import { cpuTime, median } from "../cpu.ts";
import { haproxyConfiguration, haproxyMap, nginxConfiguration, routeTable, services } from "../http1/rules.ts";

const requests = Number(process.argv[2] ?? 100_000);
const rounds = Number(process.argv[3] ?? 3);
const connections = 8;
const streams = 10;
const PATH = `${process.env["PATH"]}:/usr/sbin`;

for (const [program, parcel] of [
  ["h2load", "nghttp2-client"],
  ["nginx", "nginx-light"],
  ["haproxy", "haproxy"],
] as const) {
  if (Bun.which(program, { PATH })) continue;
  console.error(`${program} is missing: apt-get install ${parcel}`);
  process.exit(1);
}

interface Run {
  readonly microseconds: number;
  readonly perSecond: number;
}

async function load(port: number, pid: number, count: number): Promise<Run> {
  const headers = [
    "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
    "accept: text/html,application/json;q=0.9,*/*;q=0.8",
    "x-api-version: v2",
    ":authority: bench.example.com",
  ];
  const before = cpuTime(pid);
  const child = Bun.spawn(
    [
      "h2load",
      `-n${count}`,
      `-c${connections}`,
      `-m${streams}`,
      "-t1",
      ...headers.flatMap((header) => ["-H", header]),
      `--connect-to=127.0.0.1:${port}`,
      `https://bench.example.com:${port}/service-${services - 13}/items/42?verbose=1`,
    ],
    { stdout: "pipe", stderr: "pipe" },
  );
  const text = await new Response(child.stdout).text();
  if (!text.includes(`${count} succeeded`) || !text.includes(`${count} 2xx`))
    throw new Error(`h2load saw errors:\n${text}`);
  return {
    microseconds: (cpuTime(pid) - before) / count,
    perSecond: Number(/([\d.]+) req\/s/.exec(text)?.[1]),
  };
}

const folder = mkdtempSync(join(tmpdir(), "fl-bench-"));
const origin = Bun.spawn([process.execPath, join(import.meta.dir, "../http1/backend.ts")], { stdout: "pipe" });
const proxy = new ProxyUnderTest();
const others: { kill(): void }[] = [];
try {
  const { value } = await origin.stdout.getReader().read();
  const originPort = Number(new TextDecoder().decode(value));
  const secret = makeSecret(folder, "bench", "bench.example.com");
  const certificate = join(folder, "bench");
  writeFileSync(
    `${certificate}.pem`,
    readFileSync(`${certificate}.crt`, "utf8") + readFileSync(`${certificate}.key`, "utf8"),
  );

  await proxy.start();
  const ours = freePort();
  const rejected = await proxy.control.update({
    secrets: [secret],
    backends: [backend("one"), backend("two")],
    endpoints: [endpoints("one", originPort), endpoints("two", originPort)],
    routeTables: [routeTable()],
    listeners: [tlsListener(ours, [{ kind: "tls" }, secret])],
  });
  if (rejected.length > 0) throw new Error(JSON.stringify(rejected));

  const start = async (port: number, ...command: string[]) => {
    const child = Bun.spawn(command, { stdout: "ignore", stderr: "inherit", env: { ...process.env, PATH } });
    others.push(child);
    for (let attempt = 0; attempt < 100; attempt++) {
      if (await fetch(`https://127.0.0.1:${port}/`, { tls: { rejectUnauthorized: false } }).catch(() => undefined))
        return child.pid;
      await Bun.sleep(50);
    }
    throw new Error(`${command[0]} does not answer`);
  };
  const nginxPort = freePort();
  writeFileSync(
    join(folder, "nginx.conf"),
    nginxConfiguration({ port: nginxPort, backend: originPort, folder, certificate }),
  );
  const haproxyPort = freePort();
  writeFileSync(join(folder, "services.map"), haproxyMap());
  writeFileSync(
    join(folder, "haproxy.cfg"),
    haproxyConfiguration({ port: haproxyPort, backend: originPort, folder, certificate }),
  );
  const proxies = {
    fairlead: { port: ours, pid: proxy.process!.pid, runs: [] as Run[] },
    nginx: {
      port: nginxPort,
      pid: await start(nginxPort, "nginx", "-p", folder, "-c", join(folder, "nginx.conf")),
      runs: [] as Run[],
    },
    haproxy: {
      port: haproxyPort,
      pid: await start(haproxyPort, "haproxy", "-db", "-f", join(folder, "haproxy.cfg")),
      runs: [] as Run[],
    },
  };

  await load(ours, proxies.fairlead.pid, requests);
  await load(nginxPort, proxies.nginx.pid, requests / 10);
  await load(haproxyPort, proxies.haproxy.pid, requests / 10);
  for (let round = 0; round < rounds; round++) {
    for (const one of Object.values(proxies)) one.runs.push(await load(one.port, one.pid, requests));
  }

  const lines = [
    `HTTP/2 over TLS, ${services * 2} rules, header match, ${connections} connections of ${streams} streams, one process each; ${rounds} runs of ${requests} requests in turns; ${cpus().length} cores`,
  ];
  for (const [name, { runs }] of Object.entries(proxies)) {
    const each = runs.map(({ microseconds }) => microseconds.toFixed(1)).join(" ");
    lines.push(
      `${name.padEnd(9)} ${median(runs.map((run) => run.microseconds)).toFixed(1)} µs CPU/request (${each}), ` +
        `${median(runs.map((run) => run.perSecond)).toFixed(0)} requests/s`,
    );
  }
  for (const peer of ["nginx", "haproxy"] as const) {
    const ratio = median(
      proxies.fairlead.runs.map((run, index) => run.microseconds / proxies[peer].runs[index]!.microseconds),
    );
    lines.push(`ratio     ${ratio.toFixed(2)} x ${peer} (CPU a request; the median of the paired runs)`);
  }
  const text = `${lines.join("\n")}\n`;
  process.stdout.write(text);
  writeFileSync(join(import.meta.dir, "last.txt"), text);
} finally {
  origin.kill();
  for (const child of others) child.kill();
  await proxy.stop();
  rmSync(folder, { recursive: true, force: true });
}
