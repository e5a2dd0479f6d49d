// Bodies of 16 KiB and 10 MiB, down and up, over HTTP/1.1: CPU time for each MiB that the proxy passes on. Usage: bun
// bench/body/run.ts [SECONDS [ROUNDS]].

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { inTurns, keep, need, path, table, withContenders } from "../contenders.ts";
import { wrk } from "../loads.ts";

const seconds = Number(process.argv[2] ?? 5);
const rounds = Number(process.argv[3] ?? 3);
need("wrk", "wrk");

await withContenders({ origin: [join(import.meta.dir, "backend.ts")] }, async ({ contenders, folder }) => {
  const lines: string[] = [];
  for (const [name, bytes, connections] of [
    ["16 KiB", 16 * 1024, 32],
    ["10 MiB", 10 * 1024 * 1024, 4],
  ] as const) {
    const script = join(folder, "post.lua");
    writeFileSync(script, `wrk.method = "POST"\nwrk.body = string.rep("x", ${bytes})\n`);
    for (const up of [false, true]) {
      const results = await inTurns(contenders, rounds, (one, warm) =>
        wrk(one, `${path}&bytes=${up ? 2 : bytes}`, {
          // Long enough that our hot functions are compiled: that goes on beside the load, and would be counted.
          seconds: warm ? 2 : seconds,
          connections,
          ...(up && { script }),
        }),
      );
      const mebibytes = bytes / 1024 / 1024;
      lines.push(`${name} ${up ? "up" : "down"}, ${connections} connections`);
      lines.push(...table(results, "µs CPU/MiB", (run) => run.microseconds / mebibytes));
    }
  }
  keep(
    import.meta.dir,
    `bodies over HTTP/1.1, 1000 rules, fairlead with all telemetry on; ${rounds} runs of ${seconds} s in turns`,
    lines,
  );
});
