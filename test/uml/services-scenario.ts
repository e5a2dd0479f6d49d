// What runs inside the User-Mode Linux machine for a whole stack in ipvs mode: `service-cases.ts` under `bun test`. Reports which
// passed and failed, and what they say about themselves.

import { join } from "node:path";

function report(step: string, value: unknown): void {
  console.log(`fl-uml: ${step} ${JSON.stringify(value)}`);
}

const child = Bun.spawn([process.execPath, "test", "--timeout", "120000", "./test/uml/service-cases.ts"], {
  cwd: join(import.meta.dir, "../.."),
  stdout: "pipe",
  stderr: "pipe",
  env: { ...process.env, NO_COLOR: "1" },
});
const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
const text = `${out}${err}`;
const named = (kind: string) =>
  [...text.matchAll(new RegExp(`^\\(${kind}\\) Services \\[ipvs\\] > (.*?)(?: \\[[0-9.]+ms\\])?$`, "gm"))].map(
    ([, one]) => one,
  );
report("passed", named("pass"));
report("failed cases", [...new Set(named("fail"))]);
report("said", text.match(/^(rolled under|packets with mode) .*/gm) ?? []);
if ((await child.exited) !== 0) console.log(text);
report("done", Math.round(performance.now()));
process.exit(0);
