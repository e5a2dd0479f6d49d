// The cells of built-in kinds, in the order of their columns (pkg/printers/internalversion/printers.go of kube-apiserver 1.36).

import { hostLiteral } from "../base/ip.ts";
import { age, type ConditionLike, containers, labels, name, none, type Printer } from "./cells.ts";
import { isEmpty } from "./data.ts";
import { ageOf } from "./duration.ts";
import type { KubeObject } from "./object.ts";
import { printPod } from "./pod-printer.ts";
import { resourcePrinters } from "./resource-printers.ts";
import { formatLabelSelector } from "./selectors.ts";
import { cronJob, daemonSet, deployment, job, replicaSet } from "./workload-printers.ts";

interface ServicePortLike {
  readonly port: number;
  readonly nodePort?: number;
  readonly protocol?: string;
}

function servicePorts(ports: readonly ServicePortLike[] | undefined): string {
  if (isEmpty(ports)) return none;
  return ports!.map((one) => `${one.port}${one.nodePort ? `:${one.nodePort}` : ""}/${one.protocol ?? "TCP"}`).join(",");
}

function loadBalancerText(
  ingress: readonly { readonly ip?: string; readonly hostname?: string }[] | undefined,
): string {
  return (ingress ?? [])
    .map((one) => one.ip || one.hostname || "")
    .filter((one) => one !== "")
    .join(",");
}

function externalIp(object: KubeObject): string {
  const spec = object.spec ?? {};
  const ips: readonly string[] = spec.externalIPs ?? [];
  switch (spec.type) {
    case "ExternalName":
      return spec.externalName ?? none;
    case "LoadBalancer": {
      const balancer = loadBalancerText(object.status?.loadBalancer?.ingress);
      if (ips.length > 0) return [...(balancer ? balancer.split(",") : []), ...ips].join(",");
      return balancer || "<pending>";
    }
    default:
      return ips.length > 0 ? ips.join(",") : none;
  }
}

const service: Printer = (object, now) => {
  const spec = object.spec ?? {};
  return [
    name(object),
    spec.type ?? "",
    spec.clusterIPs?.[0] || spec.clusterIP || none,
    externalIp(object),
    servicePorts(spec.ports),
    age(object, now),
    labels(spec.selector),
  ];
};

const ingress: Printer = (object, now) => {
  const spec = object.spec ?? {};
  const hosts = ((spec.rules ?? []) as readonly { host?: string }[])
    .map((rule) => rule.host ?? "")
    .filter((host) => host !== "");
  const shown =
    hosts.length === 0
      ? "*"
      : hosts.length <= 3
        ? hosts.join(",")
        : `${hosts.slice(0, 3).join(",")} + ${hosts.length - 3} more...`;
  return [
    name(object),
    spec.ingressClassName ?? none,
    shown,
    loadBalancerText(object.status?.loadBalancer?.ingress),
    isEmpty(spec.tls) ? "80" : "80, 443",
    age(object, now),
  ];
};

const node: Printer = (object, now) => {
  const conditions = (object.status?.conditions ?? []) as readonly ConditionLike[];
  const ready = conditions.find((one) => one.type === "Ready");
  const status = [ready === undefined ? "Unknown" : ready.status === "True" ? "Ready" : "NotReady"];
  if (object.spec?.unschedulable) status.push("SchedulingDisabled");
  const roles = Object.entries(object.metadata.labels ?? {}).flatMap(([key, value]) =>
    key.startsWith("node-role.kubernetes.io/") && key.length > 24
      ? [key.slice(24)]
      : key === "kubernetes.io/role" && value !== ""
        ? [value]
        : [],
  );
  const addresses = (object.status?.addresses ?? []) as readonly { type: string; address: string }[];
  const address = (type: string) => addresses.find((one) => one.type === type)?.address ?? none;
  const info = object.status?.nodeInfo ?? {};
  return [
    name(object),
    status.join(","),
    roles.length > 0 ? [...new Set(roles)].sort().join(",") : none,
    age(object, now),
    info.kubeletVersion ?? "",
    address("InternalIP"),
    address("ExternalIP"),
    info.osImage || "<unknown>",
    info.kernelVersion || "<unknown>",
    info.containerRuntimeVersion || "<unknown>",
  ];
};

interface PortLike {
  readonly name?: string;
  readonly port?: number;
}

