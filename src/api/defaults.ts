// What the API server fills in (pkg/apis/*/v1/defaults.go of kube-apiserver 1.36; for custom resources and the Gateway API the defaults
// of their schema, `structural-defaults.ts`). A default is part of the object as it is stored. Address and port allocation are
// not defaults: `services` does those.

import { isEmpty, isRecord, type Json } from "./data.ts";
import type { KubeObject } from "./object.ts";
import { podSpec, podTemplate } from "./pod-defaults.ts";
import { type Resource, resourceKey } from "./resource.ts";
import type { Scheme } from "./scheme.ts";
import { defaultBySchema } from "./structural-defaults.ts";

type Defaults = (object: KubeObject) => KubeObject;
type Draft = Record<string, unknown>;

/** The object with everything that upstream would fill in. The input stays untouched. */
export function applyDefaults(scheme: Scheme, resource: Resource, object: KubeObject): KubeObject {
  const entry = scheme.entry(resource);
  if (entry.custom) return defaultBySchema(object, entry.schema, true) as KubeObject;
  if (resource.group === "autoscaling" && resource.version === "v1") return hpaV1(object);
  return byKind[resourceKey(resource)]?.(object) ?? object;
}

/** Sets fields that are absent. */
function fill(object: Json | undefined, values: Json): Draft {
  const out: Draft = { ...object };
  for (const [field, value] of Object.entries(values)) if (out[field] === undefined) out[field] = value;
  return out;
}

const spec =
  (change: (spec: Json, object: KubeObject) => Json): Defaults =>
  (object) => ({ ...object, spec: change(isRecord(object.spec) ? object.spec : {}, object) });

const filled = (values: Json): Defaults => spec((old) => fill(old, values));

const protocol = (port: unknown) => (isRecord(port) ? fill(port, { protocol: "TCP" }) : port);

const service: Defaults = spec((given) => {
  const out = fill(given, { sessionAffinity: "None", type: "ClusterIP" });
  if (out["sessionAffinity"] === "None") delete out["sessionAffinityConfig"];
  if (out["sessionAffinity"] === "ClientIP") {
    const config = isRecord(out["sessionAffinityConfig"]) ? out["sessionAffinityConfig"] : {};
    const client = isRecord(config["clientIP"]) ? config["clientIP"] : {};
    out["sessionAffinityConfig"] = { ...config, clientIP: fill(client, { timeoutSeconds: 10800 }) };
  }
  if (Array.isArray(out["ports"])) {
    out["ports"] = out["ports"].map((port: unknown) => {
      if (!isRecord(port)) return port;
      const one = fill(port, { protocol: "TCP" });
      if (one["targetPort"] === undefined || one["targetPort"] === 0 || one["targetPort"] === "")
        one["targetPort"] = one["port"];
      return one;
    });
  }
  const type = out["type"];
  const external =
    type === "NodePort" ||
    type === "LoadBalancer" ||
    (Array.isArray(out["externalIPs"]) && out["externalIPs"].length > 0);
  if (external && out["externalTrafficPolicy"] === undefined && type !== "ExternalName") {
    out["externalTrafficPolicy"] = "Cluster";
  }
  if (type === "NodePort" || type === "LoadBalancer" || type === "ClusterIP") {
    if (out["internalTrafficPolicy"] === undefined) out["internalTrafficPolicy"] = "Cluster";
  }
  if (type === "LoadBalancer" && out["allocateLoadBalancerNodePorts"] === undefined) {
    out["allocateLoadBalancerNodePorts"] = true;
  }
  return out;
});

/** An address of a load balancer with an IP is a virtual IP unless it says otherwise. */
const serviceStatus: Defaults = (object) => {
  const list = object.status?.loadBalancer?.ingress;
  if (!Array.isArray(list) || object.spec?.type !== "LoadBalancer") return object;
  const ingress = list.map((one: Json) => (one["ip"] && one["ipMode"] === undefined ? { ...one, ipMode: "VIP" } : one));
  return { ...object, status: { ...object.status, loadBalancer: { ...object.status.loadBalancer, ingress } } };
};

const percent = "25%";

