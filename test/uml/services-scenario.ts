// What runs inside the User-Mode Linux machine for Services in ipvs mode: a selection of upstream's cases that fits into the boot of
// a slow machine, each where ipvs has a way of its own. Reports which passed and failed.

import { join } from "node:path";

function report(step: string, value: unknown): void {
  console.log(`fl-uml: ${step} ${JSON.stringify(value)}`);
}

const selection = [
  "should serve a basic endpoint from pods",
  "should allow pods to hairpin",
  "should be able to create a functioning NodePort service",
  "should support externalTrafficPolicy=Local for type=NodePort",
  "should be rejected when no endpoints exist",
  "should only target nodes with endpoints",
  "should not break a connection when a Deployment is rolled",
  "should serve a host port beside the rules of ipvs",
];

report("selected", selection);
const child = Bun.spawn(
  [process.execPath, "test", "--timeout", "120000", "./test/uml/service-cases.ts", "-t", selection.join("|")],
  { cwd: join(import.meta.dir, "../.."), stdout: "pipe", stderr: "pipe", env: { ...process.env, NO_COLOR: "1" } },
);
const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
const text = `${out}${err}`;
const named = (kind: string) =>
  [...text.matchAll(new RegExp(`^\\(${kind}\\) Services \\[ipvs\\] > (.*?)(?: \\[[0-9.]+ms\\])?$`, "gm"))].map(
    ([, one]) => one,
  );
report("passed", named("pass"));
report("failed cases", [...new Set(named("fail"))]);
for (const line of text.match(/^rolled under .*/gm) ?? []) report("rolled", [line]);
if ((await child.exited) !== 0) console.log(text);
report("done", Math.round(performance.now()));
process.exit(0);
