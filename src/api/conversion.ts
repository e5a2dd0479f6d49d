// Objects between the versions of their kind. Versions of custom resources differ in name only; of built-in kinds, only
// HorizontalPodAutoscalers are served in two that differ: kept in autoscaling/v2, and what v1 has no field for stands in annotations
// (pkg/apis/autoscaling/v1/conversion.go; the annotations: pkg/apis/autoscaling/annotations.go).

import { isRecord } from "./data.ts";
import { defaultCpuMetric } from "./defaults.ts";
import type { KubeObject } from "./object.ts";

const annotation = "autoscaling.alpha.kubernetes.io/";
const [metricsKey, currentMetricsKey, conditionsKey, behaviorKey] = [
  `${annotation}metrics`,
  `${annotation}current-metrics`,
  `${annotation}conditions`,
  `${annotation}behavior`,
];

type Fields = Record<string, unknown>;

/** The object in this version of its group. */
export function convertTo<T extends KubeObject>(object: T, apiVersion: string): T;
export function convertTo(object: KubeObject, apiVersion: string): KubeObject {
  if (object.apiVersion === apiVersion) return object;
  if (object.kind === "HorizontalPodAutoscaler") {
    if (apiVersion === "autoscaling/v1") return autoscalerToV1(object);
    if (object.apiVersion === "autoscaling/v1") return autoscalerFromV1(object);
  }
  return { ...object, apiVersion };
}

function autoscalerToV1(object: KubeObject): KubeObject {
  const { metrics, behavior, ...spec } = fields(object.spec);
  const { currentMetrics, conditions, ...status } = fields(object.status);
  const all = list(metrics);
  const isCpu = (one: Fields) => averageCpu(one, "target") !== undefined;
  const target = all.filter(isCpu).map((one) => averageCpu(one, "target"))[0];
  const current = list(currentMetrics)
    .map((one) => averageCpu(one, "current"))
    .find((one) => one !== undefined);
  const others = all.filter((one) => !isCpu(one)).map(metricToV1("target"));
  const notes: Record<string, string> = {
    ...(others.length > 0 ? { [metricsKey]: JSON.stringify(others) } : {}),
    ...(list(currentMetrics).length > 0
      ? { [currentMetricsKey]: JSON.stringify(list(currentMetrics).map(metricToV1("current"))) }
      : {}),
    ...(list(conditions).length > 0 ? { [conditionsKey]: JSON.stringify(conditions) } : {}),
    // Upstream writes its internal type here, whose fields have capital letters.
    ...(isRecord(behavior)
      ? { [behaviorKey]: JSON.stringify(renamed(behavior, (name) => name[0]!.toUpperCase())) }
      : {}),
  };
  return {
    ...object,
    apiVersion: "autoscaling/v1",
    metadata: annotated(object, notes),
    spec: { ...spec, ...(target === undefined ? {} : { targetCPUUtilizationPercentage: target }) },
    ...(object.status === undefined
      ? {}
      : { status: { ...status, ...(current === undefined ? {} : { currentCPUUtilizationPercentage: current }) } }),
  } as KubeObject;
}

/** Annotations that cannot be read are taken for absent, as upstream does; none of them stays. */
function autoscalerFromV1(object: KubeObject): KubeObject {
  const { targetCPUUtilizationPercentage: target, ...spec } = fields(object.spec);
  const { currentCPUUtilizationPercentage: current, ...status } = fields(object.status);
  const read = (key: string): unknown => {
    try {
      return JSON.parse(object.metadata.annotations?.[key] ?? "null");
    } catch {
      return null;
    }
  };
  const cpu = (key: string, value: unknown) => ({
    type: "Resource",
    resource: {
      name: "cpu",
      [key]: { ...(key === "target" ? { type: "Utilization" } : {}), averageUtilization: value },
    },
  });
  const metrics = [
    ...list(read(metricsKey)).map(metricFromV1("target")),
    ...(target === undefined ? [] : [cpu("target", target)]),
  ];
  const behavior = read(behaviorKey);
  const told = list(read(currentMetricsKey)).map(metricFromV1("current"));
  const currentMetrics = told.length > 0 || current === undefined ? told : [cpu("current", current)];
  const conditions = list(read(conditionsKey));
  return {
    ...object,
    apiVersion: "autoscaling/v2",
    metadata: annotated(object, {}),
    spec: {
      ...spec,
      metrics: metrics.length > 0 ? metrics : [defaultCpuMetric],
      ...(isRecord(behavior) ? { behavior: renamed(behavior, (name) => name[0]!.toLowerCase()) } : {}),
    },
    ...(object.status === undefined
      ? {}
      : {
          status: {
            ...status,
            ...(currentMetrics.length > 0 ? { currentMetrics } : {}),
            ...(conditions.length > 0 ? { conditions } : {}),
          },
        }),
  } as KubeObject;
}

