// How long until the kernel has the rules: all of them, and one changed endpoint, per backend, split into what Fairlead computes
// and what the kernel's tool takes. The floor is the same final rules loaded by the tool alone; the peer of a change is what
// kube-proxy does for one (nftables: list the table, then write; iptables: restore the shared chains and the changed ones).
//   bun bench/sync/run.ts [SERVICES,…] [BACKEND,…]       (root: it makes a network namespace)

import { iptablesSaveText } from "../../src/cluster/rules-text.ts";
import { iptables } from "../../src/node/iptables/iptables.ts";
import { listing } from "../../src/node/nftables/listing.ts";
import { nftables } from "../../src/node/nftables/nftables.ts";
import type { Rules, Run, ServiceRules } from "../../src/node/service-rules.ts";
import type { ServicePort } from "../../src/services/service-table.ts";
import { quantile } from "../statistics.ts";

const sizes = (process.argv[2] ?? "1000,5000").split(",").map(Number);
const chosen = (process.argv[3] ?? "nftables,iptables-nft,iptables-legacy").split(",");
const changes = 5;
const namespace = `fl-b-sync${process.pid}`;

const runIn =
  (variant?: string): Run =>
  async ([tool = "", ...rest], stdin) => {
    const name = variant ? tool.replace(/^iptables/, `iptables-${variant}`) : tool;
    const child = Bun.spawn(["ip", "netns", "exec", namespace, name, ...rest], {
      stdin: stdin === undefined ? "ignore" : Buffer.from(stdin),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { code, stdout, stderr };
  };

function row(n: number, last: number): ServicePort {
  const endpoints = [1, last].map((host) => ({
    address: `10.${128 + (n >> 14)}.${(n >> 6) & 255}.${((n & 63) << 2) + host}`,
    port: 8080,
    local: host === 1,
  }));
  return {
    key: `ns/svc-${n}:http/TCP/4`,
    name: `ns/svc-${n}:http`,
    namespace: "ns",
    service: `svc-${n}`,
    family: 4,
    protocol: "TCP",
    port: 80,
    clusterIP: `10.96.${n >> 8}.${n & 255}`,
    externalIPs: [],
    loadBalancerIPs: [],
    sourceRanges: [],
    nodePort: undefined,
    healthCheckNodePort: undefined,
    internalPolicyLocal: false,
    externalPolicyLocal: false,
    affinitySeconds: undefined,
    clusterEndpoints: endpoints,
    localEndpoints: [],
    hasEndpoints: true,
    localReady: 0,
  };
}

const options = { family: 4, localDetector: { kind: "cidr", cidr: "10.128.0.0/9" } } as const;

interface Backend {
  readonly rules: ServiceRules;
  readonly run: Run;
  /** All rules as the tool itself would save them, and the command that loads them. */
  floor(rules: Rules): readonly [argv: readonly string[], text: string];
  /** What kube-proxy runs for one change besides the change itself. */
  readonly besides: (rules: Rules) => readonly [argv: readonly string[], text?: string];
}

function backend(name: string): Backend {
  if (name === "nftables") {
    const run = runIn();
    return {
      run,
      rules: nftables(run, { ...options, serviceCidrs: ["10.96.0.0/12"], nodePortAddresses: ["192.0.2.1"] }),
      floor: (rules) => [["nft", "-f", "-"], listing(4, rules)],
      besides: () => [["nft", "--json", "--terse", "list", "table", "ip", "kube-proxy"]],
    };
  }
  const run = runIn(name.slice("iptables-".length));
  return {
    run,
    rules: iptables(run, { ...options, localhostNodePorts: true }),
    floor: (rules) => [["iptables-restore", "-w", "5"], iptablesSaveText(rules)],
    // kube-proxy writes the shared chains anew with every change.
    besides: (rules) => {
      const services = rules.get("nat/KUBE-SERVICES") ?? [];
      const lines = services.map((line) => `-A KUBE-SERVICES ${line}`);
      return [
        ["iptables-restore", "-w", "5", "--noflush", "--counters"],
        `*nat\n:KUBE-SERVICES - [0:0]\n${lines.join("\n")}\nCOMMIT\n`,
      ];
    },
  };
}

async function timed<T>(work: () => T | Promise<T>): Promise<readonly [number, T]> {
  const start = performance.now();
  const result = await work();
  return [performance.now() - start, result];
}

async function must(run: Run, argv: readonly string[], text?: string): Promise<void> {
  const result = await run(argv, text);
  if (result.code !== 0) throw new Error(`${argv.join(" ")}: ${result.stderr.slice(0, 300)}`);
}

function newNamespace(): void {
  Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
  Bun.spawnSync(["ip", "netns", "add", namespace]);
}

const ms = (value: number) => `${value < 10 ? value.toFixed(2) : value.toFixed(0)} ms`;
const median = (values: readonly number[]) => quantile(values, 0.5);

const version = Bun.spawnSync(["nft", "--version"]).stdout.toString().trim();
const release = (await Bun.file("/proc/sys/kernel/osrelease").text()).trim();
console.log(`${version}, Linux ${release}`);
newNamespace();
try {
  for (const services of sizes) {
    for (const name of chosen) {
      newNamespace();
      const { rules, run, floor, besides } = backend(name);
      const renderer = rules.renderer();
      const rows = Array.from({ length: services }, (_, n) => row(n, 2));
      const [compute, transaction] = await timed(() => {
        renderer.apply(rows.map((after) => ({ key: after.key, before: undefined, after })));
        return rules.difference(new Map(), renderer.rules);
      });
      await rules.read();
      const [kernel] = await timed(() => rules.commit(transaction));
      const one = { compute: [] as number[], kernel: [] as number[], peer: [] as number[] };
      for (let n = 0; n < changes; n++) {
        const at = Math.floor((services / changes) * n);
        const now = new Map(renderer.rules);
        const [spent, change] = await timed(() => {
          const names = renderer.apply([{ key: rows[at]!.key, before: rows[at]!, after: row(at, 3) }]);
          return rules.difference(now, renderer.rules, names);
        });
        one.compute.push(spent);
        one.kernel.push((await timed(() => rules.commit(change)))[0]);
        one.peer.push(one.kernel.at(-1)! + (await timed(() => must(run, ...besides(renderer.rules))))[0]);
      }
      const [argv, text] = floor(renderer.rules);
      newNamespace();
      const [alone] = await timed(() => must(run, argv, text));
      console.log(
        [
          `${name}, ${services} Services of 2 endpoints`,
          `  all:          compute ${ms(compute)}, kernel ${ms(kernel)}; floor ${ms(alone)} (ratio ${((compute + kernel) / alone).toFixed(2)})`,
          `  one endpoint: compute ${ms(median(one.compute))}, kernel ${ms(median(one.kernel))}; as kube-proxy ${ms(median(one.peer))} (ratio ${((median(one.compute) + median(one.kernel)) / median(one.peer)).toFixed(2)})`,
        ].join("\n"),
      );
    }
    console.log(`resident memory of this process: ${(process.memoryUsage.rss() / 2 ** 20).toFixed(0)} MB`);
  }
} finally {
  Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
}