const deployment: Defaults = spec((given) => {
  const out = fill(given, { replicas: 1, revisionHistoryLimit: 10, progressDeadlineSeconds: 600 });
  const strategy = fill(isRecord(out["strategy"]) ? out["strategy"] : {}, { type: "RollingUpdate" });
  if (strategy["type"] === "RollingUpdate") {
    strategy["rollingUpdate"] = fill(isRecord(strategy["rollingUpdate"]) ? strategy["rollingUpdate"] : {}, {
      maxUnavailable: percent,
      maxSurge: percent,
    });
  }
  return { ...out, strategy, template: podTemplate(out["template"]) };
});

const statefulSet: Defaults = spec((given) => {
  const out = fill(given, { replicas: 1, revisionHistoryLimit: 10, podManagementPolicy: "OrderedReady" });
  const strategy = fill(isRecord(out["updateStrategy"]) ? out["updateStrategy"] : {}, { type: "RollingUpdate" });
  if (strategy["type"] === "RollingUpdate") {
    strategy["rollingUpdate"] = fill(isRecord(strategy["rollingUpdate"]) ? strategy["rollingUpdate"] : {}, {
      partition: 0,
    });
  }
  const retention = fill(
    isRecord(out["persistentVolumeClaimRetentionPolicy"]) ? out["persistentVolumeClaimRetentionPolicy"] : {},
    { whenDeleted: "Retain", whenScaled: "Retain" },
  );
  const claims = Array.isArray(out["volumeClaimTemplates"])
    ? {
        volumeClaimTemplates: out["volumeClaimTemplates"].map((one) =>
          isRecord(one)
            ? {
                ...one,
                apiVersion: "v1",
                kind: "PersistentVolumeClaim",
                spec: fill(one["spec"] as Json, { volumeMode: "Filesystem" }),
                status: fill(one["status"] as Json, { phase: "Pending" }),
              }
            : one,
        ),
      }
    : {};
  return {
    ...out,
    ...claims,
    updateStrategy: strategy,
    persistentVolumeClaimRetentionPolicy: retention,
    template: podTemplate(out["template"]),
  };
});

const daemonSet: Defaults = spec((given) => {
  const out = fill(given, { revisionHistoryLimit: 10 });
  const strategy = fill(isRecord(out["updateStrategy"]) ? out["updateStrategy"] : {}, { type: "RollingUpdate" });
  if (strategy["type"] === "RollingUpdate") {
    strategy["rollingUpdate"] = fill(isRecord(strategy["rollingUpdate"]) ? strategy["rollingUpdate"] : {}, {
      maxUnavailable: 1,
      maxSurge: 0,
    });
  }
  return { ...out, updateStrategy: strategy, template: podTemplate(out["template"]) };
});

const jobSpec = (given: Json): Draft => {
  const out = fill(given, {
    backoffLimit: given["backoffLimitPerIndex"] === undefined ? 6 : 2147483647,
    completionMode: "NonIndexed",
    suspend: false,
    manualSelector: false,
    podReplacementPolicy: given["podFailurePolicy"] === undefined ? "TerminatingOrFailed" : "Failed",
  });
  // With neither given a job is one pod; with only parallelism it is a work queue.
  if (given["completions"] === undefined && given["parallelism"] === undefined) out["completions"] = 1;
  if (given["parallelism"] === undefined) out["parallelism"] = 1;
  out["template"] = podTemplate(out["template"]);
  return out;
};

const job: Defaults = (object) => {
  const labels = object.spec?.template?.metadata?.labels;
  const next = spec(jobSpec)(object);
  return isEmpty(object.metadata?.labels) && !isEmpty(labels)
    ? { ...next, metadata: { ...next.metadata, labels } }
    : next;
};

const cronJob: Defaults = spec((given) => {
  const out = fill(given, {
    concurrencyPolicy: "Allow",
    suspend: false,
    successfulJobsHistoryLimit: 3,
    failedJobsHistoryLimit: 1,
  });
  const template = isRecord(out["jobTemplate"]) ? out["jobTemplate"] : {};
  const inner = isRecord(template["spec"]) ? template["spec"] : {};
  // A Job template's own defaults are set when the Job is made; its pods' are set now.
  out["jobTemplate"] = { ...template, spec: { ...inner, template: podTemplate(inner["template"]) } };
  return out;
});

