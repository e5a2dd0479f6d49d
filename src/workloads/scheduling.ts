// Which node a pod goes to, as pure functions: nodes that cannot take it are filtered out with upstream's words, the rest is
// ranked by pods of the same owner (spreading), then by all pods. Of kube-scheduler's plugins these are NodeName,
// NodeUnschedulable, NodeAffinity (selector and required terms), TaintToleration and NodePorts; resources are not counted.

import type { Node, Pod, Taint, Toleration } from "../api/kinds.ts";

/** What the scheduler knows of a node. */
export interface NodeLoad {
  readonly node: Node;
  /** Pods bound to it that have not finished. */
  readonly pods: number;
  /** Of these, pods with the same controller as the pod to be placed. */
  readonly siblings: number;
  /** Host ports taken on it, as `TCP/8080`. */
  readonly hostPorts: readonly string[];
}

export type Placement =
  | { readonly node: string }
  /** `0/3 nodes are available: …`, as kube-scheduler says it. */
  | { readonly unschedulable: string };

export function place(pod: Pod, nodes: readonly NodeLoad[]): Placement {
  const reasons = new Map<string, number>();
  const fitting = nodes.filter((load) => {
    const reason = obstacle(pod, load);
    if (reason !== undefined) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    return reason === undefined;
  });
  const [best] = fitting.sort(
    (a, b) =>
      preferNoSchedule(pod, a.node) - preferNoSchedule(pod, b.node) ||
      a.siblings - b.siblings ||
      a.pods - b.pods ||
      (a.node.metadata.name < b.node.metadata.name ? -1 : 1),
  );
  if (best) return { node: best.node.metadata.name };
  if (nodes.length === 0) return { unschedulable: "no nodes available to schedule pods" };
  const causes = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
  return { unschedulable: `0/${nodes.length} nodes are available: ${causes.join(", ")}.` };
}

function obstacle(pod: Pod, { node, hostPorts }: NodeLoad): string | undefined {
  if (node.spec?.unschedulable && !tolerates(pod, unschedulableTaint)) return "node(s) were unschedulable";
  const ready = node.status?.conditions?.find((condition) => condition.type === "Ready");
  if (ready?.status !== "True") return "node(s) were not ready";
  const taint = node.spec?.taints?.find((one) => one.effect !== "PreferNoSchedule" && !tolerates(pod, one));
  if (taint) return `node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`;
  if (!matchesNode(pod, node)) return "node(s) didn't match Pod's node affinity/selector";
  if (hostPortsOf(pod).some((port) => hostPorts.includes(port))) {
    return "node(s) didn't have free ports for the requested pod ports";
  }
  return undefined;
}

const unschedulableTaint: Taint = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };

function preferNoSchedule(pod: Pod, node: Node): number {
  return (node.spec?.taints ?? []).filter((taint) => taint.effect === "PreferNoSchedule" && !tolerates(pod, taint))
    .length;
}

/** Whether one of the pod's tolerations takes the taint (core/v1 Toleration.ToleratesTaint). */
export function tolerates(pod: Pod, taint: Taint): boolean {
  return (pod.spec?.tolerations ?? []).some(
    (one: Toleration) =>
      (!one.effect || one.effect === taint.effect) &&
      (!one.key ? one.operator === "Exists" : one.key === taint.key) &&
      (one.operator === "Exists" || (one.value ?? "") === (taint.value ?? "")),
  );
}

/** nodeSelector, and the required terms of node affinity: the node must match one of them. */
export function matchesNode(pod: Pod, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(pod.spec?.nodeSelector ?? {})) if (labels[key] !== value) return false;
  const terms = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (!terms) return true;
  return terms.some(
    (term) =>
      ((term.matchExpressions?.length ?? 0) > 0 || (term.matchFields?.length ?? 0) > 0) &&
      (term.matchExpressions ?? []).every((one) => matchesExpression(one, labels[one.key])) &&
      (term.matchFields ?? []).every(
        (one) => one.key === "metadata.name" && matchesExpression(one, node.metadata.name),
      ),
  );
}

interface Expression {
  readonly key: string;
  readonly operator: string;
  readonly values?: readonly string[];
}

function matchesExpression({ operator, values = [] }: Expression, value: string | undefined): boolean {
  switch (operator) {
    case "In":
      return value !== undefined && values.includes(value);
    case "NotIn":
      return value === undefined || !values.includes(value);
    case "Exists":
      return value !== undefined;
    case "DoesNotExist":
      return value === undefined;
    case "Gt":
      return value !== undefined && Number(value) > Number(values[0]);
    case "Lt":
      return value !== undefined && Number(value) < Number(values[0]);
    default:
      return false;
  }
}

/** The host ports a pod asks for, as `TCP/8080`. */
export function hostPortsOf(pod: Pod): readonly string[] {
  return (pod.spec?.containers ?? [])
    .flatMap((container) => container.ports ?? [])
    .filter((port) => port.hostPort !== undefined && port.hostPort > 0)
    .map((port) => `${port.protocol ?? "TCP"}/${port.hostPort}`);
}