const endpointSlice: Printer = (object, now) => {
  const ports = (object["ports"] ?? []) as readonly PortLike[];
  const shown = ports.slice(0, 3).map((one) => (one.port === undefined ? `${one.name || "*"}` : String(one.port)));
  const portText =
    object["ports"] === undefined || object["ports"] === null
      ? "<unset>"
      : ports.length === 0
        ? "<unset>"
        : ports.length > 3
          ? `${shown.join(",")} + ${ports.length - 3} more...`
          : shown.join(",");
  const addresses = ((object["endpoints"] ?? []) as readonly { addresses?: readonly string[] }[]).flatMap(
    (one) => one.addresses ?? [],
  );
  const endpointText =
    addresses.length === 0
      ? "<unset>"
      : addresses.length > 3
        ? `${addresses.slice(0, 3).join(",")} + ${addresses.length - 3} more...`
        : addresses.join(",");
  return [name(object), object["addressType"] ?? "", portText, endpointText, age(object, now)];
};

interface Subset {
  readonly addresses?: readonly { readonly ip: string }[];
  readonly ports?: readonly PortLike[];
}

const endpoints: Printer = (object, now) => {
  const all: string[] = [];
  for (const subset of (object["subsets"] ?? []) as readonly Subset[]) {
    for (const address of subset.addresses ?? []) {
      if (isEmpty(subset.ports)) all.push(address.ip);
      else for (const port of subset.ports!) all.push(`${hostLiteral(address.ip)}:${port.port}`);
    }
  }
  const text =
    all.length === 0
      ? none
      : all.length > 3
        ? `${all.slice(0, 3).join(",")} + ${all.length - 3} more...`
        : all.join(",");
  return [name(object), text, age(object, now)];
};

/** Both kinds of Event: columns are led by when it was last seen. */
const event: Printer = (object, now) => {
  const about = object["involvedObject"] ?? object["regarding"] ?? {};
  const first = object["firstTimestamp"] ?? object["deprecatedFirstTimestamp"] ?? object["eventTime"];
  const last =
    object["series"]?.lastObservedTime ?? object["lastTimestamp"] ?? object["deprecatedLastTimestamp"] ?? first;
  const source = object["source"] ?? object["deprecatedSource"] ?? {};
  const component = [
    source.component || object["reportingComponent"] || object["reportingController"] || "",
    source.host,
  ]
    .filter(Boolean)
    .join(", ");
  return [
    ageOf(last ?? undefined, now),
    object["type"] ?? "",
    object["reason"] ?? "",
    `${String(about.kind ?? "").toLowerCase()}/${about.name ?? ""}`,
    about.fieldPath ?? "",
    component,
    String(object["message"] ?? object["note"] ?? "").trim(),
    ageOf(first ?? undefined, now),
    object["series"]?.count ?? object["count"] ?? object["deprecatedCount"] ?? 1,
    name(object),
  ];
};

interface SubjectLike {
  readonly kind: string;
  readonly name: string;
  readonly namespace?: string;
}

const binding: Printer = (object, now) => {
  const subjects = (object["subjects"] ?? []) as readonly SubjectLike[];
  const of = (kind: string) =>
    subjects
      .filter((one) => one.kind === kind)
      .map((one) => (kind === "ServiceAccount" ? `${one.namespace ?? ""}/${one.name}` : one.name))
      .join(", ");
  return [
    name(object),
    `${object["roleRef"]?.kind ?? ""}/${object["roleRef"]?.name ?? ""}`,
    age(object, now),
    of("User"),
    of("Group"),
    of("ServiceAccount"),
  ];
};

const createdAt: Printer = (object) => [name(object), object.metadata.creationTimestamp ?? null];
const count = (value: unknown) => (Array.isArray(value) ? value.length : 0);
function ingressClassParameters(
  parameters: { readonly kind?: string; readonly name?: string; readonly apiGroup?: string } | undefined,
): string {
  if (!parameters) return none;
  return parameters.apiGroup
    ? `${parameters.kind}.${parameters.apiGroup}/${parameters.name}`
    : `${parameters.kind}/${parameters.name}`;
}