const replicationController: Defaults = (object) => {
  const labels = object.spec?.template?.metadata?.labels;
  const next = spec((given) => {
    const out = fill(given, { replicas: 1 });
    if (isEmpty(out["selector"]) && !isEmpty(labels)) out["selector"] = labels;
    return { ...out, ...(out["template"] ? { template: podTemplate(out["template"]) } : {}) };
  })(object);
  return isEmpty(object.metadata?.labels) && !isEmpty(labels)
    ? { ...next, metadata: { ...next.metadata, labels } }
    : next;
};

const secret: Defaults = (object) => {
  const text = object["stringData"] as Record<string, string> | undefined;
  const { stringData: _text, ...rest } = object;
  const data = { ...(object["data"] as Record<string, string> | undefined) };
  for (const [key, value] of Object.entries(text ?? {})) data[key] = Buffer.from(value, "utf8").toString("base64");
  return {
    ...rest,
    ...(Object.keys(data).length ? { data } : {}),
    type: (object["type"] as string | undefined) ?? "Opaque",
  } as unknown as KubeObject;
};

const networkPolicy: Defaults = spec((given) => {
  const out: Draft = { ...given };
  if (isEmpty(out["policyTypes"])) {
    out["policyTypes"] = ["Ingress", ...(isEmpty(out["egress"]) ? [] : ["Egress"])];
  }
  for (const direction of ["ingress", "egress"]) {
    const rules = out[direction];
    if (!Array.isArray(rules)) continue;
    out[direction] = rules.map((rule: unknown) =>
      isRecord(rule) && Array.isArray(rule["ports"]) ? { ...rule, ports: rule["ports"].map(protocol) } : rule,
    );
  }
  return out;
});

/** Lists that Go writes as null when nothing is in them, because their fields have no omitempty. */
const nullWhenEmpty = (object: KubeObject, ...fields: readonly string[]) =>
  Object.fromEntries(fields.filter((field) => isEmpty(object[field])).map((field) => [field, null]));

const endpointSlice: Defaults = (object) => ({
  ...object,
  ...nullWhenEmpty(object, "endpoints", "ports"),
  ...(Array.isArray(object["ports"])
    ? { ports: object["ports"].map((port: Json) => fill(port, { name: "", protocol: "TCP" })) }
    : {}),
});

const endpoints: Defaults = (object) => ({
  ...object,
  ...(Array.isArray(object["subsets"])
    ? {
        subsets: object["subsets"].map((subset: Json) =>
          Array.isArray(subset["ports"]) ? { ...subset, ports: subset["ports"].map(protocol) } : subset,
        ),
      }
    : {}),
});

const crd: Defaults = spec((given) => {
  const out: Draft = { ...given };
  const names = isRecord(out["names"]) ? { ...out["names"] } : {};
  const kind = typeof names["kind"] === "string" ? names["kind"] : "";
  if (kind !== "") {
    names["singular"] ??= kind.toLowerCase();
    names["listKind"] ??= `${kind}List`;
  }
  out["names"] = names;
  out["conversion"] = fill(isRecord(out["conversion"]) ? out["conversion"] : {}, { strategy: "None" });
  return out;
});

const roleBinding: Defaults = (object) => {
  const subjects = object["subjects"];
  const ref = isRecord(object["roleRef"]) ? object["roleRef"] : {};
  return {
    ...object,
    roleRef: fill(ref, { apiGroup: "rbac.authorization.k8s.io" }),
    ...(Array.isArray(subjects)
      ? {
          subjects: subjects.map((one: Json) =>
            one["kind"] === "User" || one["kind"] === "Group"
              ? fill(one, { apiGroup: "rbac.authorization.k8s.io" })
              : one,
          ),
        }
      : {}),
  };
};

const webhooks: Defaults = (object) => ({
  ...object,
  ...(Array.isArray(object["webhooks"])
    ? {
        webhooks: object["webhooks"].map((hook: Json) => {
          const out = fill(hook, {
            failurePolicy: "Fail",
            matchPolicy: "Equivalent",
            timeoutSeconds: 10,
            namespaceSelector: {},
            objectSelector: {},
            ...(object.kind.startsWith("Mutating") ? { reinvocationPolicy: "Never" } : {}),
          });
          if (Array.isArray(out["rules"])) out["rules"] = out["rules"].map((rule: Json) => fill(rule, { scope: "*" }));
          return out;
        }),
      }
    : {}),
});

