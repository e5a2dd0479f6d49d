// What a write may touch: metadata that only the server sets, status against spec per subresource, generations, generated
// names, and what a new object of a kind starts with. Follows the registry strategies of kube-apiserver 1.36
// (pkg/registry/*/strategy.go, apiserver registry/rest); values themselves are filled in by `defaults.ts`.

import { equal, isEmpty, isRecord, semanticEqual, withValueAt } from "./data.ts";
import type { KubeObject, ObjectMeta } from "./object.ts";
import { type Resource, resourceKey } from "./resource.ts";
import type { Scheme } from "./scheme.ts";
import { normalizeService, serviceUpdate } from "./service-strategy.ts";
import { defaultBySchema } from "./structural-defaults.ts";

export interface CreateContext {
  /** Milliseconds since the Unix epoch. */
  readonly now: number;
  readonly uid: string;
  /** The namespace of the request; undefined for cluster resources. */
  readonly namespace: string | undefined;
  /** A number in [0, 1) for generated names; replaced in tests. */
  readonly random?: () => number;
}

export interface UpdateContext {
  /** `status`, `scale`, `finalize`, … ; undefined for the object itself. */
  readonly subresource?: string | undefined;
}

/** A time as the API prints it: RFC 3339, UTC, whole seconds. */
export function formatTime(milliseconds: number): string {
  return `${new Date(milliseconds).toISOString().slice(0, 19)}Z`;
}

const nameAlphabet = "bcdfghjklmnpqrstvwxz2456789"; // apimachinery util/rand: no vowels, no 0, 1, 3
const maxGeneratedBase = 63 - 5;

/** `base` and five random characters (apiserver storage/names SimpleNameGenerator). */
export function generateName(base: string, random: () => number = Math.random): string {
  let suffix = "";
  for (let index = 0; index < 5; index++) suffix += nameAlphabet[Math.floor(random() * nameAlphabet.length)];
  return base.slice(0, maxGeneratedBase) + suffix;
}

/** An object as it is before validation of a create. It keeps what the user may say and loses what only the server says. */
export function prepareCreate(
  scheme: Scheme,
  resource: Resource,
  object: KubeObject,
  context: CreateContext,
): KubeObject {
  const given: Partial<ObjectMeta> = object.metadata ?? {};
  const {
    resourceVersion: _version,
    deletionTimestamp: _deletion,
    deletionGracePeriodSeconds: _grace,
    generation: _generation,
    namespace: _namespace,
    ...kept
  } = given;
  const { selfLink: _link, ...rest } = kept as Record<string, unknown>;
  const name = given.name || (given.generateName ? generateName(given.generateName, context.random) : "");
  const metadata = {
    ...rest,
    ...(name ? { name } : {}),
    ...(resource.scope === "Namespaced" && context.namespace ? { namespace: context.namespace } : {}),
    uid: context.uid,
    creationTimestamp: formatTime(context.now),
    ...(hasGeneration(scheme, resource) ? { generation: 1 } : {}),
  } as unknown as ObjectMeta;
  let next: KubeObject = { ...object, metadata };
  if (resource.subresources?.includes("status") && !keepsStatusOnCreate.has(resourceKey(resource))) {
    const entry = scheme.entry(resource);
    // A custom resource's status may have a default, which then is what its owner has not reported yet.
    next = entry.custom
      ? (defaultBySchema(without(next, "status"), entry.schema, true) as KubeObject)
      : { ...next, status: {} };
  }
  return startOf[resourceKey(resource)]?.(next) ?? next;
}

/**
 * An object as it is before validation of an update: server-set metadata as it was, status as it was (or, for the status
 * subresource, everything else as it was), and the generation raised when what the user wants has changed. The
 * resourceVersion of `object` is left for the store to check.
 */
