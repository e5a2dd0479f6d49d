// How long until the kernel has the rules: all of them, and one changed endpoint, per backend, split into what Fairlead computes
// (from Services and slices to the text of the change) and what the kernel's tool takes. Each case is a process and a namespace of
// its own. The floor is the same final rules loaded by one call of the tool. The peer is kube-proxy itself, by its own metric
// `sync_proxy_rules_duration_seconds` (FAIRLEAD_KUBE_PROXY names its binary); without one, what it runs for a change is modelled:
// nftables lists the table, iptables writes the chains anew that all Services share, beside the change itself.
//   bun bench/sync/run.ts [SIZE,…] [BACKEND,…]       (root; a SIZE is 1000, or 1x5000: Services x endpoints)

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { binary, howToBuild, version } from "../../test/kube-proxy/live.ts";
import { cannotBoot, runInMachine } from "../../test/uml/machine.ts";
import { quantile } from "../statistics.ts";
import type { CaseResult } from "./case.ts";
import { node, type Size, titleOf } from "./objects.ts";
import type { PeerResult } from "./peer.ts";

const sizes = (process.argv[2] ?? "1000,5000,10000,1x5000").split(",").map((text): Size => {
  const [services, endpoints = 2] = text.split("x").map(Number);
  return { services: services!, endpoints };
});
const backends = (process.argv[3] ?? "nftables,iptables-nft,iptables-legacy,ipvs").split(",");
const namespace = `fl-b-sync${process.pid}`;
const folder = mkdtempSync(join(tmpdir(), "fl-b-sync-"));

function removeNamespace(): void {
  Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
}

function newNamespace(): void {
  removeNamespace();
  const ip = (...words: string[]) => Bun.spawnSync(["ip", ...words]);
  ip("netns", "add", namespace);
  ip("-n", namespace, "link", "set", "lo", "up");
  ip("-n", namespace, "addr", "add", `${node.address}/32`, "dev", "lo");
}

/** A program's last line of output, as JSON; it runs in a new namespace. */
async function inNewNamespace<T>(script: string, ...words: string[]): Promise<T> {
  newNamespace();
  const child = Bun.spawn(
    ["ip", "netns", "exec", namespace, process.execPath, join(import.meta.dir, script), ...words],
    { stdout: "pipe", stderr: "pipe" },
  );
  const [out, err] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  if ((await child.exited) !== 0) throw new Error(`${script} ${words.join(" ")}: ${err.slice(-2000)}`);
  return JSON.parse(out.trim().split("\n").at(-1)!) as T;
}

/** Milliseconds that the tool takes for rules alone. */
function load(backend: string, file: string): number {
  newNamespace();
  const argv = backend === "nftables" ? ["nft", "-f", file] : [`${backend}-restore`, "-w", "5", file];
  const start = performance.now();
  const { exitCode, stderr } = Bun.spawnSync(["ip", "netns", "exec", namespace, ...argv], { stderr: "pipe" });
  if (exitCode !== 0) throw new Error(`${argv.join(" ")}: ${stderr.toString().slice(0, 300)}`);
  return performance.now() - start;
}

const ms = (value: number) => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
const median = (values: readonly number[]) => quantile(values, 0.5);
const ratio = (ours: number, theirs: number) => `(ratio ${(ours / theirs).toFixed(2)})`;

function print(backend: string, size: Size, result: CaseResult, floor: number | undefined, peer?: PeerResult): void {
  const full = result.full.compute + result.full.kernel;
  const one = median(result.one.compute) + median(result.one.kernel);
  const modelled = result.besides && median(result.one.kernel) + median(result.besides);
  const asPeer = peer
    ? `; kube-proxy ${version} ${ms(median(peer.one))} ${ratio(one, median(peer.one))}`
    : modelled === undefined
      ? ""
      : `; as kube-proxy does it, modelled, ${ms(modelled)} ${ratio(one, modelled)}`;
  const lines = [
    `${backend}, ${titleOf(size)} (${result.rules} rules)`,
    `  all:          compute ${ms(result.full.compute)}, kernel ${ms(result.full.kernel)}${
      floor === undefined ? "" : `; floor ${ms(floor)} ${ratio(full, floor)}`
    }${peer ? `; kube-proxy ${version} ${ms(peer.full)} ${ratio(full, peer.full)}` : ""}`,
    `  one endpoint: compute ${ms(median(result.one.compute))}, kernel ${ms(median(result.one.kernel))}${asPeer}`,
    `  memory:       ${result.resident.toFixed(0)} MiB, at most ${result.most.toFixed(0)} MiB${
      peer ? `; kube-proxy ${peer.resident.toFixed(0)} MiB` : ""
    }`,
  ];
  console.log(lines.join("\n"));
}

async function kernelCase(backend: string, size: Size): Promise<void> {
  const words = [backend, String(size.services), String(size.endpoints)];
  const file = join(folder, "floor");
  const result = await inNewNamespace<CaseResult>("case.ts", ...words, file);
  const floor = load(backend, file);
  const peer = binary ? await inNewNamespace<PeerResult>("peer.ts", binary, ...words) : undefined;
  print(backend, size, result, floor, peer);
}

/** IPVS is not in every kernel: it is measured in User-Mode Linux, where times are several times those of a real kernel. */
async function ipvsCases(): Promise<void> {
  const reason = cannotBoot(["ipvsadm", "ipset", "ip", "xtables-legacy-multi"]);
  const machine = reason ? undefined : await runInMachine(join(import.meta.dir, "ipvs-in-machine.ts"), 300_000);
  const results = machine?.steps.get("results") as readonly [Size, CaseResult][] | undefined;
  if (!results) {
    console.log(`ipvs: skipped: ${reason ?? `the machine said: ${machine?.output.trim().split("\n").at(-1)}`}`);
    return;
  }
  if (results.length === 0) console.log(`ipvs: no case came to its end: ${machine?.output.slice(-1000)}`);
  for (const [size, result] of results) print("ipvs in User-Mode Linux", size, result, undefined);
}

const nft = Bun.spawnSync(["nft", "--version"]).stdout.toString().trim();
const release = (await Bun.file("/proc/sys/kernel/osrelease").text()).trim();
console.log(`${nft}, Linux ${release}`);
if (!binary) console.log(`no kube-proxy to compare with: its changes are modelled. ${howToBuild}`);
try {
  for (const size of sizes) {
    for (const backend of backends) if (backend !== "ipvs") await kernelCase(backend, size);
  }
  if (backends.includes("ipvs")) await ipvsCases();
} finally {
  removeNamespace();
  rmSync(folder, { recursive: true, force: true });
}
