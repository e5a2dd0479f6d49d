// A table of 5,000 rules swapped again and again under a steady load: how long the proxy takes from the update to having it in
// force, and how slow the slowest request meanwhile was. Usage: bun bench/config/run.ts [SWAPS].

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { RouteTable } from "../../src/model/model.ts";
import { host, keep, need, withContenders } from "../contenders.ts";
import { undisturbed } from "../cpu.ts";
import { h2load } from "../loads.ts";
import { summary } from "../statistics.ts";

const swaps = Number(process.argv[2] ?? 20);
const rules = 5000;
need("h2load", "nghttp2-client");
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

const rate = 500;
const priority = undisturbed();

await withContenders(
  { origin: [join(import.meta.dir, "../http1/backend.ts")], who: ["fairlead"] },
  async ({ contenders, proxy, folder, originPid }) => {
    await proxy.control.deliver({ routeTables: [version(0)] });
    const target = `/service-${rules - 7}/x`;
    await h2load(contenders[0]!, target, { requests: 2000, connections: 5, more: ["--h1"] });
    // A process of its own, so that writing the update does not hold the clients up.
    const log = join(folder, "requests.log");
    const requests = Math.ceil((rate * (swaps + 2) * 300) / 1000);
    // Only the proxy may keep clients waiting: they and the backend go before it (its compiler and collector threads, too), and what
    // writes the updates comes after it.
    undisturbed(30, originPid);
    undisturbed(30);
    const load = h2load(contenders[0]!, target, {
      requests,
      connections: 5,
      more: ["--h1", `--rps=${rate / 5}`, `--log-file=${log}`],
    });
    await Bun.sleep(500);
    undisturbed(10);
    const durations: number[] = [];
    /** In microseconds since the epoch, as h2load counts. */
    const spans: [number, number][] = [];
    const now = () => (performance.timeOrigin + performance.now()) * 1000;
    for (let count = 1; count <= swaps; count++) {
      const table = version(count);
      const began = now();
      const rejected = await proxy.control.deliver({ routeTables: [table] });
      if (rejected.length > 0) throw new Error(JSON.stringify(rejected));
      spans.push([began, now()]);
      durations.push((now() - began) / 1000);
      await Bun.sleep(200);
    }
    await load;
    const during: number[] = [];
    const otherwise: number[] = [];
    for (const row of readFileSync(log, "utf8").trim().split("\n")) {
      const [began, , took] = row.split("\t").map(Number) as [number, number, number];
      const meanwhile = spans.some(([start, end]) => began < end && began + took > start);
      (meanwhile ? during : otherwise).push(took / 1000);
    }
    keep(import.meta.dir, `a table of ${rules} rules swapped ${swaps} times at ${rate} requests/s${priority}`, [
      `update to in force, with writing and reading the frames: ${summary(durations)}`,
      `requests meanwhile: ${summary(during)}`,
      `requests otherwise: ${summary(otherwise)}`,
    ]);
  },
);
