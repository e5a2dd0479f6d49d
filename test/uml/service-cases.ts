// The cases of `test/e2e/behaviour/` in ipvs mode, for `bun test` inside of User-Mode Linux (`services-scenario.ts` says which).

import { afterAll, beforeAll, describe } from "bun:test";
import { affinityCases } from "../e2e/behaviour/affinity-cases.ts";
import { basicCases } from "../e2e/behaviour/basic-cases.ts";
import { loadBalancerCases } from "../e2e/behaviour/load-balancer-cases.ts";
import { policyCases } from "../e2e/behaviour/policy-cases.ts";
import { ServiceCluster } from "../e2e/behaviour/service-cluster.ts";
import { typeCases } from "../e2e/behaviour/type-cases.ts";
import { rollingCase } from "./rolling-case.ts";

describe("Services [ipvs]", () => {
  const cluster = new ServiceCluster("ipvs");
  beforeAll(() => cluster.begin(), 120_000);
  afterAll(() => cluster.remove(), 60_000);
  for (const cases of [basicCases, typeCases, affinityCases, policyCases, loadBalancerCases, rollingCase])
    cases(cluster);
});
