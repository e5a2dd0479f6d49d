// The real kube-proxy, where one is there (FAIRLEAD_KUBE_PROXY): it follows an API server of ours, and what it writes is what
// Fairlead writes. Without one, what it wrote is compared by `test/kube-proxy/recorded.test.ts`.

import { expect, test } from "bun:test";
import { join } from "node:path";
import { isRoot, run } from "./stack.ts";

const binary = process.env["FAIRLEAD_KUBE_PROXY"];
const skipped = isRoot ? (binary ? undefined : "FAIRLEAD_KUBE_PROXY names no kube-proxy") : "needs root";
if (skipped) console.log(`skipped: comparison with a running kube-proxy: ${skipped}`);

test.skipIf(skipped !== undefined)(
  "a running kube-proxy writes what Fairlead writes, with every set of flags",
  async () => {
    const { out } = await run([process.execPath, join(import.meta.dir, "../kube-proxy/live-compare.ts")]);
    expect(out.split("\n").filter((line) => !line.endsWith(" 0 different"))).toEqual([
      "kube-proxy: nothing differs",
      "",
    ]);
  },
  300_000,
);
