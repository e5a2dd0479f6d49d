// How long a scrape of `/metrics` stops a proxy: 5,000 rules that all had requests, 3,000 backends. The proxy runs in this process, so
// that its event loop can be watched turn by turn; who scrapes is another. Usage: bun bench/scrape/run.ts [SCRAPES].

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/base/clock.ts";
import { createLogger } from "../../src/base/log.ts";
import { serveAdmin } from "../../src/proxy/admin/server.ts";
import { ProxyProcess } from "../../src/proxy/proxy.ts";
import { backend, endpoints } from "../../test/e2e/proxy-harness.ts";
import { summary } from "../statistics.ts";

const scrapes = Number(process.argv[2] ?? 20);
const folder = mkdtempSync(join(tmpdir(), "fl-bench-scrape-"));
const admin = join(folder, "admin.sock");
const log = createLogger(
  () => {},
  () => "error",
);
const limits = { maxConnections: 10_000, maxRequests: 10_000, maxMemory: 0 };
const control = join(folder, "control.sock");
const proxy = new ProxyProcess({ name: "bench", scopes: ["gateway"], control, admin, ...limits }, systemClock, log);
const server = serveAdmin(proxy, () => {});

const backends = Array.from({ length: 3000 }, (_, index) => `service/shop/cart-${index}/80`);
await proxy.configuration.apply({
  version: 1,
  upsert: {
    backends: backends.map((name) => backend(name)) as never,
    endpoints: backends.map((name) => endpoints(name, 8080, 8081)) as never,
  },
  remove: {},
});
const { metrics } = proxy.runtime;
for (let rule = 0; rule < 5000; rule++) {
  const slot = metrics.slot(`httproute/shop/cart-${rule}/0`, backends[rule % backends.length]!);
  for (let request = 0; request < 20; request++) metrics.record(slot, request % 10 ? 200 : 503, request * 7, 0, 4096);
}

/** The longest time between two turns until `over`, in milliseconds. */
async function longestStop(over: Promise<unknown>): Promise<number> {
  let [watching, longest, last] = [true, 0, performance.now()];
  void over.then(() => (watching = false));
  while (watching) {
    await new Promise((resolve) => void setImmediate(resolve));
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
  }
  return longest;
}

const stops: number[] = [];
const times: number[] = [];
let bytes = 0;
for (let count = 0; count < scrapes; count++) {
  const began = performance.now();
  const command = [
    "curl",
    "-s",
    "-o",
    "/dev/null",
    "-w",
    "%{size_download}",
    "--unix-socket",
    admin,
    "http://proxy/metrics",
  ];
  const child = Bun.spawn(command, { stdout: "pipe" });
  stops.push(await longestStop(child.exited));
  bytes = Number(await new Response(child.stdout).text());
  times.push(performance.now() - began);
}
server.stop();
rmSync(folder, { recursive: true, force: true });
console.log({ megabytes: bytes / 1e6, longestStop: summary(stops), scrape: summary(times) });
process.exit(0);