export function prepareUpdate(
  scheme: Scheme,
  resource: Resource,
  object: KubeObject,
  old: KubeObject,
  context: UpdateContext = {},
): KubeObject {
  const custom = scheme.entry(resource).custom;
  const hasStatus = resource.subresources?.includes("status") ?? false;
  let next: KubeObject = { ...object, metadata: keptMetadata(object.metadata, old.metadata) };
  if (context.subresource === "status") next = onlyStatus(next, old, custom, resource);
  else if (context.subresource === "finalize") {
    next = { ...old, metadata: { ...old.metadata, ...versionOf(object) }, spec: object.spec };
  } else if (hasStatus) next = withField(next, "status", old.status);
  next = updateOf[resourceKey(resource)]?.(next, old, context) ?? next;
  if (
    context.subresource === undefined ||
    context.subresource === "scale" ||
    context.subresource === "ephemeralcontainers" ||
    context.subresource === "resize"
  ) {
    if (hasGeneration(scheme, resource)) {
      const generation = old.metadata.generation ?? 1;
      const raised = desireChanged(resource, custom, hasStatus, next, old);
      next = { ...next, metadata: { ...next.metadata, generation: raised ? generation + 1 : generation } };
    }
  }
  return next;
}

/** True when objects of this resource count their changes of desire in metadata.generation. */
export function hasGeneration(scheme: Scheme, resource: Resource): boolean {
  return scheme.entry(resource).custom || withGeneration.has(resourceKey(resource));
}

const withGeneration = new Set([
  "deployments.apps",
  "replicasets.apps",
  "statefulsets.apps",
  "daemonsets.apps",
  "replicationcontrollers",
  "pods",
  "jobs.batch",
  "cronjobs.batch",
  "ingresses.networking.k8s.io",
  "ingressclasses.networking.k8s.io",
  "networkpolicies.networking.k8s.io",
  "endpointslices.discovery.k8s.io",
  "poddisruptionbudgets.policy",
  "priorityclasses.scheduling.k8s.io",
  "customresourcedefinitions.apiextensions.k8s.io",
  "mutatingwebhookconfigurations.admissionregistration.k8s.io",
  "validatingwebhookconfigurations.admissionregistration.k8s.io",
  "validatingadmissionpolicies.admissionregistration.k8s.io",
  "validatingadmissionpolicybindings.admissionregistration.k8s.io",
  "mutatingadmissionpolicies.admissionregistration.k8s.io",
  "mutatingadmissionpolicybindings.admissionregistration.k8s.io",
]);
const keepsStatusOnCreate = new Set(["nodes", "apiservices.apiregistration.k8s.io"]);

function desireChanged(
  resource: Resource,
  custom: boolean,
  hasStatus: boolean,
  next: KubeObject,
  old: KubeObject,
): boolean {
  if (custom || next.spec === undefined) {
    const desire = ({ apiVersion: _a, kind: _k, metadata: _m, status, ...rest }: KubeObject) =>
      hasStatus ? rest : { ...rest, status };
    return custom ? !equal(desire(next), desire(old)) : !semanticEqual(desire(next), desire(old));
  }
  if (!semanticEqual(next.spec, old.spec)) return true;
  // A Deployment's annotations are part of what its ReplicaSets are made from.
  if (resourceKey(resource) === "deployments.apps") {
    return !semanticEqual(next.metadata.annotations, old.metadata.annotations);
  }
  return false;
}

function keptMetadata(given: ObjectMeta, old: ObjectMeta): ObjectMeta {
  const metadata: Record<string, unknown> = { ...given };
  delete metadata["selfLink"];
  for (const field of serverFields) {
    if (old[field] === undefined) delete metadata[field];
    else metadata[field] = old[field];
  }
  // A client that says another uid means another object; the store refuses that, so it stays visible here.
  if (given.uid && old.uid && given.uid !== old.uid) metadata["uid"] = given.uid;
  return metadata as unknown as ObjectMeta;
}
const serverFields = [
  "name",
  "namespace",
  "uid",
  "creationTimestamp",
  "deletionTimestamp",
  "deletionGracePeriodSeconds",
  "generation",
  "generateName",
] as const;

const versionOf = (object: KubeObject) =>
  object.metadata.resourceVersion === undefined ? {} : { resourceVersion: object.metadata.resourceVersion };

