// A rolling update of one Service's pods where 10,000 pods are in 100 Services: how many slices the controller writes, what a watcher
// is sent for it, and how long until the last rule of a change is in the kernel (nftables). The least that is possible is one write
// for each change of pods that happen together. kube-proxy (FAIRLEAD_KUBE_PROXY names its binary) follows the same slices for
// comparison, in another run.
//   bun bench/endpoints/run.ts [SERVICES] [PODS] [PODS-ONE-BY-ONE]        (root)

import { join } from "node:path";
import { binary, howToBuild, version } from "../../test/kube-proxy/live.ts";
import { quantile, summary } from "../statistics.ts";
import type { Scenario, ScenarioResult } from "./scenario.ts";

const services = Number(process.argv[2] ?? 100);
const pods = Number(process.argv[3] ?? 100);
const singles = Math.min(pods, Number(process.argv[4] ?? 100));
/** kube-proxy waits a second between changes. */
const peerSingles = Math.min(singles, 10);
const namespace = `fl-b-ep${process.pid}`;

async function run(...words: string[]): Promise<ScenarioResult> {
  Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
  Bun.spawnSync(["ip", "netns", "add", namespace]);
  Bun.spawnSync(["ip", "-n", namespace, "link", "set", "lo", "up"]);
  const script = join(import.meta.dir, "scenario.ts");
  const child = Bun.spawn(["ip", "netns", "exec", namespace, process.execPath, script, ...words], {
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`scenario ${words.join(" ")}: ${err.slice(-2000)}`);
  return JSON.parse(out.trim().split("\n").at(-1)!);
}

function print(title: string, one: Scenario, least: number, theirs: Scenario | undefined): void {
  const ratio = (a: number, b: number) => `(ratio ${(a / b).toFixed(2)})`;
  const middle = (values: readonly number[]) => quantile(values, 0.5);
  console.log(
    [
      title,
      `  ${one.changes} changes of pods: ${one.slices} slices written; the least is ${least} ${ratio(one.slices, least)}`,
      `  a watcher is sent ${(one.bytes / 1024).toFixed(0)} KiB, ${(one.bytes / one.changes / 1024).toFixed(1)} KiB a change; Endpoints objects written: ${one.endpointsObjects}`,
      `  change to last rule: ${summary(one.latency)}`,
      ...(theirs
        ? [
            `  kube-proxy ${version}:   ${summary(theirs.latency)} ${ratio(middle(one.latency), middle(theirs.latency))}`,
          ]
        : []),
    ].join("\n"),
  );
}

console.log(`${services * pods} pods in ${services} Services; a rolling update of ${pods} pods`);
if (!binary) console.log(`no kube-proxy to compare with. ${howToBuild}`);
try {
  const words = [String(services), String(pods)];
  const ours = await run("fairlead", ...words, String(singles));
  const theirs = binary ? await run("kube-proxy", ...words, String(peerSingles), binary) : undefined;
  console.log(`made in ${(ours.setup / 1000).toFixed(1)} s`);
  print(`${singles} pods replaced one by one`, ours.oneByOne, 3 * singles, theirs?.oneByOne);
  print("25 % at a time", ours.quarters, 12, theirs?.quarters);
} finally {
  Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
}
