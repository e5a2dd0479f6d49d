// Services as upstream's e2e tests have them (kubernetes/kubernetes test/e2e/network/service.go and loadbalancer.go), on a stack of
// three nodes in each kernel mode. The cases are in the files beside this one.

import { afterAll, beforeAll, describe } from "bun:test";
import { isRoot } from "../stack.ts";
import { affinityCases } from "./affinity-cases.ts";
import { basicCases } from "./basic-cases.ts";
import { loadBalancerCases } from "./load-balancer-cases.ts";
import { policyCases } from "./policy-cases.ts";
import { ServiceCluster } from "./service-cluster.ts";
import { typeCases } from "./type-cases.ts";

if (!isRoot) console.log("skipped: Services on a stack: network namespaces need root");

for (const mode of ["iptables", "nftables"]) {
  describe.skipIf(!isRoot)(`Services [${mode}]`, () => {
    const cluster = new ServiceCluster(mode);
    beforeAll(() => cluster.begin(), 60_000);
    afterAll(() => cluster.remove(), 30_000);
    for (const cases of [basicCases, typeCases, affinityCases, policyCases, loadBalancerCases]) cases(cluster);
  });
}
