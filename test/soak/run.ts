// A soak by hand and at night: two proxies under clients of HTTP/1.1, HTTP/2, TLS, gRPC, WebSocket, TCP and UDP while endpoints come
// and go, the routes change once a second, certificates every five, a listener every seven; one proxy's workers are ended in turns
// and the whole of it is handed over; other clients stall or vanish. Exits 1 when something failed or memory grew.
// Usage: bun test/soak/run.ts [MINUTES]; the last full run is in last.txt.

import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import type { Endpoints, Listener, RouteTable } from "../../src/model/model.ts";
import { fromWire } from "../../src/model/wire-codec.ts";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  plainListener,
  routeTable,
  rule,
} from "../e2e/proxy-harness.ts";
import { makeSecret, tlsListener } from "../e2e/proxy-secrets.ts";
import * as clients from "./clients.ts";
import { names, Proxies, type ProxyName } from "./proxies.ts";
import { startServers } from "./servers.ts";
import { Tally } from "./tally.ts";

const minutes = Number(process.argv[2] ?? 20);
const began = Date.now();
const end = began + minutes * 60_000;
const running = () => Date.now() < end;
const folder = mkdtempSync(join(tmpdir(), "fl-t-soak-"));
const servers = await startServers();
const proxies = new Proxies(folder);
const { model } = proxies;
const tally = new Tally();
const rudeness = new Tally();
const portsOf = (): clients.Ports => ({ plain: freePort(), secure: freePort(), tcp: freePort(), udp: freePort() });
const ports: Record<ProxyName, clients.Ports> = { steady: portsOf(), restless: portsOf() };
const spare = freePort();

const certificates = Array.from({ length: 4 }, (_, index) =>
  fromWire("secrets", makeSecret(folder, `c${index}`, "localhost", `v${index}.example`)),
);
const secretName = "secret/test/soak";

function table(version: number): RouteTable {
  return routeTable([
    rule("calls", {
      match: { path: { kind: "segments", value: "/soak.Echo" } },
      action: { kind: "forward", to: [forwardTo("calls")] },
    }),
    rule("sometimes", {
      match: { headers: [{ name: "x-version", match: { kind: "exact", value: String(version) } }] },
    }),
    ...Array.from({ length: 100 }, (_, index) =>
      rule(`r-${index}`, { match: { path: { kind: "segments", value: `/r-${version}-${index}` } } }),
    ),
    rule("all", { action: { kind: "forward", to: [forwardTo("one", 1), forwardTo("two", version % 5)] } }),
  ]);
}

function listenersOf(name: ProxyName): Listener[] {
  const { plain, secure, tcp, udp } = ports[name];
  const passed = (kind: "tcp" | "udp", port: number): Listener => ({
    ...plainListener(port, { name: `${name}-${kind}` }),
    transport: kind,
    chains: [{ from, when: { kind: "plain" }, serve: { tcp: [forwardTo(`echo-${kind}`)] } }],
  });
  const http = plainListener(plain, { name: `${name}-plain` });
  const https = { ...tlsListener(secure, [{ kind: "tls" }, { name: secretName }]), name: `${name}-secure` };
  return [http, https, passed("tcp", tcp), passed("udp", udp)].map((one) => ({ ...one, scope: name }));
}

/** Of several servers all but one, another one each time; always at least one. */
function some(name: string, all: readonly number[], version: number): Endpoints {
  return endpoints(name, ...all.filter((_, index) => (index + version) % all.length !== 0));
}

async function changes(): Promise<void> {
  for (let version = 1; running(); version++) {
    model.routeTables.batch(() => {
      model.routeTables.set("main", table(version));
      model.endpoints.set("one", some("one", servers.http, version));
      if (version % 2 === 0) model.endpoints.set("calls", some("calls", servers.grpc, version / 2));
      if (version % 3 === 0) model.endpoints.set("echo-tcp", some("echo-tcp", servers.tcp, version / 3));
      if (version % 10 === 0) model.endpoints.set("echo-udp", some("echo-udp", servers.udp, version / 10));
      if (version % 5 === 0)
        model.secrets.set(secretName, { ...certificates[(version / 5) % certificates.length]!, name: secretName });
      if (version % 14 === 7)
        model.listeners.set("spare", { ...plainListener(spare, { name: "spare" }), scope: "steady" });
      if (version % 14 === 0) model.listeners.delete("spare");
    });
    tally.count("configurations");
    await Bun.sleep(1_000);
    for (const refused of proxies.refused()) tally.fail("configuration", refused);
  }
}

/** A worker ends every 20 s, and every third time the whole is handed over instead. */
async function restarts(): Promise<void> {
  for (let turn = 1; ; turn++) {
    await Bun.sleep(Math.min(20_000, Math.max(0, end - 15_000 - Date.now())));
    if (Date.now() > end - 16_000) return;
    await (turn % 3 === 0 ? proxies.handOver("restless") : proxies.restartWorker("restless")).catch((error) =>
      tally.fail("restart", error),
    );
  }
}

/** Does something again and again, on one proxy and the other; what throws is a failure. */
async function client(kind: string, counts: Tally, one: (at: clients.Ports) => Promise<number>, pause: number) {
  for (let turn = 0; running(); turn++) {
    const name = names[turn % names.length]!;
    try {
      counts.count(kind, await one(ports[name]));
    } catch (error) {
      counts.fail(`${kind} at ${name}`, error);
      await Bun.sleep(100);
    }
    if (pause > 0) await Bun.sleep(pause);
  }
}