function averageCpu({ type, resource }: Fields, key: "target" | "current"): unknown {
  const { name, [key]: value } = fields(resource);
  return type === "Resource" && name === "cpu" ? fields(value)["averageUtilization"] : undefined;
}

/** The field of a metric that has its particulars. */
const sources: Readonly<Record<string, string>> = {
  Resource: "resource",
  ContainerResource: "containerResource",
  Pods: "pods",
  Object: "object",
  External: "external",
};

/** Where a metric says what it shall be (spec) or what it is (status): the field in v2, and in v1 the first word of several. */
type Side = "target" | "current";

/** v1 has what a metric measures and what it shall be, or is, in fields beside each other. */
function metricToV1(side: Side): (metric: Fields) => Fields {
  return (metric) => {
    const source = sources[String(metric["type"])] ?? "";
    const { [side]: amount, metric: measured, describedObject, ...rest } = fields(metric[source]);
    const { averageUtilization, averageValue, value } = fields(amount);
    return {
      type: metric["type"],
      [source]: present({
        ...rest,
        ...(describedObject === undefined ? {} : { target: describedObject }),
        ...measuredToV1(source, measured),
        [`${side}AverageUtilization`]: averageUtilization,
        [source === "object" ? "averageValue" : `${side}AverageValue`]: averageValue,
        [`${side}Value`]: value,
      }),
    };
  };
}

function metricFromV1(side: Side): (metric: Fields) => Fields {
  return (metric) => {
    const source = sources[String(metric["type"])] ?? "";
    const {
      [`${side}AverageUtilization`]: averageUtilization,
      [`${side}AverageValue`]: average,
      averageValue: ofObject,
      [`${side}Value`]: value,
      target,
      ...given
    } = fields(metric[source]);
    const { measured, rest } = measuredFromV1(source, given);
    const averageValue = average ?? ofObject;
    const type =
      averageUtilization !== undefined ? "Utilization" : averageValue !== undefined ? "AverageValue" : "Value";
    return {
      type: metric["type"],
      [source]: present({
        ...rest,
        describedObject: source === "object" ? target : undefined,
        metric: measured,
        [side]: present({ type: side === "target" ? type : undefined, averageUtilization, averageValue, value }),
      }),
    };
  };
}

function measuredToV1(source: string, measured: unknown): Fields {
  if (!isRecord(measured)) return {};
  const selector = source === "external" ? "metricSelector" : "selector";
  return present({ metricName: measured["name"], [selector]: measured["selector"] });
}

function measuredFromV1(
  source: string,
  given: Fields,
): { readonly measured: Fields | undefined; readonly rest: Fields } {
  const { metricName, metricSelector, selector, ...rest } = given;
  if (metricName === undefined) return { measured: undefined, rest: given };
  return { measured: present({ name: metricName, selector: source === "external" ? metricSelector : selector }), rest };
}

/** With all field names' first letters changed, in depth; Go writes null where nothing is. */
function renamed(value: unknown, first: (name: string) => string): unknown {
  if (Array.isArray(value)) return value.map((one) => renamed(one, first));
  if (!isRecord(value)) return value;
  return Object.fromEntries(
    Object.entries(value).flatMap(([name, field]) =>
      field === null || field === undefined ? [] : [[`${first(name)}${name.slice(1)}`, renamed(field, first)]],
    ),
  );
}

/** The metadata with these of the annotations above, and without the others of them. */
function annotated({ metadata }: KubeObject, notes: Readonly<Record<string, string>>): KubeObject["metadata"] {
  const { annotations = {}, ...rest } = metadata;
  const kept = Object.entries(annotations).filter(
    ([key]) => ![metricsKey, currentMetricsKey, conditionsKey, behaviorKey].includes(key),
  );
  const all = { ...Object.fromEntries(kept), ...notes };
  return Object.keys(all).length > 0 ? { ...rest, annotations: all } : rest;
}

function fields(value: unknown): Fields {
  return isRecord(value) ? value : {};
}

function list(value: unknown): readonly Fields[] {
  return Array.isArray(value) ? value.filter(isRecord) : [];
}

function present(given: Fields): Fields {
  return Object.fromEntries(Object.entries(given).filter(([, value]) => value !== undefined && value !== null));
}