const persistentVolume: Defaults = (object) => ({
  ...filled({ persistentVolumeReclaimPolicy: "Retain", volumeMode: "Filesystem" })(object),
  status: fill(object.status, { phase: "Pending" }),
});

const namespace: Defaults = (object) =>
  object.metadata?.name
    ? {
        ...object,
        metadata: {
          ...object.metadata,
          labels: { ...object.metadata.labels, "kubernetes.io/metadata.name": object.metadata.name },
        },
      }
    : object;

/** What is aimed at where nothing else is said. */
export const defaultCpuMetric = {
  type: "Resource",
  resource: { name: "cpu", target: { type: "Utilization", averageUtilization: 80 } },
};
const hpa: Defaults = spec((given) => fill(given, { minReplicas: 1, metrics: [defaultCpuMetric] }));
/** The metrics are filled in when it is converted: only then is it known whether annotations have any. */
const hpaV1: Defaults = spec((given) => fill(given, { minReplicas: 1 }));

/** Fields of an Event that Go always writes. */
const event: Defaults = (object) => ({
  ...object,
  source: object["source"] ?? {},
  firstTimestamp: object["firstTimestamp"] ?? null,
  lastTimestamp: object["lastTimestamp"] ?? null,
  eventTime: object["eventTime"] ?? null,
  reportingComponent: object["reportingComponent"] ?? "",
  reportingInstance: object["reportingInstance"] ?? "",
});

/** The defaults of built-in kinds, by resource key. */
const byKind: Readonly<Record<string, Defaults>> = {
  pods: (object) => spec((given) => podSpec(given, true))(object),
  podtemplates: (object) => ({ ...object, template: podTemplate(object["template"]) }),
  events: event,
  services: (object) => serviceStatus(service(object)),
  namespaces: namespace,
  secrets: secret,
  endpoints,
  replicationcontrollers: replicationController,
  persistentvolumes: persistentVolume,
  persistentvolumeclaims: (object) => ({
    ...filled({ volumeMode: "Filesystem" })(object),
    status: fill(object.status, { phase: "Pending" }),
  }),
  "deployments.apps": deployment,
  "replicasets.apps": spec((given) => ({ ...fill(given, { replicas: 1 }), template: podTemplate(given["template"]) })),
  "statefulsets.apps": statefulSet,
  "daemonsets.apps": daemonSet,
  "jobs.batch": job,
  "cronjobs.batch": cronJob,
  "networkpolicies.networking.k8s.io": networkPolicy,
  "ingressclasses.networking.k8s.io": (object) =>
    isRecord(object.spec?.parameters)
      ? { ...object, spec: { ...object.spec, parameters: fill(object.spec.parameters, { scope: "Cluster" }) } }
      : object,
  "endpointslices.discovery.k8s.io": endpointSlice,
  "customresourcedefinitions.apiextensions.k8s.io": crd,
  "roles.rbac.authorization.k8s.io": (object) => ({ ...object, ...nullWhenEmpty(object, "rules") }),
  "clusterroles.rbac.authorization.k8s.io": (object) => ({ ...object, ...nullWhenEmpty(object, "rules") }),
  "rolebindings.rbac.authorization.k8s.io": roleBinding,
  "clusterrolebindings.rbac.authorization.k8s.io": roleBinding,
  "mutatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
  "validatingwebhookconfigurations.admissionregistration.k8s.io": webhooks,
  "priorityclasses.scheduling.k8s.io": (object) => ({
    ...object,
    value: object["value"] ?? 0,
    preemptionPolicy: object["preemptionPolicy"] ?? "PreemptLowerPriority",
  }),
  "storageclasses.storage.k8s.io": (object) => ({
    ...object,
    reclaimPolicy: object["reclaimPolicy"] ?? "Delete",
    volumeBindingMode: object["volumeBindingMode"] ?? "Immediate",
  }),
  "csidrivers.storage.k8s.io": filled({
    attachRequired: true,
    podInfoOnMount: false,
    storageCapacity: false,
    fsGroupPolicy: "ReadWriteOnceWithFSType",
    volumeLifecycleModes: ["Persistent"],
    requiresRepublish: false,
    seLinuxMount: false,
  }),
  "horizontalpodautoscalers.autoscaling": hpa,
};
