// Defaults of pods and pod templates (pkg/apis/core/v1/defaults.go): containers, probes, ports, volumes, scheduling fields.

import { isRecord, type Json } from "./data.ts";

type Draft = Record<string, unknown>;

function fill(object: Json | undefined, values: Json): Draft {
  const out: Draft = { ...object };
  for (const [field, value] of Object.entries(values)) if (out[field] === undefined) out[field] = value;
  return out;
}

/** A pod template with the defaults of its pod spec; what is no template is returned as it is. */
export function podTemplate(template: unknown): unknown {
  if (!isRecord(template)) return template;
  return { ...template, ...(isRecord(template["spec"]) ? { spec: podSpec(template["spec"], false) } : {}) };
}

/**
 * A pod spec with its defaults. `pod` is true for pods themselves, which also get what only they have (`enableServiceLinks`,
 * requests that follow from limits, the scheduler's tolerations are admission's and not here).
 */
export function podSpec(given: Json, pod: boolean): Draft {
  const out = fill(given, {
    restartPolicy: "Always",
    terminationGracePeriodSeconds: 30,
    dnsPolicy: "ClusterFirst",
    securityContext: {},
    schedulerName: "default-scheduler",
  });
  if (pod) out["enableServiceLinks"] ??= true;
  if (out["serviceAccountName"] === undefined && out["serviceAccount"] !== undefined)
    out["serviceAccountName"] = out["serviceAccount"];
  if (out["serviceAccountName"] !== undefined) out["serviceAccount"] = out["serviceAccountName"];
  const host = out["hostNetwork"] === true;
  for (const list of ["initContainers", "containers", "ephemeralContainers"]) {
    const containers = out[list];
    if (Array.isArray(containers))
      out[list] = containers.map((one) =>
        isRecord(one) ? container(one, host, pod, list === "ephemeralContainers") : one,
      );
  }
  if (Array.isArray(out["volumes"])) out["volumes"] = out["volumes"].map((one) => (isRecord(one) ? volume(one) : one));
  return out;
}

function container(given: Json, hostNetwork: boolean, pod: boolean, ephemeral: boolean): Draft {
  const out = fill(given, {
    resources: {},
    terminationMessagePath: "/dev/termination-log",
    terminationMessagePolicy: "File",
    imagePullPolicy: pullPolicy(given["image"]),
  });
  if (Array.isArray(out["ports"])) {
    out["ports"] = out["ports"].map((port) => {
      if (!isRecord(port)) return port;
      const one = fill(port, { protocol: "TCP" });
      if (hostNetwork && one["containerPort"] !== undefined) one["hostPort"] ??= one["containerPort"];
      return one;
    });
  }
  for (const name of ["livenessProbe", "readinessProbe", "startupProbe"]) {
    if (isRecord(out[name])) out[name] = probe(out[name]);
  }
  if (isRecord(out["lifecycle"])) {
    const lifecycle: Draft = { ...out["lifecycle"] };
    for (const hook of ["postStart", "preStop"])
      if (isRecord(lifecycle[hook])) lifecycle[hook] = handler(lifecycle[hook]);
    out["lifecycle"] = lifecycle;
  }
  if (Array.isArray(out["env"])) out["env"] = out["env"].map(environment);
  if (isRecord(out["resources"]) && pod && !ephemeral) out["resources"] = requestsFromLimits(out["resources"]);
  return out;
}

/** `latest`, or no tag, is pulled always; anything pinned only when it is not there. */
function pullPolicy(image: unknown): string {
  if (typeof image !== "string" || image.includes("@")) return "IfNotPresent";
  const last = image.slice(image.lastIndexOf("/") + 1);
  const colon = last.lastIndexOf(":");
  return colon < 0 || last.slice(colon + 1) === "latest" ? "Always" : "IfNotPresent";
}

