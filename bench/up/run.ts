// How long from `fairlead up -f examples/shop` to the first 200 through the Gateway, with everything installed.
//   bun bench/up/run.ts [RUNS]

import { join, resolve } from "node:path";
import { summary } from "../statistics.ts";

const root = resolve(import.meta.dir, "../..");
const runs = Number(process.argv[2] ?? 5);
const name = "bench-up";
const fairlead = async (...words: string[]) => {
  const child = Bun.spawn([join(root, "bin/fairlead"), ...words], { stdout: "pipe", stderr: "pipe" });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  if (code !== 0) throw new Error(`fairlead ${words.join(" ")}: ${err}`);
  return out;
};

const times: number[] = [];
let last = "";
await fairlead("down", "--name", name);
try {
  for (let run = 0; run < runs; run++) {
    const began = performance.now();
    last = await fairlead("up", "--name", name, "-f", join(root, "examples/shop"));
    const line = last.split("\n").find((text) => text.startsWith("  curl ") && text.includes("/catalog"))!;
    while ((await answerOf(line)) !== "200")
      if (performance.now() - began > 30_000) throw new Error(`no 200 from ${line}`);
    times.push(performance.now() - began);
    await fairlead("down", "--name", name);
  }
} finally {
  await fairlead("down", "--name", name);
}
console.log(
  last
    .split("\n")
    .filter((text) => /^ {2}\S.* m?s/.test(text))
    .join("\n"),
);
const report = `up with examples/shop to the first 200: ${summary(times)}; aim 1500 ms, bound 3000 ms`;
console.log(report);
await Bun.write(join(import.meta.dir, "last.txt"), `${report}\n`);

async function answerOf(line: string): Promise<string> {
  const child = Bun.spawn(["sh", "-c", `${line.trim()} -s -o /dev/null -w '%{http_code}'`], { stdout: "pipe" });
  return new Response(child.stdout).text();
}
