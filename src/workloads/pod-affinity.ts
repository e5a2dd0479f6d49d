// Where pods want to be, or not to be, because of other pods: kube-scheduler's InterPodAffinity and PodTopologySpread plugins. Both
// count pods that a selector takes in each topology domain (all nodes with one value of a label). Pure.

import type { LabelSelector, Node, Pod, PodAffinityTerm, TopologySpreadConstraint } from "../api/kinds.ts";
import { type Labels, matchesLabelSelector } from "../api/selectors.ts";

/** A pod that has a node, as others see it. */
export interface PlacedPod {
  readonly namespace: string;
  readonly labels: Labels;
  readonly node: string;
  readonly leaving: boolean;
  /** Its own required anti-affinity, which others have to respect. */
  readonly avoids: readonly PodAffinityTerm[];
}

export interface Neighbourhood {
  readonly nodes: readonly Node[];
  /** All pods that have a node; asked for only when somebody's terms need them. */
  readonly placed: () => readonly PlacedPod[];
  /** Those of them that avoid others. */
  readonly avoiding: readonly PlacedPod[];
  readonly namespaceLabels: (namespace: string) => Labels | undefined;
  /** Whether the pod could go to the node as far as selectors say: such nodes make the domains of a spread. */
  readonly eligible: (node: Node, constraint: TopologySpreadConstraint) => boolean;
}

const affinityFailed = "node(s) didn't match pod affinity rules";
const antiAffinityFailed = "node(s) didn't match pod anti-affinity rules";
const existingFailed = "node(s) didn't satisfy existing pods anti-affinity rules";
const spreadFailed = "node(s) didn't match pod topology spread constraints";

export interface Neighbours {
  /** Why the pod cannot go to a node, in kube-scheduler's words. */
  obstacle(node: Node): string | undefined;
  /** What its preferences make of a node; more is better. */
  score(node: Node): number;
}

/** Looks at a pod's neighbours once, for all nodes. */
export function neighbours(pod: Pod, around: Neighbourhood): Neighbours {
  const { podAffinity, podAntiAffinity } = pod.spec?.affinity ?? {};
  const required = "requiredDuringSchedulingIgnoredDuringExecution";
  const preferred = "preferredDuringSchedulingIgnoredDuringExecution";
  const near = (podAffinity?.[required] ?? []).map((term) => domains(pod, term, around));
  const apart = (podAntiAffinity?.[required] ?? []).map((term) => domains(pod, term, around));
  const wishes = [
    ...(podAffinity?.[preferred] ?? []).map((one) => ({ one, sign: 1 })),
    ...(podAntiAffinity?.[preferred] ?? []).map((one) => ({ one, sign: -1 })),
  ].map(({ one, sign }) => ({ weight: sign * one.weight, found: domains(pod, one.podAffinityTerm, around) }));
  const spreads = (pod.spec?.topologySpreadConstraints ?? []).map((constraint) => spread(pod, constraint, around));
  const existing = avoided(pod, around);
  // The first of a group that wants to be together may go anywhere.
  const first =
    near.every(({ counts }) => counts.size === 0) &&
    (podAffinity?.[required] ?? []).every((term) => takes(pod, term, self(pod), around));

  return {
    obstacle(node) {
      for (const one of spreads.filter(({ hard }) => hard)) {
        const value = node.metadata.labels?.[one.key];
        if (value === undefined) return `${spreadFailed} (missing required label)`;
        if ((one.counts.get(value) ?? 0) + one.own - one.least > one.maxSkew) return spreadFailed;
      }
      for (const { key, counts } of near) {
        const value = node.metadata.labels?.[key];
        if (value === undefined || (!first && !counts.has(value))) return affinityFailed;
      }
      if (apart.some(({ key, counts }) => counts.has(node.metadata.labels?.[key] ?? ""))) return antiAffinityFailed;
      if (existing.some(({ key, value }) => node.metadata.labels?.[key] === value)) return existingFailed;
      return undefined;
    },
    score(node) {
      const value = (key: string) => node.metadata.labels?.[key] ?? "";
      const wished = wishes.map(({ weight, found }) => weight * (found.counts.get(value(found.key)) ?? 0));
      const spreading = spreads.filter(({ hard }) => !hard).map((one) => -(one.counts.get(value(one.key)) ?? 0));
      return [...wished, ...spreading].reduce((all, one) => all + one, 0);
    },
  };
}

interface Domains {
  readonly key: string;
  /** Pods by the value of the topology key; no entry where there is none. */
  readonly counts: ReadonlyMap<string, number>;
}

