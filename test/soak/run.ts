// A soak by hand: one proxy under mixed clients (HTTP/1.1, HTTP/2 over TLS, WebSocket, bodies up and down) while endpoints come and
// go, the routes change once a second, the certificate every five, and other clients stall or vanish. Prints failures of what
// should succeed and the memory over time; exits 1 when something failed or memory grew. Usage: bun test/soak/run.ts [MINUTES].

import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "../e2e/proxy-harness.ts";
import { makeSecret, tlsListener } from "../e2e/proxy-secrets.ts";

const minutes = Number(process.argv[2] ?? 20);
const end = Date.now() + minutes * 60_000;
const folder = mkdtempSync(join(tmpdir(), "fl-t-soak-"));
const proxy = new ProxyUnderTest();
const plain = freePort();
const secure = freePort();
const running = () => Date.now() < end;

const counts = new Map<string, number>();
const failures = new Map<string, number>();
const count = (map: Map<string, number>, key: string) => map.set(key, (map.get(key) ?? 0) + 1);

const servers = Array.from({ length: 4 }, (_, index) =>
  Bun.serve<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    async fetch(request, server) {
      const url = new URL(request.url);
      if (url.pathname === "/socket" && server.upgrade(request)) return undefined;
      if (url.pathname === "/big") return new Response(big);
      const body = await request.bytes();
      return new Response(`${index} ${request.method} ${body.length}`);
    },
    websocket: {
      message: (socket, text) => {
        socket.send(text);
      },
    },
  }),
);
const big = new Uint8Array(1_000_000).fill(97);

const table = (version: number) =>
  routeTable([
    rule("sometimes", {
      match: { headers: [{ name: "x-version", match: { kind: "exact", value: String(version) } }] },
    }),
    ...Array.from({ length: 100 }, (_, index) =>
      rule(`r-${index}`, { match: { path: { kind: "segments", value: `/r-${version}-${index}` } } }),
    ),
    rule("all", { action: { kind: "forward", to: [forwardTo("one", 1), forwardTo("two", version % 5)] } }),
  ]);

/** Does something again and again; what throws is a failure. */
async function client(kind: string, one: () => Promise<void>): Promise<void> {
  while (running()) {
    try {
      await one();
      count(counts, kind);
    } catch (error) {
      count(failures, `${kind}: ${String(error).slice(0, 200)}`);
      await Bun.sleep(100);
    }
  }
}

function check(ok: boolean, what: string): void {
  if (!ok) throw new Error(what);
}

const url = (path: string) => `http://127.0.0.1:${plain}${path}`;

async function get(): Promise<void> {
  const response = await fetch(url("/small"), { signal: AbortSignal.timeout(20_000) });
  const text = await response.text();
  check(response.status === 200 && text.endsWith(" GET 0"), `${response.status} ${text}`);
}

async function post(): Promise<void> {
  const size = Math.floor(Math.random() * 200_000);
  const response = await fetch(url("/post"), {
    method: "POST",
    body: new Uint8Array(size),
    signal: AbortSignal.timeout(20_000),
  });
  const text = await response.text();
  check(response.status === 200 && text.endsWith(` POST ${size}`), `${response.status} ${text}`);
}

async function download(): Promise<void> {
  const response = await fetch(url("/big"), { signal: AbortSignal.timeout(20_000) });
  const body = await response.bytes();
  check(response.status === 200 && body.length === big.length, `${response.status}, ${body.length} bytes`);
}

async function socket(): Promise<void> {
  const ws = new WebSocket(`ws://127.0.0.1:${plain}/socket`);
  try {
    await new Promise<void>((resolve, reject) => {
      let echoes = 0;
      const timer = setTimeout(() => reject(new Error("no echo in 20 s")), 20_000);
      ws.onopen = () => ws.send("hello");
      ws.onmessage = ({ data }) => {
        if (data !== "hello") reject(new Error(`it said ${String(data)}`));
        else if (++echoes === 20) {
          clearTimeout(timer);
          resolve();
        } else ws.send("hello");
      };
      ws.onerror = () => reject(new Error("error"));
      ws.onclose = () => reject(new Error("closed early"));
    });
  } finally {
    ws.close();
  }
}

/** One session with ten requests at a time, fifty times, then another. */
async function session(): Promise<void> {
  const connection = http2.connect(`https://localhost:${secure}`, { rejectUnauthorized: false });
  try {
    connection.on("error", () => {});
    for (let round = 0; round < 50 && running(); round++) {
      await Promise.all(Array.from({ length: 10 }, () => stream(connection)));
      count(counts, "http2 (tens of requests)");
    }
  } finally {
    connection.close();
  }
}