/** A write to `status`: all else is as it was. Only Pods, Nodes and Services may change labels and annotations with it. */
function onlyStatus(next: KubeObject, old: KubeObject, custom: boolean, resource: Resource): KubeObject {
  const key = resourceKey(resource);
  const keepsOwnMetadata = key === "pods" || key === "nodes" || key === "services" || key === "namespaces";
  const metadata =
    custom || !keepsOwnMetadata
      ? {
          ...old.metadata,
          ...versionOf(next),
          ...(next.metadata.managedFields ? { managedFields: next.metadata.managedFields } : {}),
          // pkg/registry/apps/deployment/strategy.go: status writes restore the labels, and nothing else.
          ...(key === "deployments.apps" && next.metadata.annotations
            ? { annotations: next.metadata.annotations }
            : {}),
        }
      : {
          ...next.metadata,
          ...(old.metadata.ownerReferences ? { ownerReferences: old.metadata.ownerReferences } : {}),
        };
  return withField({ ...old, apiVersion: next.apiVersion, metadata }, "status", next.status);
}

function without(object: KubeObject, field: string): KubeObject {
  const { [field]: _gone, ...rest } = object;
  return rest as unknown as KubeObject;
}

function withField(object: KubeObject, field: string, value: unknown): KubeObject {
  return value === undefined ? without(object, field) : { ...object, [field]: value };
}

/** What a new object of a kind starts with, by resource key. */
const startOf: Readonly<Record<string, (object: KubeObject) => KubeObject>> = {
  namespaces: (object) => {
    const finalizers: readonly string[] = object.spec?.finalizers ?? [];
    return {
      ...object,
      metadata: {
        ...object.metadata,
        labels: { ...object.metadata.labels, "kubernetes.io/metadata.name": object.metadata.name },
      },
      spec: {
        ...object.spec,
        finalizers: finalizers.includes("kubernetes") ? finalizers : [...finalizers, "kubernetes"],
      },
      status: { phase: "Active" },
    };
  },
  pods: (object) => ({
    ...admitPod(object),
    status: { phase: "Pending", qosClass: qosClass(object.spec) },
  }),
  persistentvolumes: (object) => ({ ...object, status: { phase: "Pending" } }),
  persistentvolumeclaims: (object) => ({ ...object, status: { phase: "Pending" } }),
  services: (object) => ({ ...normalizeService(object), status: { loadBalancer: {} } }),
  "ingresses.networking.k8s.io": (object) => ({ ...object, status: { loadBalancer: {} } }),
  "daemonsets.apps": (object) =>
    withTemplateGeneration(
      {
        ...object,
        status: { currentNumberScheduled: 0, numberMisscheduled: 0, desiredNumberScheduled: 0, numberReady: 0 },
      },
      1,
    ),
  "replicasets.apps": (object) => ({ ...object, status: { replicas: 0 } }),
  "statefulsets.apps": (object) => ({ ...object, status: { replicas: 0, availableReplicas: 0 } }),
  replicationcontrollers: (object) => ({ ...object, status: { replicas: 0 } }),
  "poddisruptionbudgets.policy": (object) => ({
    ...object,
    status: { disruptionsAllowed: 0, currentHealthy: 0, desiredHealthy: 0, expectedPods: 0 },
  }),
  "jobs.batch": withJobLabels,
  "customresourcedefinitions.apiextensions.k8s.io": (object) => ({
    ...object,
    status: {
      conditions: null,
      acceptedNames: { plural: "", kind: "" },
      storedVersions: ((object.spec?.versions ?? []) as readonly { name: string; storage?: boolean }[])
        .filter((version) => version.storage)
        .map((version) => version.name),
    },
  }),
};

const updateOf: Readonly<Record<string, (next: KubeObject, old: KubeObject, context: UpdateContext) => KubeObject>> = {
  services: (next, old, context) => (context.subresource === undefined ? serviceUpdate(next, old) : next),
  "daemonsets.apps": (next, old, context) => {
    if (context.subresource === "status") return next;
    const generation = Number(old.metadata.annotations?.[templateGeneration] ?? 1);
    return withTemplateGeneration(
      next,
      semanticEqual(next.spec?.template, old.spec?.template) ? generation : generation + 1,
    );
  },
  namespaces: (next, old, context) => {
    // Finalizers of a namespace change only through its `finalize` subresource.
    if (context.subresource === "finalize") return next;
    const labels = { ...next.metadata.labels, "kubernetes.io/metadata.name": next.metadata.name };
    return { ...withField(next, "spec", old.spec), metadata: { ...next.metadata, labels } };
  },
};

