// Services as upstream's e2e tests have them (kubernetes/kubernetes test/e2e/network/service.go and loadbalancer.go), on a stack of
// three nodes in each kernel mode, and in userspace mode
// where that has a meaning. The cases are in the files beside this one.

import { afterAll, beforeAll, describe } from "bun:test";
import { isRoot } from "../stack.ts";
import { affinityCases } from "./affinity-cases.ts";
import { basicCases } from "./basic-cases.ts";
import { loadBalancerCases } from "./load-balancer-cases.ts";
import { policyCases } from "./policy-cases.ts";
import { ServiceCluster } from "./service-cluster.ts";
import { typeCases } from "./type-cases.ts";

if (!isRoot) console.log("skipped: Services on a stack: network namespaces need root");

const everything = [basicCases, typeCases, affinityCases, policyCases, loadBalancerCases];

for (const mode of ["iptables", "nftables"]) {
  describe.skipIf(!isRoot)(`Services [${mode}]`, () => {
    const cluster = new ServiceCluster(mode);
    beforeAll(() => cluster.begin(), 60_000);
    afterAll(() => cluster.remove(), 30_000);
    for (const cases of everything) cases(cluster);
  });
}

/** What userspace mode cannot have: clients of their own address, names, Local policies of other nodes, addresses beyond 127/8. */
const senseless = [
  ...["source pod IP", "the type from ClusterIP", "the type from NodePort", "the type from ExternalName"],
  ...["ExternalIP", "rejected when no endpoints", "Local", "health check node port", "externalTrafficPolicy, and keep"],
  ...[
    "only target nodes",
    "SourceRanges",
    "work from pods",
    "a LoadBalancer service on",
    "ipMode",
    "without node ports",
  ],
];

describe("Services [userspace]", () => {
  const cluster = new ServiceCluster("userspace", (title) => !senseless.some((words) => title.includes(words)));
  beforeAll(() => cluster.begin(), 60_000);
  afterAll(() => cluster.remove(), 30_000);
  for (const cases of everything) cases(cluster);
});
