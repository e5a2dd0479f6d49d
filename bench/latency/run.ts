// What a proxy adds to the time of a request at a steady 1,000 requests a second, HTTP/1.1, 20 connections each: quantiles of
// each minus those of the backend alone. `steady.c` asks all of them in slices of half a second in turns, at planned times.
// Usage: bun bench/latency/run.ts [CYCLES [RUNS]]; a cycle is half a second of each.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { apiVersion, everybody, host, keep, need, path, withContenders } from "../contenders.ts";
import { median, undisturbed } from "../cpu.ts";
import { quantile } from "../statistics.ts";

const cycles = Number(process.argv[2] ?? 10);
const runs = Number(process.argv[3] ?? 3);
const rate = 1000;
const slice = 500;
const connections = 20;
const quantiles = [0.5, 0.9, 0.99, 0.999];
need("gcc", "gcc");
need("nginx", "nginx");

const priority = undisturbed();

const fields = [
  ...[`host: ${host}`, `x-api-version: ${apiVersion}`, "accept: text/html,application/json;q=0.9,*/*;q=0.8"],
  "user-agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36",
];

await withContenders(
  { origin: [join(import.meta.dir, "backend.ts")], who: everybody },
  async ({ contenders, folder, originPort }) => {
    const program = join(folder, "steady");
    const request = join(folder, "request");
    await output(["gcc", "-O2", "-o", program, join(import.meta.dir, "steady.c")]);
    writeFileSync(request, `GET ${path} HTTP/1.1\r\n${fields.join("\r\n")}\r\n\r\n`);
    const names = ["backend", ...contenders.map(({ name }) => name)];
    const targets = [`backend:${originPort}`, ...contenders.map(({ name, port }) => `${name}:${port}`)];
    const ask = (perSecond: number, times: number) =>
      output([program, ...[perSecond, slice, times, connections].map(String), request, ...targets]);
    await ask(4 * rate, 6);
    /** Of each run, by name, in microseconds. */
    const all: Map<string, number[]>[] = [];
    for (let run = 0; run < runs; run++) {
      const times = new Map<string, number[]>([...names, "lag"].map((name) => [name, []]));
      for (const line of (await ask(rate, cycles)).trim().split("\n")) {
        const [, name, took] = line.split(" ");
        times.get(name!)!.push(Number(took) / 1000);
      }
      all.push(times);
    }
    const figures = (name: string) => quantiles.map((q) => median(all.map((times) => quantile(times.get(name)!, q))));
    const added = (name: string, q: number) =>
      median(all.map((times) => quantile(times.get(name)!, q) - quantile(times.get("backend")!, q)));
    const lines = [...names, "lag"].map((name) => {
      const alone = name === "backend" || name === "lag";
      const each = quantiles.map((q, index) => {
        const more = alone ? "" : ` (+${added(name, q).toFixed(0)})`;
        return `p${q * 100} ${figures(name)[index]!.toFixed(0)} µs${more}`;
      });
      return `${(name === "lag" ? "(client)" : name).padEnd(9)} ${each.join(", ")}`;
    });
    keep(
      import.meta.dir,
      `latency from planned times at ${rate} requests/s, ${connections} connections, 1000 rules, fairlead with all telemetry on (bare: without); medians of ${runs} runs of ${cycles} slices of ${slice} ms each in turns${priority}; in brackets: more than the backend alone; (client): how late it sent`,
      lines,
    );
  },
);

async function output(command: string[]): Promise<string> {
  const child = Bun.spawn(command, { stdout: "pipe", stderr: "inherit" });
  const text = await new Response(child.stdout).text();
  if ((await child.exited) !== 0) throw new Error(`${command[0]} failed`);
  return text;
}
