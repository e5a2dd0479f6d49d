// One backend with one size, in a process of its own and in the network namespace that it is started in: prints what it
// measured as a line of JSON. `run.ts` starts it.

import { systemClock } from "../../src/base/clock.ts";
import { silentLogger } from "../../src/base/log.ts";
import { iptablesSaveText } from "../../src/cluster/rules-text.ts";
import { iptables } from "../../src/node/iptables/iptables.ts";
import { ipvs } from "../../src/node/ipvs/ipvs.ts";
import { listing } from "../../src/node/nftables/listing.ts";
import { nftables } from "../../src/node/nftables/nftables.ts";
import type { Rules, Run, ServiceRules } from "../../src/node/service-rules.ts";
import { movedOn, node, podRange, rowsOf, type Size, serviceNumber, serviceRange } from "./objects.ts";

/** Times are in milliseconds, sizes in MiB. */
export interface CaseResult {
  readonly full: { readonly compute: number; readonly kernel: number };
  readonly one: { readonly compute: readonly number[]; readonly kernel: readonly number[] };
  /** What a change costs beside itself in the way that kube-proxy makes it; absent where that is not modelled. */
  readonly besides?: readonly number[];
  readonly rules: number;
  readonly resident: number;
  readonly most: number;
}

const changes = 5;

const run: Run = async ([tool = "", ...rest], stdin) => {
  const child = Bun.spawn([toolName(tool), ...rest], {
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

let variant = "";
/** The variant of iptables that is asked for, whatever the host's `iptables` is. */
function toolName(tool: string): string {
  return variant === "" ? tool : tool.replace(/^iptables/, `iptables-${variant}`);
}

const options = { family: 4, localDetector: { kind: "cidr", cidr: podRange }, nodeAddress: node.address } as const;

function backend(name: string): ServiceRules {
  if (name === "nftables") {
    return nftables(run, { ...options, serviceCidrs: [serviceRange], nodePortAddresses: [node.address] });
  }
  if (name === "ipvs") {
    return ipvs(run, { ...options, nodeAddresses: [node.address] }, { clock: systemClock, log: silentLogger });
  }
  variant = name.slice("iptables-".length);
  return iptables(run, { ...options, localhostNodePorts: true });
}

/** The final rules as the tool itself would save them. */
export function floorText(name: string, rules: Rules): string | undefined {
  if (name === "nftables") return listing(4, rules);
  return name === "ipvs" ? undefined : iptablesSaveText(rules);
}

/** What kube-proxy runs for a change beside the change: nftables lists the table, iptables writes the shared chains anew. */
function besides(name: string, rules: Rules): readonly [argv: readonly string[], text?: string] | undefined {
  if (name === "nftables") return [["nft", "--json", "--terse", "list", "table", "ip", "kube-proxy"]];
  if (name === "ipvs") return undefined;
  const lines = (rules.get("nat/KUBE-SERVICES") ?? []).map((line) => `-A KUBE-SERVICES ${line}\n`);
  return [
    ["iptables-restore", "-w", "5", "--noflush", "--counters"],
    `*nat\n:KUBE-SERVICES - [0:0]\n${lines.join("")}COMMIT\n`,
  ];
}

async function timed<T>(work: () => T | Promise<T>): Promise<readonly [number, T]> {
  const start = performance.now();
  const result = await work();
  return [performance.now() - start, result];
}

/** Runs the case; `floorFile` receives the final rules. */
export async function measure(name: string, size: Size, floorFile?: string): Promise<CaseResult> {
  const rules = backend(name);
  const renderer = rules.renderer();
  const all = Array.from({ length: size.services }, (_, n) => serviceNumber(n, size));
  const now = new Map(await rules.read());
  const [compute, transaction] = await timed(() => {
    renderer.apply(all.flatMap(rowsOf).map((after) => ({ key: after.key, before: undefined, after })));
    return rules.difference(now, renderer.rules);
  });
  const [kernel] = await timed(() => rules.commit(transaction));
  const one = { compute: [] as number[], kernel: [] as number[] };
  const beside: number[] = [];
  for (let n = 0; n < changes; n++) {
    const at = Math.floor((size.services / changes) * n);
    const before = rowsOf(all[at]!)[0]!;
    all[at] = movedOn(all[at]!, serviceNumber(at, size, n + 1));
    const was = new Map(renderer.rules);
    const [spent, change] = await timed(() => {
      const after = rowsOf(all[at]!)[0]!;
      return rules.difference(was, renderer.rules, renderer.apply([{ key: after.key, before, after }]));
    });
    one.compute.push(spent);
    one.kernel.push((await timed(() => rules.commit(change)))[0]);
    const more = besides(name, renderer.rules);
    if (!more) continue;
    const [took, { code, stderr }] = await timed(() => run(...more));
    if (code !== 0) throw new Error(`${more[0].join(" ")}: ${stderr.slice(0, 300)}`);
    beside.push(took);
  }
  const floor = floorFile && floorText(name, renderer.rules);
  if (floor) await Bun.write(floorFile, floor);
  const status = await Bun.file("/proc/self/status").text();
  const kilobytes = (field: string) => Number(new RegExp(`^${field}:\\s+(\\d+)`, "m").exec(status)?.[1]);
  return {
    full: { compute, kernel },
    one,
    ...(beside.length > 0 ? { besides: beside } : {}),
    rules: [...renderer.rules.values()].reduce((sum, lines) => sum + lines.length, 0),
    resident: kilobytes("VmRSS") / 1024,
    most: kilobytes("VmHWM") / 1024,
  };
}

if (import.meta.main) {
  const [name, services, endpoints, floorFile] = process.argv.slice(2);
  const size = { services: Number(services), endpoints: Number(endpoints) };
  console.log(JSON.stringify(await measure(name!, size, floorFile)));
  process.exit(0);
}
