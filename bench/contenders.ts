// Our proxy, NGINX, HAProxy and Envoy side by side for the benchmarks: the same 1,000 rules, the same backend, one worker each.
// A benchmark says how they are set up and gets those that are installed; runs are taken in turns, so that all of them meet the
// same noise, and ratios are medians of paired runs. Ours tells everything (`fairlead`): counters and histograms, a line of the access
// log for each request, the context of a trace passed on with each and one trace in a hundred recorded; `bare` has only the counters.
// The others log nothing, but for `nginx-log`, which writes a line of the same fields. All keep as many connections to the backend as
// there are requests at once, but for `nginx-64`, which keeps 64, as is usual.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { cpus, tmpdir } from "node:os";
import { join } from "node:path";
import type { Listener } from "../src/model/model.ts";
import { defaultTextFormat } from "../src/proxy/telemetry/default-formats.ts";
import { envoyProgram } from "../test/e2e/envoy.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener } from "../test/e2e/proxy-harness.ts";
import { makeSecret, tlsListener } from "../test/e2e/proxy-secrets.ts";
import { median } from "./cpu.ts";
import {
  envoyConfiguration,
  haproxyConfiguration,
  haproxyMap,
  nginxConfiguration,
  routeTable,
  type Setup,
  services,
} from "./http1/rules.ts";

export type Name = "fairlead" | "bare" | "nginx" | "nginx-log" | "nginx-64" | "haproxy" | "envoy";

export interface Contender<N extends string = Name> {
  readonly name: N;
  readonly port: number;
  readonly pid: number;
}

export interface Bench {
  /** Ours first. */
  readonly contenders: readonly Contender[];
  readonly proxy: ProxyUnderTest;
  readonly folder: string;
  readonly originPort: number;
  readonly originPid: number;
}

interface Options {
  /** A program that prints its port, with its arguments. */
  readonly origin: readonly string[];
  readonly tls?: boolean;
  readonly http2?: boolean;
  readonly grpc?: boolean;
  /** Who takes part; `fairlead`, `nginx`, `haproxy` and `envoy` unless given. */
  readonly who?: readonly Name[];
}

const usual: readonly Name[] = ["fairlead", "nginx", "haproxy", "envoy"];
/** Where requests are small, so that what is told of each counts. */
export const everybody: readonly Name[] = ["fairlead", "bare", "nginx", "nginx-log", "haproxy", "envoy"];

/** All that a listener can tell. The collector is the backend of the benchmark, which answers whatever it is sent. */
function told(folder: string): Pick<Listener, "accessLog" | "tracing"> {
  return {
    accessLog: { path: join(folder, "access.log"), format: { text: defaultTextFormat } },
    tracing: { backend: "one", service: "bench", sample: 0.01, formats: ["w3c"] },
  };
}

const PATH = `${process.env["PATH"]}:/usr/sbin`;

/** A path that the last but some of the rules takes, with {@link apiVersion}. */
export const path = `/service-${services - 13}/items/42?verbose=1`;
export const apiVersion = "v2";
export const host = "bench.example.com";

/** The program of a load generator; ends with a word when it is missing. */
export function need(program: string, parcel: string): void {
  if (Bun.which(program, { PATH })) return;
  console.error(`${program} is missing: apt-get install ${parcel}`);
  process.exit(1);
}

/** Starts everything, does the work, and stops everything. */
export async function withContenders(options: Options, work: (bench: Bench) => Promise<void>): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), "fl-bench-"));
  const origin = Bun.spawn([process.execPath, ...options.origin], { stdout: "pipe", stderr: "inherit" });
  const who = options.who ?? usual;
  const proxies: ProxyUnderTest[] = [];
  const children: { kill(signal: "SIGKILL"): void }[] = [];
  try {
    const { value } = await origin.stdout.getReader().read();
    const originPort = Number(new TextDecoder().decode(value));
    const secret = options.tls ? makeSecret(folder, "bench", host) : undefined;
    const certificate = options.tls ? join(folder, "bench") : undefined;
    if (certificate) {
      const parts = [`${certificate}.crt`, `${certificate}.key`].map((file) => readFileSync(file, "utf8"));
      writeFileSync(`${certificate}.pem`, parts.join(""));
    }
    writeFileSync(join(folder, "services.map"), haproxyMap());

    const contenders: Contender[] = [];
    for (const name of ["fairlead", "bare"] as const) {
      if (!who.includes(name)) continue;
      const proxy = new ProxyUnderTest();
      proxies.push(proxy);
      await proxy.start();
      const port = freePort();
      const protocol = options.grpc ? "h2c" : "http1";
      const listener = secret ? tlsListener(port, [{ kind: "tls" }, secret]) : plainListener(port);
      const rejected = await proxy.control.update({
        secrets: secret ? [secret] : [],
        backends: [backend("one", { protocol }), backend("two", { protocol })],
        endpoints: [endpoints("one", originPort), endpoints("two", originPort)],
        routeTables: [routeTable()],
        listeners: [name === "bare" ? listener : { ...listener, ...told(folder) }],
      });
      if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
      contenders.push({ name, port, pid: proxy.process!.pid });
    }

    const start = async (
      name: Name,
      program: string | undefined,
      write: (setup: Setup) => string,
      ...args: string[]
    ) => {
      if (!who.includes(name)) return;
      if (!program) {
        console.log(`${name} is not there and is left out`);
        return;
      }
      const port = freePort();
      const file = join(folder, `${name}.${name === "envoy" ? "json" : "conf"}`);
      const { http2, grpc } = options;
      const log = name === "nginx-log" ? join(folder, "nginx-access.log") : undefined;
      const kept = name === "nginx-64" ? 64 : undefined;
      writeFileSync(file, write({ port, backend: originPort, folder, certificate, http2, grpc, log, kept }));
      const child = Bun.spawn([program, ...args, file], {
        stdout: "ignore",
        stderr: "inherit",
        env: { ...process.env, PATH },
      });
      children.push(child);
      await accepts(port, name);
      contenders.push({ name, port, pid: child.pid });
    };
    for (const name of ["nginx", "nginx-log", "nginx-64"] as const)
      await start(name, Bun.which("nginx", { PATH }) ?? undefined, nginxConfiguration, "-p", folder, "-c");
    await start("haproxy", Bun.which("haproxy", { PATH }) ?? undefined, haproxyConfiguration, "-db", "-f");
    await start(
      "envoy",
      envoyProgram(),
      envoyConfiguration,
      "--concurrency",
      "1",
      "--log-level",
      "error",
      "--use-dynamic-base-id",
      "-c",
    );
    await work({ contenders, proxy: proxies[0]!, folder, originPort, originPid: origin.pid });
    if (who.includes("fairlead")) await mustHaveTold(proxies[0]!);
  } finally {
    origin.kill();
    for (const child of children) child.kill("SIGKILL");
    for (const proxy of proxies) await proxy.stop();
    rmSync(folder, { recursive: true, force: true });
  }
}