const templateGeneration = "deprecated.daemonset.template.generation";

function withTemplateGeneration(object: KubeObject, generation: number): KubeObject {
  return withValueAt(object, ["metadata", "annotations"], {
    ...object.metadata.annotations,
    [templateGeneration]: String(generation),
  });
}

/** A Job without a manual selector selects by its own uid (pkg/registry/batch/job generateSelector). */
function withJobLabels(object: KubeObject): KubeObject {
  if (object.spec?.manualSelector === true) return object;
  const uid = object.metadata.uid ?? "";
  const labels = {
    "batch.kubernetes.io/controller-uid": uid,
    "batch.kubernetes.io/job-name": object.metadata.name,
    "controller-uid": uid,
    "job-name": object.metadata.name,
  };
  const template = isRecord(object.spec?.template) ? object.spec.template : {};
  const templateMeta = isRecord(template["metadata"]) ? template["metadata"] : {};
  const templateLabels = { ...(isRecord(templateMeta["labels"]) ? templateMeta["labels"] : {}), ...labels };
  return {
    ...object,
    metadata: isEmpty(object.metadata.labels)
      ? { ...object.metadata, labels: templateLabels as Record<string, string> }
      : object.metadata,
    spec: {
      ...object.spec,
      selector: {
        ...object.spec?.selector,
        matchLabels: { ...object.spec?.selector?.matchLabels, "batch.kubernetes.io/controller-uid": uid },
      },
      template: { ...template, metadata: { ...templateMeta, labels: templateLabels } },
    },
  };
}

interface QosContainer {
  readonly resources?: { readonly requests?: Record<string, string>; readonly limits?: Record<string, string> };
}

/** The quality-of-service class that follows from requests and limits of cpu and memory (core/v1/helper/qos). */
export function qosClass(
  spec:
    | { readonly containers?: readonly QosContainer[]; readonly initContainers?: readonly QosContainer[] }
    | undefined,
): "Guaranteed" | "Burstable" | "BestEffort" {
  const containers = [...(spec?.containers ?? []), ...(spec?.initContainers ?? [])];
  let some = false;
  let guaranteed = containers.length > 0;
  for (const { resources } of containers) {
    for (const name of ["cpu", "memory"]) {
      const limit = resources?.limits?.[name];
      const request = resources?.requests?.[name];
      if (limit !== undefined || request !== undefined) some = true;
      if (limit === undefined || (request !== undefined && request !== limit)) guaranteed = false;
    }
  }
  return !some ? "BestEffort" : guaranteed ? "Guaranteed" : "Burstable";
}

interface Toleration {
  readonly key?: string;
  readonly operator?: string;
  readonly effect?: string;
  readonly tolerationSeconds?: number;
}

/** Priorities of the classes that every cluster has (pkg/apis/scheduling). */
const systemPriorities: Readonly<Record<string, number>> = {
  "system-cluster-critical": 2_000_000_000,
  "system-node-critical": 2_000_001_000,
};
const evictingTaints = ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"];
const evictionSeconds = 300;

/** What the admission plugins Priority and DefaultTolerationSeconds add to a pod. */
function admitPod(object: KubeObject): KubeObject {
  const tolerations: Toleration[] = [...((object.spec?.tolerations ?? []) as readonly Toleration[])];
  for (const key of evictingTaints) {
    const tolerated = tolerations.some(
      (one) =>
        (one.key === key || (one.key === undefined && one.operator === "Exists")) &&
        (one.effect === undefined || one.effect === "NoExecute"),
    );
    if (!tolerated) {
      tolerations.push({ key, operator: "Exists", effect: "NoExecute", tolerationSeconds: evictionSeconds });
    }
  }
  return {
    ...object,
    spec: {
      ...object.spec,
      priority: object.spec?.priority ?? systemPriorities[object.spec?.priorityClassName] ?? 0,
      preemptionPolicy: object.spec?.preemptionPolicy ?? "PreemptLowerPriority",
      tolerations,
    },
  };
}
