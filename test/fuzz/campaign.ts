// A long run by hand and at night, at idle priority: 10,000,000 inputs (or as many as asked for) over all targets that run in one
// process, in slices of 100,000 a target, each with a seed of its own that is printed; then a tenth as many pairs of the router
// against `decide`. Ends at the first slice that fails, with what it says. Usage: bun test/fuzz/campaign.ts [INPUTS [FIRST_SEED]]

import { join } from "node:path";

const inputs = Number(process.argv[2] ?? 10_000_000);
const firstSeed = Number(process.argv[3] ?? crypto.getRandomValues(new Uint32Array(1))[0]);
/** Files and how many targets each has. */
const files = { parsers: 6, frames: 3, configuration: 2 } as const;
const slice = 100_000;

async function run(file: string, count: number, seed: number): Promise<void> {
  const child = Bun.spawn(
    [
      ...["chrt", "-i", "0", "nice", "-n", "19", process.execPath],
      ...["test", "--timeout", "86400000", join(import.meta.dir, `${file}.test.ts`)],
    ],
    {
      env: { ...process.env, FUZZ_INPUTS: String(count), FUZZ_SEED: String(seed) },
      ...{ stdout: "pipe", stderr: "pipe" },
    },
  );
  const [out, err, code] = await Promise.all([child.stdout.text(), child.stderr.text(), child.exited]);
  if (code === 0) return;
  console.log(`${out}${err}\n${file} failed with FUZZ_SEED=${seed} FUZZ_INPUTS=${count}`);
  process.exit(1);
}

const began = Date.now();
const since = () => `${Math.round((Date.now() - began) / 1000)} s`;
let done = 0;
for (let seed = firstSeed; done < inputs; seed++) {
  for (const [file, targets] of Object.entries(files)) {
    await run(file, slice, seed);
    done += slice * targets;
  }
  console.log(`seed ${seed}: ${done} inputs after ${since()}`);
}
await run("router", Math.ceil(inputs / 10), firstSeed);
console.log(`${done} inputs and ${Math.ceil(inputs / 10)} pairs of the router in ${since()}: nothing found`);