const memory: { readonly minute: number; readonly steady: number; readonly restless: readonly number[] }[] = [];
const print = (line: string) => {
  console.log(line);
  lines.push(line);
};
const lines: string[] = [];

async function watch(): Promise<void> {
  while (running()) {
    await Bun.sleep(Math.min(10_000, Math.max(100, end - Date.now())));
    const minute = (Date.now() - began) / 60_000;
    memory.push({ minute, steady: proxies.memory("steady")[0] ?? 0, restless: proxies.memory("restless") });
    const { steady, restless } = memory.at(-1)!;
    const last = restless.map((one) => one.toFixed(0)).join("+");
    console.log(
      `${(minute * 60).toFixed(0)} s: ${steady.toFixed(0)} and ${last} MiB, ${tally.succeeded} done, ${tally.failed} failed`,
    );
    if (proxies.died) throw new Error("the steady proxy has ended");
  }
}

/** MiB a minute that the resident memory of `steady` grows by, by least squares. */
function slope(points: typeof memory): number {
  const mean = (of: (one: (typeof memory)[number]) => number) =>
    points.reduce((sum, one) => sum + of(one), 0) / points.length;
  const x = mean(({ minute }) => minute);
  const y = mean(({ steady }) => steady);
  return (
    points.reduce((sum, one) => sum + (one.minute - x) * (one.steady - y), 0) /
    points.reduce((sum, one) => sum + (one.minute - x) ** 2, 0)
  );
}

try {
  model.secrets.set(secretName, { ...certificates[0]!, name: secretName });
  for (const name of ["one", "two", "echo-tcp", "echo-udp"]) model.backends.set(name, backend(name));
  model.backends.set("calls", backend("calls", { protocol: "h2c" }));
  model.endpoints.set("one", endpoints("one", ...servers.http));
  model.endpoints.set("two", endpoints("two", servers.http[0]!));
  model.endpoints.set("calls", endpoints("calls", ...servers.grpc));
  model.endpoints.set("echo-tcp", endpoints("echo-tcp", ...servers.tcp));
  model.endpoints.set("echo-udp", endpoints("echo-udp", ...servers.udp));
  model.routeTables.set("main", table(0));
  for (const name of names) for (const one of listenersOf(name)) model.listeners.set(one.name, one);
  for (const name of names) await proxies.start(name);
  const channels = names.map((name) => clients.grpcClient(ports[name]));
  let call = 0;
  const kinds: readonly (readonly [string, (at: clients.Ports) => Promise<number>, many: number, pause: number])[] = [
    ["HTTP/1.1", clients.get, 6, 0],
    ["HTTP/1.1 over TLS", clients.getOverTls, 2, 0],
    ["bodies up", clients.post, 2, 0],
    ["bodies down", clients.download, 1, 20],
    ["WebSocket messages", clients.webSocket, 2, 0],
    ["HTTP/2 over TLS", clients.http2OverTls, 2, 0],
    ["HTTP/2", clients.http2Plain, 1, 0],
    ["gRPC calls", () => channels[call++ % channels.length]!.work(), 2, 0],
    ["TCP messages", clients.tcp, 2, 0],
    ["datagrams", clients.udp, 2, 0],
  ];
  await Promise.all([
    changes(),
    restarts(),
    watch(),
    ...kinds.flatMap(([kind, one, many, pause]) => Array.from({ length: many }, () => client(kind, tally, one, pause))),
    ...Array.from({ length: 6 }, () => client("rude clients", rudeness, clients.rude, 50)),
  ]);
  for (const { close } of channels) close();
  const [cpu] = cpus();
  print(
    `bun test/soak/run.ts ${minutes}, ${new Date(began).toISOString().slice(0, 10)}, ${cpus().length} × ${cpu?.model}`,
  );
  for (const [kind, times] of tally.done) print(`${kind}: ${times}`);
  for (const [kind, times] of rudeness.done) print(`${kind}: ${times}`);
  print(`workers ended: ${proxies.restarts.workers}; handed over: ${proxies.restarts.handOvers}`);
  for (const [what, times] of tally.failures) print(`FAILED ${times} times: ${what}`);
  const warm = memory.slice(Math.floor(memory.length / 4));
  const grows = slope(warm);
  const first = warm[0]?.steady ?? 0;
  const last = warm.at(-1)?.steady ?? 0;
  print(
    `resident memory of the steady proxy: ${first.toFixed(0)} MiB after a quarter of the time, ${last.toFixed(0)} at the end, ${grows.toFixed(2)} MiB a minute`,
  );
  const most = Math.max(...memory.flatMap(({ restless }) => restless));
  print(`of the other's workers, at most: ${most.toFixed(0)} MiB`);
  // What noise and a collector's moods are; a leak of 1 KB a request would be 20 times that.
  const grown = grows * minutes > 30 || last > first * 1.3 + 20;
  print(
    `${tally.succeeded} requests and messages that should succeed, ${tally.failed} failed; memory ${grown ? "GREW" : "is flat"}`,
  );
  if (minutes >= 20) writeFileSync(join(import.meta.dir, "last.txt"), `${lines.join("\n")}\n`);
  process.exitCode = tally.failed > 0 || grown ? 1 : 0;
} finally {
  await proxies.stop();
  servers.stop();
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