function stream(connection: http2.ClientHttp2Session): Promise<void> {
  return new Promise((resolve, reject) => {
    const one = connection.request({ ":method": "POST", ":path": "/stream" });
    let status = 0;
    let text = "";
    one.on("response", (headers) => {
      status = Number(headers[":status"]);
    });
    one.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    one.on("error", reject);
    one.on("end", () =>
      status === 200 && text.endsWith(" POST 5") ? resolve() : reject(new Error(`${status} ${text}`)),
    );
    one.end("hello");
  });
}

/** Begins what it never ends: half a head, half a body, an answer that it does not read; stays a while or is gone at once. */
async function rude(): Promise<void> {
  const begins = [
    "GET / HT",
    "POST /post HTTP/1.1\r\nhost: a\r\ncontent-length: 1000\r\n\r\nabc",
    "GET /big HTTP/1.1\r\nhost: a\r\n\r\n",
  ];
  const connection = await Bun.connect({ hostname: "127.0.0.1", port: plain, socket: { data() {}, error() {} } });
  connection.pause();
  connection.write(begins[Math.floor(Math.random() * begins.length)]!);
  await Bun.sleep(Math.random() < 0.5 ? 5 : 1_000);
  connection.terminate();
}

async function changes(): Promise<void> {
  const fresh = (version: number) => makeSecret(folder, "soak", `v${version}.example`, "localhost");
  let version = 0;
  while (running()) {
    version++;
    // Of four servers always two or three, never the same two ticks in turn.
    const some = servers.filter(
      (_, index) => (index + version) % 4 !== 0 && (version % 3 !== 0 || (index + version) % 4 !== 1),
    );
    const rejected = await proxy.control.update({
      routeTables: [table(version)],
      endpoints: [endpoints("one", ...some.map(({ port }) => port!))],
      ...(version % 5 === 0 && { secrets: [fresh(version)] }),
    });
    if (rejected.length > 0) count(failures, `configuration: ${JSON.stringify(rejected)}`);
    count(counts, "configurations");
    await Bun.sleep(1_000);
  }
}

const resident = () =>
  Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${proxy.process!.pid}/status`, "utf8"))![1]) / 1024;
const memory: number[] = [];

async function watch(): Promise<void> {
  const began = Date.now();
  while (running()) {
    await Bun.sleep(Math.min(10_000, end - Date.now()));
    memory.push(resident());
    const totals = [...counts].map(([kind, times]) => `${kind} ${times}`).join(", ");
    const failed = [...failures.values()].reduce((sum, times) => sum + times, 0);
    console.log(
      `${((Date.now() - began) / 1000).toFixed(0)} s: ${memory.at(-1)!.toFixed(0)} MiB, ${failed} failed; ${totals}`,
    );
  }
}

try {
  const secret = makeSecret(folder, "soak", "localhost");
  await proxy.start();
  const rejected = await proxy.control.update({
    secrets: [secret],
    backends: [backend("one"), backend("two")],
    endpoints: [endpoints("one", ...servers.map(({ port }) => port!)), endpoints("two", servers[0]!.port!)],
    routeTables: [table(0)],
    listeners: [plainListener(plain), tlsListener(secure, [{ kind: "tls" }, secret])],
  });
  if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
  const kinds: readonly (readonly [string, () => Promise<void>, number])[] = [
    ["http1", get, 6],
    ["bodies up", post, 2],
    ["bodies down", download, 1],
    ["websockets", socket, 2],
    ["http2 sessions", session, 2],
    ["rude clients", rude, 5],
  ];
  await Promise.all([
    changes(),
    watch(),
    ...kinds.flatMap(([kind, one, clients]) => Array.from({ length: clients }, () => client(kind, one))),
  ]);
  for (const [what, times] of failures) console.log(`failed ${times} times: ${what}`);
  // From the first quarter on, by when everything has been seen once.
  const early = memory[Math.floor(memory.length / 4)] ?? 0;
  const grown = (memory.at(-1) ?? 0) > early * 1.3 + 20;
  console.log(
    `${failures.size === 0 ? "nothing" : "something"} failed; memory ${early.toFixed(0)} -> ${memory.at(-1)?.toFixed(0)} MiB${grown ? ": it grew" : ""}`,
  );
  process.exitCode = failures.size > 0 || grown ? 1 : 0;
} finally {
  await proxy.stop();
  for (const server of servers) server.stop(true);
  rmSync(folder, { recursive: true, force: true });
}
process.exit();
