import { expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import { silentLogger } from "../base/log.ts";
import { Graph } from "../collections/graph.ts";
import { source } from "../collections/source.ts";
import { followServiceRanges } from "./service-ranges.ts";

test("rules and machine are told of the stack's ranges and of ServiceCIDRs while they are there", async () => {
  const serviceCidrs = source<KubeObject>("service cidrs", { graph: new Graph() });
  const told: string[] = [];
  const led: string[] = [];
  const ranges = followServiceRanges({
    serviceCidrs,
    own: ["10.96.0.0/16", "fd00:96::/112"],
    network: {
      async routeServices(all) {
        led.push(all.join());
        if (led.length === 2) throw new Error("ip is away");
        return [];
      },
    },
    changed: (all) => told.push(all.join()),
    log: silentLogger,
  });
  const cidr = (name: string, cidrs: readonly string[]): KubeObject => ({
    apiVersion: "networking.k8s.io/v1",
    kind: "ServiceCIDR",
    metadata: { name },
    spec: { cidrs },
  });
  serviceCidrs.set("kubernetes", cidr("kubernetes", ["10.96.0.0/16", "fd00:96::/112"]));
  serviceCidrs.set("more", cidr("more", ["10.60.0.0/24"]));
  expect(ranges.now()).toEqual(["10.96.0.0/16", "fd00:96::/112", "10.60.0.0/24"]);
  serviceCidrs.delete("more");
  await ranges.settled();
  const own = "10.96.0.0/16,fd00:96::/112";
  expect(told).toEqual([own, own, `${own},10.60.0.0/24`, own]);
  expect(led.at(-1)).toBe(own);
  ranges.dispose();
});