function domains(pod: Pod, term: PodAffinityTerm, around: Neighbourhood): Domains {
  const matching = around.placed().filter((other) => takes(pod, term, other, around));
  return { key: term.topologyKey, counts: count(matching, term.topologyKey, around.nodes) };
}

function count(pods: readonly PlacedPod[], key: string, nodes: readonly Node[]): ReadonlyMap<string, number> {
  const values = new Map(nodes.map(({ metadata }) => [metadata.name, metadata.labels?.[key]]));
  const counts = new Map<string, number>();
  for (const { node } of pods) {
    const value = values.get(node);
    if (value !== undefined) counts.set(value, (counts.get(value) ?? 0) + 1);
  }
  return counts;
}

/** The topology domains that pods which are there keep this one out of. */
function avoided(pod: Pod, around: Neighbourhood): readonly { readonly key: string; readonly value: string }[] {
  return around.avoiding.flatMap((other) => {
    const node = around.nodes.find(({ metadata }) => metadata.name === other.node);
    return other.avoids.flatMap((term) => {
      const value = node?.metadata.labels?.[term.topologyKey];
      const owner = { metadata: { namespace: other.namespace, labels: other.labels } };
      return value !== undefined && takes(owner, term, self(pod), around) ? [{ key: term.topologyKey, value }] : [];
    });
  });
}

type Labelled = { readonly metadata: { readonly namespace?: string; readonly labels?: Labels } };

/** Whether a term of `owner` takes `other`: its namespaces, its selector, and the labels that both must (not) share. */
function takes(
  owner: Labelled,
  term: PodAffinityTerm,
  other: Pick<PlacedPod, "namespace" | "labels">,
  { namespaceLabels }: Neighbourhood,
): boolean {
  const { namespaces = [], namespaceSelector, labelSelector } = term;
  const own = namespaces.length === 0 && namespaceSelector === undefined;
  const selected =
    namespaceSelector !== undefined && matchesLabelSelector(namespaceSelector, namespaceLabels(other.namespace) ?? {});
  const inside = own
    ? other.namespace === (owner.metadata.namespace ?? "default")
    : namespaces.includes(other.namespace);
  if (!inside && !selected) return false;
  if (!selects(labelSelector, other.labels)) return false;
  const mine = owner.metadata.labels ?? {};
  return (
    (term.matchLabelKeys ?? []).every((key) => !(key in mine) || other.labels[key] === mine[key]) &&
    (term.mismatchLabelKeys ?? []).every((key) => !(key in mine) || other.labels[key] !== mine[key])
  );
}

/** An absent selector takes nothing; an empty one everything. */
function selects(selector: LabelSelector | undefined, labels: Labels): boolean {
  return selector !== undefined && matchesLabelSelector(selector, labels);
}

function self(pod: Pod): Pick<PlacedPod, "namespace" | "labels"> {
  return { namespace: pod.metadata.namespace ?? "default", labels: pod.metadata.labels ?? {} };
}

interface Spread extends Domains {
  readonly hard: boolean;
  readonly maxSkew: number;
  /** The fewest in a domain; 0 while there are fewer domains than there have to be. */
  readonly least: number;
  /** 1 when the pod itself is one of those that are spread. */
  readonly own: number;
}

function spread(pod: Pod, constraint: TopologySpreadConstraint, around: Neighbourhood): Spread {
  const { topologyKey: key, labelSelector, matchLabelKeys = [], maxSkew, minDomains = 1 } = constraint;
  const { namespace, labels } = self(pod);
  const chosen = (other: Pick<PlacedPod, "namespace" | "labels">) =>
    other.namespace === namespace &&
    selects(labelSelector, other.labels) &&
    matchLabelKeys.every((one) => !(one in labels) || other.labels[one] === labels[one]);
  const nodes = around.nodes.filter((node) => around.eligible(node, constraint));
  const matching = around.placed().filter((other) => !other.leaving && chosen(other));
  const counts = new Map(count(matching, key, nodes));
  for (const { metadata } of nodes) {
    const value = metadata.labels?.[key];
    if (value !== undefined && !counts.has(value)) counts.set(value, 0);
  }
  const least = counts.size < minDomains ? 0 : Math.min(...counts.values(), Number.POSITIVE_INFINITY);
  return {
    ...{ key, counts, maxSkew, hard: constraint.whenUnsatisfiable === "DoNotSchedule" },
    ...{ least: Number.isFinite(least) ? least : 0, own: chosen(self(pod)) ? 1 : 0 },
  };
}
