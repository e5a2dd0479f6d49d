// The real kube-proxy (FAIRLEAD_KUBE_PROXY) with the same Services, from an API server of ours, in the network namespace that this
// is started in: its own measures of all rules and of one changed endpoint, as a line of JSON. `run.ts` starts it.

import { mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Metrics, startCluster } from "../../test/kube-proxy/live.ts";
import { nodeObject, podRange, type Size, serviceNumber, serviceRange } from "./objects.ts";

/** Milliseconds, and MiB. */
export interface PeerResult {
  readonly full: number;
  readonly one: readonly number[];
  readonly resident: number;
}

const changes = 5;

async function measure(path: string, name: string, size: Size): Promise<PeerResult> {
  // kube-proxy takes whatever `iptables` it finds first.
  const tools = mkdtempSync(join(tmpdir(), "fl-b-tools-"));
  const variant = /^iptables-(.*)$/.exec(name)?.[1];
  if (variant) {
    for (const tool of ["iptables", "ip6tables"]) {
      for (const verb of ["", "-save", "-restore"]) {
        symlinkSync(Bun.which(`${tool}-${variant}${verb}`)!, join(tools, `${tool}${verb}`));
      }
    }
    process.env["PATH"] = `${tools}:${process.env["PATH"]}`;
  }
  const services = Array.from({ length: size.services }, (_, n) => serviceNumber(n, size));
  const cluster = await startCluster([
    nodeObject(),
    {
      apiVersion: "networking.k8s.io/v1",
      kind: "ServiceCIDR",
      metadata: { name: "kubernetes" },
      spec: { cidrs: [serviceRange] },
    },
    ...services.flatMap(({ service, slices }) => [service, ...slices]),
  ]);
  const proxy = await cluster.start(path, variant ? "iptables" : name, [
    `--cluster-cidr=${podRange}`,
    // A change is not held back for the ones after it.
    ...["--iptables-min-sync-period=0s", "--ipvs-min-sync-period=0s"],
  ]);
  try {
    await proxy.settled();
    const [sum, count] = syncs(await proxy.metrics(), "sync_full_proxy_rules_duration_seconds");
    const one: number[] = [];
    for (let n = 0; n < changes; n++) {
      const at = Math.floor((size.services / changes) * n);
      const before = syncs(await proxy.metrics());
      const next = serviceNumber(at, size, n + 1).slices;
      const was = serviceNumber(at, size, n).slices;
      for (const [index, slice] of next.entries()) {
        if (size.services > 1 || !Bun.deepEquals(slice.endpoints, was[index]!.endpoints)) await cluster.replace(slice);
      }
      for (;;) {
        const [total, times] = syncs(await proxy.metrics());
        if (times > before[1]) {
          one.push((1000 * (total - before[0])) / (times - before[1]));
          break;
        }
        await Bun.sleep(5);
      }
      // The next one begins at rest.
      await Bun.sleep(1200);
    }
    const status = await Bun.file(`/proc/${proxy.pid}/status`).text();
    return {
      full: (1000 * sum) / count,
      one,
      resident: Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024,
    };
  } finally {
    await proxy.stop();
    await cluster.stop();
    rmSync(tools, { recursive: true, force: true });
  }
}

/** Seconds spent in syncs of IPv4, and their number. */
function syncs(metrics: Metrics, metric = "sync_proxy_rules_duration_seconds"): readonly [sum: number, count: number] {
  const of = (what: string) => metrics.get(`${metric}_${what}{ip_family="IPv4"}`) ?? 0;
  return [of("sum"), of("count")];
}

const [path, name, services, endpoints] = process.argv.slice(2);
console.log(JSON.stringify(await measure(path!, name!, { services: Number(services), endpoints: Number(endpoints) })));
process.exit(0);
