// Runs the kube-proxy that FAIRLEAD_KUBE_PROXY names in a namespace of its own, with each set of flags, and compares what it
// writes with what Fairlead would. With a folder as its argument it also writes kube-proxy's texts down there (`recorded/`).
//   FAIRLEAD_KUBE_PROXY=… bun test/kube-proxy/live-compare.ts [FOLDER]        (root)

import { join } from "node:path";
import type { KubeObject } from "../../src/api/object.ts";
import { differences, nodePortsAreLast, parseRules } from "./compare.ts";
import { binary, type Cluster, howToBuild, inNewNamespace, startCluster } from "./live.ts";
import { fewObjects, largeService, objects } from "./objects.ts";
import { ourRules, type Variant, variants, words } from "./variants.ts";

const folder = process.argv[2];
let failed = 0;

async function compare(cluster: Cluster, path: string, variant: Variant, name: string, all: readonly KubeObject[]) {
  // What an earlier set of flags has set.
  await Bun.write("/proc/sys/net/netfilter/nf_conntrack_tcp_be_liberal", "0");
  const proxy = await cluster.start(path, variant.mode, words(variant));
  try {
    await proxy.settled();
  } finally {
    await proxy.stop();
  }
  const output = (...argv: string[]) => Bun.spawnSync(argv).stdout.toString();
  for (const family of [4, 6] as const) {
    const text =
      variant.mode === "iptables"
        ? output(family === 4 ? "iptables-save" : "ip6tables-save").replace(/^#.*\n/gm, "")
        : output("nft", "list", "table", family === 4 ? "ip" : "ip6", "kube-proxy");
    if (folder && !name.endsWith("-large")) await Bun.write(join(folder, `${name}-v${family}.txt`), text);
    const theirs = parseRules(variant.mode, family, text);
    const ours = parseRules(variant.mode, family, await ourRules(variant, family, all));
    const list = differences(theirs, ours);
    if (variant.mode === "iptables" && !(nodePortsAreLast(theirs) && nodePortsAreLast(ours)))
      list.push("the rule of node ports is not the last one");
    if (theirs.size < 10) list.push("kube-proxy wrote next to nothing");
    console.log(`${name}, IPv${family}: ${theirs.size} chains and objects, ${list.length} different`);
    for (const one of list) console.log(`  ${one}`);
    failed += list.length;
  }
  output(path, "--cleanup");
  for (const family of ["ip", "ip6"]) output("nft", "delete", "table", family, "kube-proxy");
  for (const tool of ["iptables-restore", "ip6tables-restore"]) {
    const empty = ["mangle", "filter", "nat"].map((table) => `*${table}\nCOMMIT\n`).join("");
    Bun.spawnSync([tool], { stdin: Buffer.from(empty) });
  }
}

const code = await inNewNamespace("fl-t-kp");
if (code !== undefined) process.exit(code);
if (!binary) {
  console.log(`kube-proxy: skipped, FAIRLEAD_KUBE_PROXY names no binary\n${howToBuild}`);
  process.exit(0);
}
for (const [suffix, all, chosen] of [
  ["", objects(), variants.slice(0, 2)],
  ["", fewObjects(), variants.slice(2)],
  ["-large", [...fewObjects(), ...largeService()], variants.slice(0, 1)],
] as const) {
  const cluster = await startCluster(all);
  for (const variant of chosen) await compare(cluster, binary, variant, `${variant.name}${suffix}`, all);
  await cluster.stop();
}
console.log(failed === 0 ? "kube-proxy: nothing differs" : `kube-proxy: ${failed} differences`);
process.exit(failed === 0 ? 0 : 1);
