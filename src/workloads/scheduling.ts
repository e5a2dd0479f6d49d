// Which node a pod goes to, as pure functions: nodes that cannot take it are filtered out with upstream's words, the rest is
// ranked by preferences, then by pods of the same owner (spreading), then by all pods. Of kube-scheduler's plugins these are
// NodeUnschedulable, TaintToleration, NodeAffinity, NodePorts, NodeResourcesFit, PodTopologySpread and InterPodAffinity.

import type { Node, NodeSelectorTerm, Pod, Taint, Toleration } from "../api/kinds.ts";
import { type Neighbourhood, neighbours } from "./pod-affinity.ts";
import { type Amounts, allocatable, podRequests } from "./pod-requests.ts";

/** A host port that a pod has or wants. */
export interface HostPortUse {
  readonly protocol: string;
  /** Empty for all addresses of the node. */
  readonly hostIP: string;
  readonly port: number;
}

/** What the scheduler knows of a node. */
export interface NodeLoad {
  readonly node: Node;
  /** Pods bound to it that have not finished. */
  readonly pods: number;
  /** Of these, pods with the same controller as the pod to be placed. */
  readonly siblings: number;
  /** What these pods have asked for. */
  readonly requested: Amounts;
  /** Host ports taken on it. */
  readonly hostPorts: readonly HostPortUse[];
}

export type Placement =
  | { readonly node: string }
  /** `0/3 nodes are available: …`, as kube-scheduler says it. */
  | { readonly unschedulable: string };

/** `prefilter` is what keeps the pod from every node, if anything does. */
export function place(
  pod: Pod,
  nodes: readonly NodeLoad[],
  around: Omit<Neighbourhood, "nodes" | "eligible">,
  prefilter?: string,
): Placement {
  if (nodes.length === 0) return { unschedulable: "no nodes available to schedule pods" };
  const none = `0/${nodes.length} nodes are available:`;
  if (prefilter !== undefined) {
    return { unschedulable: `${none} ${prefilter}. ${preemption(nodes.length, new Map([[prefilter, nodes.length]]))}` };
  }
  const requests = podRequests(pod);
  const ports = hostPortsOf(pod);
  const others = neighbours(pod, {
    ...around,
    nodes: nodes.map(({ node }) => node),
    eligible: (node, { nodeAffinityPolicy = "Honor", nodeTaintsPolicy = "Ignore" }) =>
      (nodeAffinityPolicy === "Ignore" || matchesNode(pod, node)) &&
      (nodeTaintsPolicy === "Ignore" || untolerated(pod, node) === undefined),
  });
  const reasons = new Map<string, number>();
  const fitting = nodes.filter((load) => {
    const own = obstacles(pod, load, requests, ports);
    const found = own.length > 0 ? own : [others.obstacle(load.node) ?? []].flat();
    for (const reason of found) reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
    return found.length === 0;
  });
  const ranks = new Map(fitting.map((load) => [load, preferences(pod, load.node) + others.score(load.node)]));
  const [best] = fitting.sort(
    (a, b) =>
      preferNoSchedule(pod, a.node) - preferNoSchedule(pod, b.node) ||
      ranks.get(b)! - ranks.get(a)! ||
      a.siblings - b.siblings ||
      a.pods - b.pods ||
      (a.node.metadata.name < b.node.metadata.name ? -1 : 1),
  );
  if (best) return { node: best.node.metadata.name };
  const causes = [...reasons].map(([reason, count]) => `${count} ${reason}`).sort();
  return { unschedulable: `${none} ${causes.join(", ")}. ${preemption(nodes.length, reasons)}` };
}

/** What the failed attempt to make room says: nothing is ever evicted for another pod here. */
function preemption(nodes: number, reasons: ReadonlyMap<string, number>): string {
  const helps = /^(Insufficient|Too many pods|.*free ports|.*anti-affinity|.*spread constraints$)/;
  const victims = Math.min(
    nodes,
    [...reasons].filter(([reason]) => helps.test(reason)).reduce((all, [, count]) => Math.max(all, count), 0),
  );
  const parts = [
    ...(victims > 0 ? [`${victims} No preemption victims found for incoming pod`] : []),
    ...(nodes > victims ? [`${nodes - victims} Preemption is not helpful for scheduling`] : []),
  ];
  return `preemption: 0/${nodes} nodes are available: ${parts.join(", ")}.`;
}