function probe(given: Json): Draft {
  const out = handler(fill(given, { timeoutSeconds: 1, periodSeconds: 10, successThreshold: 1, failureThreshold: 3 }));
  for (const [field, value] of [
    ["timeoutSeconds", 1],
    ["periodSeconds", 10],
    ["successThreshold", 1],
    ["failureThreshold", 3],
  ] as const) {
    if (out[field] === 0) out[field] = value;
  }
  return out;
}

function handler(given: Json): Draft {
  const out: Draft = { ...given };
  if (isRecord(out["httpGet"])) {
    const get = fill(out["httpGet"], { path: "/", scheme: "HTTP" });
    if (get["path"] === "") get["path"] = "/";
    out["httpGet"] = get;
  }
  if (isRecord(out["grpc"])) out["grpc"] = fill(out["grpc"], { service: "" });
  return out;
}

function environment(given: unknown): unknown {
  if (!isRecord(given) || !isRecord(given["valueFrom"])) return given;
  const from = given["valueFrom"];
  let next: Draft | undefined;
  if (isRecord(from["fieldRef"])) next = { ...from, fieldRef: fill(from["fieldRef"], { apiVersion: "v1" }) };
  if (isRecord(from["resourceFieldRef"])) {
    next = { ...(next ?? from), resourceFieldRef: fill(from["resourceFieldRef"], { divisor: "0" }) };
  }
  return next ? { ...given, valueFrom: next } : given;
}

function requestsFromLimits(resources: Json): Json {
  const limits = resources["limits"];
  if (!isRecord(limits) || Object.keys(limits).length === 0) return resources;
  return { ...resources, requests: fill(resources["requests"] as Json | undefined, limits) };
}

const fileMode = 0o644;

function volume(given: Json): Draft {
  const out: Draft = { ...given };
  const sources = Object.keys(out).filter((field) => field !== "name");
  if (sources.length === 0) out["emptyDir"] = {};
  for (const source of ["secret", "configMap", "downwardAPI"]) {
    if (isRecord(out[source])) out[source] = withFieldRefs(fill(out[source], { defaultMode: fileMode }));
  }
  if (isRecord(out["projected"])) {
    const projected = fill(out["projected"], { defaultMode: fileMode });
    if (Array.isArray(projected["sources"])) {
      projected["sources"] = projected["sources"].map((source) => {
        if (!isRecord(source)) return source;
        const next: Draft = { ...source };
        if (isRecord(next["serviceAccountToken"]))
          next["serviceAccountToken"] = fill(next["serviceAccountToken"], { expirationSeconds: 3600 });
        if (isRecord(next["downwardAPI"])) next["downwardAPI"] = withFieldRefs(next["downwardAPI"]);
        return next;
      });
    }
    out["projected"] = projected;
  }
  if (isRecord(out["hostPath"])) out["hostPath"] = fill(out["hostPath"], { type: "" });
  if (isRecord(out["iscsi"])) out["iscsi"] = fill(out["iscsi"], { iscsiInterface: "default" });
  if (isRecord(out["rbd"])) {
    out["rbd"] = fill(out["rbd"], { pool: "rbd", user: "admin", keyring: "/etc/ceph/keyring" });
  }
  if (isRecord(out["ephemeral"]) && isRecord(out["ephemeral"]["volumeClaimTemplate"])) {
    const template = out["ephemeral"]["volumeClaimTemplate"];
    out["ephemeral"] = {
      ...out["ephemeral"],
      volumeClaimTemplate: {
        ...template,
        spec: fill(template["spec"] as Json | undefined, { volumeMode: "Filesystem" }),
      },
    };
  }
  return out;
}

function withFieldRefs(source: Json): Draft {
  if (!Array.isArray(source["items"])) return { ...source };
  const items = source["items"].map((item) => {
    if (!isRecord(item)) return item;
    const next: Draft = { ...item };
    if (isRecord(next["fieldRef"])) next["fieldRef"] = fill(next["fieldRef"], { apiVersion: "v1" });
    if (isRecord(next["resourceFieldRef"])) next["resourceFieldRef"] = fill(next["resourceFieldRef"], { divisor: "0" });
    return next;
  });
  return { ...source, items };
}
