// Taints that follow from a node's state: not ready, not answering, under pressure, cordoned. Upstream:
// pkg/controller/nodelifecycle (taintNodeByCondition, processTaintBaseEviction). Nodes of a stack live with its control process, so
// that no lease runs out here: a condition is what somebody wrote.

import { semanticEqual } from "../api/data.ts";
import { type Node, Nodes, type Taint } from "../api/kinds.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { startController } from "./controller.ts";
import { eachChange, type Objects } from "./objects.ts";

const prefix = "node.kubernetes.io/";

/** Which status of a condition makes which taint. */
const byCondition: readonly (readonly [condition: string, status: string, taint: string])[] = [
  ["Ready", "False", "not-ready"],
  ["Ready", "Unknown", "unreachable"],
  ["MemoryPressure", "True", "memory-pressure"],
  ["DiskPressure", "True", "disk-pressure"],
  ["PIDPressure", "True", "pid-pressure"],
  ["NetworkUnavailable", "True", "network-unavailable"],
];
const evicting = new Set(["not-ready", "unreachable"]);
const own = new Set([...byCondition.map(([, , taint]) => prefix + taint), `${prefix}unschedulable`]);

/** The taints that a node should have; those of others stay. `now` in milliseconds. */
export function taintsOf(node: Node, now: number): readonly Taint[] {
  const before = node.spec?.taints ?? [];
  const wanted: Taint[] = [];
  const add = (key: string, effect: Taint["effect"]) => {
    const old = before.find((one) => one.key === key && one.effect === effect);
    wanted.push(old ?? { key, effect, timeAdded: formatTime(now) });
  };
  if (node.spec?.unschedulable) add(`${prefix}unschedulable`, "NoSchedule");
  for (const [type, status, taint] of byCondition) {
    if (!node.status?.conditions?.some((one) => one.type === type && one.status === status)) continue;
    add(prefix + taint, "NoSchedule");
    if (evicting.has(taint)) add(prefix + taint, "NoExecute");
  }
  const kept = before.filter(
    ({ key, effect }) => !own.has(key) || !(effect === "NoSchedule" || effect === "NoExecute"),
  );
  return [...kept, ...wanted];
}

export function startNodeTaints(objects: Objects): Disposable {
  const nodes = objects.of(Nodes);
  const controller = startController({
    name: "node-taints",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const node = nodes.get(key) as Node | undefined;
      if (!node) return;
      const taints = taintsOf(node, objects.clock.now());
      if (semanticEqual(taints, node.spec?.taints ?? [])) return;
      const { taints: _before, ...spec } = node.spec ?? {};
      await objects.update(Nodes, { ...node, spec: { ...spec, ...(taints.length > 0 ? { taints } : {}) } });
    },
  });
  return disposeAll([controller, eachChange(nodes, (_node, { key }) => controller.enqueue(key))]);
}
