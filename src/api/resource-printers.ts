// The rows of what is consumed and limited: volumes and their classes, quotas, autoscalers
// (pkg/printers/internalversion/printers.go).

import { age, name, type Printer } from "./cells.ts";
import { convertTo } from "./conversion.ts";

const modes: Readonly<Record<string, string>> = {
  ReadWriteOnce: "RWO",
  ReadOnlyMany: "ROX",
  ReadWriteMany: "RWX",
  ReadWriteOncePod: "RWOP",
};
const accessModes = (list: unknown) =>
  Array.isArray(list) ? list.map((one) => modes[String(one)] ?? String(one)).join(",") : "";

const pairs = (
  used: Readonly<Record<string, string>> | undefined,
  hard: Readonly<Record<string, string>> | undefined,
  limits: boolean,
) =>
  Object.keys(hard ?? {})
    .filter((one) => one.startsWith("limits.") === limits)
    .sort()
    .map((one) => `${one}: ${used?.[one] ?? "0"}/${hard![one]}`)
    .join(", ");

interface MetricTarget {
  readonly averageUtilization?: number;
  readonly averageValue?: string;
  readonly value?: string;
}
interface Metric {
  readonly type?: string;
  readonly resource?: { readonly name: string; readonly target?: MetricTarget; readonly current?: MetricTarget };
}

/** `cpu: <unknown>/80%`: what an autoscaler sees of what it aims at. */
function targets(metrics: readonly Metric[], current: readonly Metric[]): string {
  const texts = metrics.map((metric) => {
    const { resource } = metric;
    if (metric.type !== "Resource" || !resource) return "<unknown>";
    const now = current.find((one) => one.resource?.name === resource.name)?.resource?.current;
    if (resource.target?.averageUtilization !== undefined) {
      const seen = now?.averageUtilization === undefined ? "<unknown>" : `${now.averageUtilization}%`;
      return `${resource.name}: ${seen}/${resource.target.averageUtilization}%`;
    }
    return `${resource.name}: ${now?.averageValue ?? "<unknown>"}/${resource.target?.averageValue ?? resource.target?.value ?? ""}`;
  });
  if (texts.length === 0) return "<none>";
  return texts.length > 2 ? `${texts.slice(0, 2).join(", ")} + ${texts.length - 2} more...` : texts.join(", ");
}

/** By resource key. */
export const resourcePrinters: Readonly<Record<string, Printer>> = {
  persistentvolumes: (object, now) => [
    name(object),
    object.spec?.capacity?.storage ?? "",
    accessModes(object.spec?.accessModes),
    object.spec?.persistentVolumeReclaimPolicy ?? "",
    object.metadata.deletionTimestamp ? "Terminating" : (object.status?.phase ?? ""),
    object.spec?.claimRef ? `${object.spec.claimRef.namespace}/${object.spec.claimRef.name}` : "",
    object.spec?.storageClassName ?? "",
    object.spec?.volumeAttributesClassName ?? "<unset>",
    object.status?.reason ?? "",
    age(object, now),
    object.spec?.volumeMode ?? "<unset>",
  ],
  persistentvolumeclaims: (object, now) => [
    name(object),
    object.metadata.deletionTimestamp ? "Terminating" : (object.status?.phase ?? ""),
    object.spec?.volumeName ?? "",
    object.spec?.volumeName ? (object.status?.capacity?.storage ?? "") : "",
    object.spec?.volumeName ? accessModes(object.status?.accessModes) : "",
    object.spec?.storageClassName ?? "",
    object.spec?.volumeAttributesClassName ?? "<unset>",
    age(object, now),
    object.spec?.volumeMode ?? "<unset>",
  ],
  "storageclasses.storage.k8s.io": (object, now) => [
    object.metadata.annotations?.["storageclass.kubernetes.io/is-default-class"] === "true"
      ? `${name(object)} (default)`
      : name(object),
    object["provisioner"] ?? "",
    object["reclaimPolicy"] ?? "Delete",
    object["volumeBindingMode"] ?? "<unset>",
    object["allowVolumeExpansion"] ?? false,
    age(object, now),
  ],
  resourcequotas: (object, now) => [
    name(object),
    pairs(object.status?.used, object.status?.hard ?? object.spec?.hard, false),
    pairs(object.status?.used, object.status?.hard ?? object.spec?.hard, true),
    age(object, now),
  ],
  "horizontalpodautoscalers.autoscaling": (given, now) => {
    const object = convertTo(given, "autoscaling/v2");
    return [
      name(object),
      `${object.spec?.scaleTargetRef?.kind ?? ""}/${object.spec?.scaleTargetRef?.name ?? ""}`,
      targets(object.spec?.metrics ?? [], object.status?.currentMetrics ?? []),
      object.spec?.minReplicas === undefined ? "<unset>" : String(object.spec.minReplicas),
      String(object.spec?.maxReplicas ?? 0),
      String(object.status?.currentReplicas ?? 0),
      age(object, now),
    ];
  },
};
