// What runs inside of the User-Mode Linux machine for the ipvs backend's part of this benchmark; it tells its results as
// `test/uml/machine.ts` reads them.

import { podRange, type Size } from "./objects.ts";

const sizes: readonly Size[] = [
  { services: 200, endpoints: 2 },
  { services: 1000, endpoints: 2 },
  { services: 1, endpoints: 1000 },
];
const results: unknown[] = [];
for (const size of sizes) {
  Bun.spawnSync(["ip", "netns", "add", "bench"]);
  // IPVS takes only real servers that a route leads to.
  Bun.spawnSync(["ip", "-n", "bench", "link", "set", "lo", "up"]);
  Bun.spawnSync(["ip", "-n", "bench", "route", "add", podRange, "dev", "lo"]);
  const child = Bun.spawnSync(
    [
      "ip",
      "netns",
      "exec",
      "bench",
      process.execPath,
      `${import.meta.dir}/case.ts`,
      "ipvs",
      `${size.services}`,
      `${size.endpoints}`,
    ],
    { stderr: "pipe" },
  );
  if (child.exitCode !== 0) console.log(child.stderr.toString());
  else results.push([size, JSON.parse(child.stdout.toString())]);
  Bun.spawnSync(["ip", "netns", "del", "bench"]);
}
console.log(`fl-uml: results ${JSON.stringify(results)}`);
process.exit(0);