/** Why a node itself does not take the pod: the first reason in the order of the plugins, resources all of theirs. */
function obstacles(
  pod: Pod,
  { node, hostPorts, pods, requested }: NodeLoad,
  requests: Amounts,
  ports: readonly HostPortUse[],
): readonly string[] {
  if (node.spec?.unschedulable && !tolerates(pod, unschedulableTaint)) return ["node(s) were unschedulable"];
  const taint = untolerated(pod, node);
  if (taint) return [`node(s) had untolerated taint {${taint.key}: ${taint.value ?? ""}}`];
  const ready = node.status?.conditions?.find((condition) => condition.type === "Ready");
  if (ready?.status !== "True" && !tolerates(pod, notReadyTaint)) return ["node(s) were not ready"];
  if (!matchesNode(pod, node)) return ["node(s) didn't match Pod's node affinity/selector"];
  if (ports.some((port) => hostPorts.some((taken) => conflict(port, taken)))) {
    return ["node(s) didn't have free ports for the requested pod ports"];
  }
  const has = allocatable(node);
  const short = Object.entries(requests)
    .filter(([name, amount]) => amount > 0 && amount > (has[name] ?? 0) - (requested[name] ?? 0))
    .map(([name]) => `Insufficient ${name}`);
  return has["pods"] !== undefined && pods + 1 > has["pods"] ? ["Too many pods", ...short] : short;
}

/** One port of one protocol, on an address in common (framework HostPortInfo.CheckConflict). */
function conflict(a: HostPortUse, b: HostPortUse): boolean {
  const any = (hostIP: string) => hostIP === "" || hostIP === "0.0.0.0" || hostIP === "::";
  return a.port === b.port && a.protocol === b.protocol && (a.hostIP === b.hostIP || any(a.hostIP) || any(b.hostIP));
}

function untolerated(pod: Pod, node: Node): Taint | undefined {
  return node.spec?.taints?.find((one) => one.effect !== "PreferNoSchedule" && !tolerates(pod, one));
}

/** The weights of the preferred node affinity terms that a node matches. */
function preferences(pod: Pod, node: Node): number {
  const terms = pod.spec?.affinity?.nodeAffinity?.preferredDuringSchedulingIgnoredDuringExecution ?? [];
  return terms
    .filter(({ preference }) => matchesTerm(preference, node))
    .reduce((weight, one) => weight + one.weight, 0);
}

const unschedulableTaint: Taint = { key: "node.kubernetes.io/unschedulable", effect: "NoSchedule" };
const notReadyTaint: Taint = { key: "node.kubernetes.io/not-ready", effect: "NoSchedule" };

function preferNoSchedule(pod: Pod, node: Node): number {
  return (node.spec?.taints ?? []).filter((taint) => taint.effect === "PreferNoSchedule" && !tolerates(pod, taint))
    .length;
}

/** Whether one of the pod's tolerations takes the taint (core/v1 Toleration.ToleratesTaint). */
export function tolerates(pod: Pod, taint: Taint): boolean {
  return (pod.spec?.tolerations ?? []).some((one) => toleratesTaint(one, taint));
}

export function toleratesTaint(one: Toleration, taint: Taint): boolean {
  return (
    (!one.effect || one.effect === taint.effect) &&
    (!one.key ? one.operator === "Exists" : one.key === taint.key) &&
    (one.operator === "Exists" || (one.value ?? "") === (taint.value ?? ""))
  );
}

/** nodeSelector, and the required terms of node affinity: the node must match one of them. */
export function matchesNode(pod: Pod, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  for (const [key, value] of Object.entries(pod.spec?.nodeSelector ?? {})) if (labels[key] !== value) return false;
  const terms = pod.spec?.affinity?.nodeAffinity?.requiredDuringSchedulingIgnoredDuringExecution?.nodeSelectorTerms;
  if (!terms) return true;
  return terms.some((term) => matchesTerm(term, node));
}

function matchesTerm(term: NodeSelectorTerm, node: Node): boolean {
  const labels = node.metadata.labels ?? {};
  return (
    ((term.matchExpressions?.length ?? 0) > 0 || (term.matchFields?.length ?? 0) > 0) &&
    (term.matchExpressions ?? []).every((one) => matchesExpression(one, labels[one.key])) &&
    (term.matchFields ?? []).every((one) => one.key === "metadata.name" && matchesExpression(one, node.metadata.name))
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

/** The host ports a pod asks for; those of a pod on the node's network are all its ports. */
export function hostPortsOf(pod: Pod): readonly HostPortUse[] {
  const sidecars = (pod.spec?.initContainers ?? []).filter(({ restartPolicy }) => restartPolicy === "Always");
  return [...(pod.spec?.containers ?? []), ...sidecars]
    .flatMap((container) => container.ports ?? [])
    .filter((port) => port.hostPort !== undefined && port.hostPort > 0)
    .map(({ protocol = "TCP", hostIP = "", hostPort }) => ({ protocol, hostIP, port: hostPort! }));
}