/** By resource key. Kinds that are not here print name and age. */
export const printers: Readonly<Record<string, Printer>> = {
  ...resourcePrinters,
  pods: printPod,
  services: service,
  nodes: node,
  endpoints,
  events: event,
  "events.events.k8s.io": event,
  configmaps: (object, now) => [
    name(object),
    Object.keys(object["data"] ?? {}).length + Object.keys(object["binaryData"] ?? {}).length,
    age(object, now),
  ],
  secrets: (object, now) => [
    name(object),
    object["type"] ?? "",
    Object.keys(object["data"] ?? {}).length,
    age(object, now),
  ],
  namespaces: (object, now) => [name(object), object.status?.phase ?? "", age(object, now)],
  serviceaccounts: (object, now) => [name(object), age(object, now)],
  replicationcontrollers: replicaSet,
  podtemplates: (object) => {
    const [names, images] = containers(object["template"]);
    return [name(object), names, images, labels(object["template"]?.metadata?.labels)];
  },
  limitranges: createdAt,
  "customresourcedefinitions.apiextensions.k8s.io": createdAt,
  "roles.rbac.authorization.k8s.io": createdAt,
  "clusterroles.rbac.authorization.k8s.io": createdAt,
  "csistoragecapacities.storage.k8s.io": createdAt,
  "rolebindings.rbac.authorization.k8s.io": binding,
  "clusterrolebindings.rbac.authorization.k8s.io": binding,
  "deployments.apps": deployment,
  "replicasets.apps": replicaSet,
  "daemonsets.apps": daemonSet,
  "statefulsets.apps": (object, now) => {
    const [names, images] = containers(object.spec?.template);
    return [
      name(object),
      `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}`,
      age(object, now),
      names,
      images,
    ];
  },
  "controllerrevisions.apps": (object, now) => {
    const owner = object.metadata.ownerReferences?.find((one) => one.controller);
    return [
      name(object),
      owner ? `${owner.kind.toLowerCase()}.${owner.apiVersion.split("/")[0]}/${owner.name}` : none,
      object["revision"] ?? 0,
      age(object, now),
    ];
  },
  "jobs.batch": job,
  "cronjobs.batch": cronJob,
  "ingresses.networking.k8s.io": ingress,
  "ingressclasses.networking.k8s.io": (object, now) => [
    name(object),
    object.spec?.controller ?? "",
    ingressClassParameters(object.spec?.parameters),
    age(object, now),
  ],
  "networkpolicies.networking.k8s.io": (object, now) => [
    name(object),
    formatLabelSelector(object.spec?.podSelector),
    age(object, now),
  ],
  "ipaddresses.networking.k8s.io": (object) => {
    const ref = object.spec?.parentRef ?? {};
    const group = ref.group ? `${ref.resource}.${ref.group}` : (ref.resource ?? "");
    return [name(object), ref.namespace ? `${group}/${ref.namespace}/${ref.name}` : `${group}/${ref.name}`];
  },
  "servicecidrs.networking.k8s.io": (object, now) => [
    name(object),
    (object.spec?.cidrs ?? []).join(","),
    age(object, now),
  ],
  "endpointslices.discovery.k8s.io": endpointSlice,
  "leases.coordination.k8s.io": (object, now) => [name(object), object.spec?.holderIdentity ?? "", age(object, now)],
  "poddisruptionbudgets.policy": (object, now) => [
    name(object),
    object.spec?.minAvailable === undefined ? "N/A" : String(object.spec.minAvailable),
    object.spec?.maxUnavailable === undefined ? "N/A" : String(object.spec.maxUnavailable),
    object.status?.disruptionsAllowed ?? 0,
    age(object, now),
  ],
  "priorityclasses.scheduling.k8s.io": (object, now) => [
    name(object),
    object["value"] ?? 0,
    object["globalDefault"] ?? false,
    age(object, now),
    object["preemptionPolicy"] ?? "",
  ],
  "mutatingwebhookconfigurations.admissionregistration.k8s.io": (object, now) => [
    name(object),
    count(object["webhooks"]),
    age(object, now),
  ],
  "validatingwebhookconfigurations.admissionregistration.k8s.io": (object, now) => [
    name(object),
    count(object["webhooks"]),
    age(object, now),
  ],
  "apiservices.apiregistration.k8s.io": (object, now) => {
    const available = ((object.status?.conditions ?? []) as readonly ConditionLike[]).find(
      (one) => one.type === "Available",
    );
    const ref = object.spec?.service;
    return [
      name(object),
      ref ? `${ref.namespace}/${ref.name}` : "Local",
      available?.status ?? "Unknown",
      age(object, now),
    ];
  },
};