/** Figures of who did not tell what he was asked to are worth nothing. Lines and spans leave once a second. */
async function mustHaveTold({ admin }: ProxyUnderTest): Promise<void> {
  await Bun.sleep(1500);
  const metrics = await (await fetch("http://proxy/metrics", { unix: admin })).text();
  const count = (name: string, result: string) =>
    Number(new RegExp(`^fairlead_proxy_${name}_total\\{result="${result}"\\} (\\d+)$`, "m").exec(metrics)?.[1]);
  const told = count("access_log_lines", "written") > 0 && count("spans", "sent") > 0;
  const lost = count("access_log_lines", "dropped") + count("spans", "dropped") + count("spans", "failed");
  if (!told || lost !== 0)
    throw new Error(`not all was told:\n${metrics.match(/^fairlead_proxy_(access|spans).*$/gm)?.join("\n")}`);
}

async function accepts(port: number, name: string): Promise<void> {
  for (let attempt = 0; attempt < 400; attempt++) {
    const socket = await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } }).catch(() => undefined);
    if (socket) {
      socket.terminate();
      return;
    }
    await Bun.sleep(50);
  }
  throw new Error(`${name} does not accept connections`);
}

/**
 * Short runs before ours count, with connections that begin and end as in those that do: code that was compiled without either is compiled
 * anew when they come, for hundreds of thousands of requests.
 */
const warmUps = 6;

/** Runs in turns: `rounds` figures for each. A short first run warms each up and is not counted, of ours several. */
export async function inTurns<T, N extends string = Name>(
  contenders: readonly Contender<N>[],
  rounds: number,
  run: (one: Contender<N>, warm: boolean) => Promise<T>,
): Promise<Map<N, T[]>> {
  const results = new Map<N, T[]>(contenders.map(({ name }) => [name, []]));
  for (const one of contenders) {
    const times = one.name === "fairlead" || one.name === "bare" ? warmUps : 1;
    for (let count = 0; count < times; count++) await run(one, true);
  }
  for (let round = 0; round < rounds; round++) {
    for (const one of contenders) results.get(one.name)!.push(await run(one, false));
  }
  return results;
}

/** A line a contender, and the ratio of ours to each (medians of the paired runs). */
export function table<T>(
  results: Map<Name, T[]>,
  unit: string,
  figure: (run: T) => number,
  more?: (runs: readonly T[]) => string,
): string[] {
  const lines: string[] = [];
  const [first] = results.keys();
  const ours = results.get(first!)!.map(figure);
  for (const [name, runs] of results) {
    const figures = runs.map(figure);
    const ratio =
      name === first
        ? ""
        : `, ours is ${median(ours.map((value, index) => value / figures[index]!)).toFixed(2)} x that`;
    const each = figures.map((value) => value.toFixed(1)).join(" ");
    lines.push(
      `${name.padEnd(9)} ${median(figures).toFixed(1)} ${unit} (${each})${more ? `, ${more(runs)}` : ""}${ratio}`,
    );
  }
  return lines;
}

/** Prints the result and keeps it beside the benchmark. */
export function keep(directory: string, title: string, lines: readonly string[]): void {
  const text = `${title}; one worker each; ${cpus().length} cores\n${lines.join("\n")}\n`;
  process.stdout.write(text);
  writeFileSync(join(directory, "last.txt"), text);
}
