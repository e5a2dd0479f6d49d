// A table of 5,000 rules swapped again and again under a steady load: how long the proxy takes from the update to having it in
// force, and how slow the slowest request meanwhile was. Usage: bun bench/config/run.ts [SWAPS].

import { join } from "node:path";
import type { RouteTable } from "../../src/model/model.ts";
import { apiVersion, host, keep, withContenders } from "../contenders.ts";
import { median } from "../cpu.ts";
import { summary } from "../statistics.ts";

const swaps = Number(process.argv[2] ?? 20);
const rules = 5000;
const from = { kind: "Bench", name: "config", field: "" };

/** Every second rule differs from one version to the next. */
function version(count: number): RouteTable {
  return {
    name: "main",
    from,
    hosts: [
      {
        names: [host],
        rules: Array.from({ length: rules }, (_, index) => ({
          from,
          name: `rule-${index}`,
          match: {
            path: { kind: "segments" as const, value: `/service-${index}` },
            ...(index % 2 === 0 && {
              headers: [{ name: "x-version", match: { kind: "exact" as const, value: `${count}-${index}` } }],
            }),
          },
          filters: [],
          action: { kind: "forward" as const, to: [{ from, weight: 1, target: { backend: "one" }, filters: [] }] },
        })),
      },
    ],
  };
}

await withContenders(
  { origin: [join(import.meta.dir, "../http1/backend.ts")], alone: true },
  async ({ contenders, proxy }) => {
    const { port } = contenders[0]!;
    let over = false;
    const times: { began: number; took: number }[] = [];
    const client = async () => {
      let waiting = (_bytes: Buffer) => {};
      const socket = await Bun.connect({
        hostname: "127.0.0.1",
        port,
        socket: { data: (_socket, bytes) => waiting(bytes) },
      });
      const text = `GET /service-${rules - 7}/x HTTP/1.1\r\nhost: ${host}\r\nx-api-version: ${apiVersion}\r\n\r\n`;
      while (!over) {
        const began = performance.now();
        const answer = await new Promise<Buffer>((resolve) => {
          waiting = resolve;
          socket.write(text);
        });
        times.push({ began, took: performance.now() - began });
        if (!answer.toString("latin1", 0, 12).endsWith("200")) throw new Error(`answered ${answer.toString("latin1")}`);
        await Bun.sleep(5);
      }
      socket.terminate();
    };
    await proxy.control.update({ routeTables: [version(0)] });
    const clients = Array.from({ length: 5 }, client);
    await Bun.sleep(500);
    const durations: number[] = [];
    const spans: [number, number][] = [];
    for (let count = 1; count <= swaps; count++) {
      const table = version(count);
      const began = performance.now();
      const rejected = await proxy.control.update({ routeTables: [table] });
      if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
      durations.push(performance.now() - began);
      spans.push([began, performance.now()]);
      await Bun.sleep(200);
    }
    over = true;
    await Promise.all(clients);
    const during = times
      .filter(({ began, took }) => spans.some(([start, end]) => began < end && began + took > start))
      .map(({ took }) => took);
    const between = times
      .filter(({ began, took }) => !spans.some(([start, end]) => began < end && began + took > start))
      .map(({ took }) => took);
    keep(import.meta.dir, `a table of ${rules} rules swapped ${swaps} times under load`, [
      `update to in force, with writing and reading the frames: median ${median(durations).toFixed(0)} ms; ${summary(durations)}`,
      `requests meanwhile: ${summary(during)}`,
      `requests otherwise: ${summary(between)}`,
    ]);
  },
);
