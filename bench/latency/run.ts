// What a proxy adds to the time of a request at a steady 1,000 requests a second, HTTP/1.1, 20 connections: quantiles of each
// minus those of the backend alone in the same round. Usage: bun bench/latency/run.ts [SECONDS [ROUNDS]].

import { readFileSync } from "node:fs";
import { join } from "node:path";
import { type Contender, inTurns, keep, need, path, withContenders } from "../contenders.ts";
import { median } from "../cpu.ts";
import { h2load } from "../loads.ts";
import { quantile } from "../statistics.ts";

const seconds = Number(process.argv[2] ?? 5);
const rounds = Number(process.argv[3] ?? 3);
const rate = 1000;
const connections = 20;
need("h2load", "nghttp2-client");

await withContenders(
  { origin: [join(import.meta.dir, "../http1/backend.ts")] },
  async ({ contenders, folder, originPort }) => {
    const log = join(folder, "latency.log");
    const backend = { name: "backend", port: originPort, pid: process.pid } as const;
    const results = await inTurns<number[], Contender["name"] | "backend">(
      [backend, ...contenders],
      rounds,
      async (one, warm) => {
        await h2load(one, path, {
          requests: rate * (warm ? 1 : seconds),
          connections,
          more: ["--h1", `--rps=${rate / connections}`, `--log-file=${log}`],
        });
        const rows = readFileSync(log, "utf8")
          .trim()
          .split("\n")
          .map((row) => Number(row.split("\t")[2]));
        // h2load adds to the file.
        return rows.slice(-rate * (warm ? 1 : seconds));
      },
    );
    const alone = results.get("backend")!;
    const lines = [...results].map(([name, runs]) => {
      const figures = [0.5, 0.99, 0.999].map((q) => {
        const added = median(runs.map((run, index) => quantile(run, q) - quantile(alone[index]!, q)));
        const value = median(runs.map((run) => quantile(run, q)));
        return `p${q * 100} ${value.toFixed(0)} µs${name === "backend" ? "" : ` (${added >= 0 ? "+" : ""}${added.toFixed(0)})`}`;
      });
      return `${name.padEnd(9)} ${figures.join(", ")}`;
    });
    keep(
      import.meta.dir,
      `latency at ${rate} requests/s, ${connections} connections, 1000 rules; medians of ${rounds} runs of ${seconds} s in turns; in brackets: more than the backend alone`,
      lines,
    );
  },
);
