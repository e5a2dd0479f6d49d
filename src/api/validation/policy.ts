// Rules of PodDisruptionBudgets and HorizontalPodAutoscalers (pkg/apis/policy/validation, pkg/apis/autoscaling/validation).

import type { KubeObject } from "../object.ts";
import { type FieldError, invalidValue, notSupported, required } from "./field-error.ts";
import { intOrPercent, isPercent, nonNegative, validateLabelSelector } from "./workloads.ts";

export function validatePodDisruptionBudget(object: KubeObject): FieldError[] {
  const { minAvailable, maxUnavailable, selector, unhealthyPodEvictionPolicy: policy } = object.spec ?? {};
  const errors: FieldError[] = [];
  if (minAvailable !== undefined && maxUnavailable !== undefined) {
    errors.push(invalidValue("spec", object.spec, "minAvailable and maxUnavailable cannot be both set"));
  }
  for (const [field, value] of Object.entries({ minAvailable, maxUnavailable })) {
    errors.push(...intOrPercent(value, `spec.${field}`));
    if (isPercent(value) && Number.parseInt(value, 10) > 100)
      errors.push(invalidValue(`spec.${field}`, value, "must not be greater than 100%"));
  }
  errors.push(...validateLabelSelector(selector, "spec.selector"));
  const policies = ["AlwaysAllow", "IfHealthyBudget"];
  if (policy !== undefined && !policies.includes(policy))
    errors.push(notSupported("spec.unhealthyPodEvictionPolicy", policy, policies));
  return errors;
}

/** The field of a metric that says where it comes from, by its type. */
const sources: Readonly<Record<string, string>> = {
  ContainerResource: "containerResource",
  External: "external",
  Object: "object",
  Pods: "pods",
  Resource: "resource",
};

export function validateHorizontalPodAutoscaler(object: KubeObject): FieldError[] {
  const { minReplicas, maxReplicas = 0, scaleTargetRef = {}, metrics = [] } = object.spec ?? {};
  const errors: FieldError[] = [];
  if (minReplicas !== undefined && minReplicas < 1)
    errors.push(invalidValue("spec.minReplicas", minReplicas, "must be greater than or equal to 1"));
  if (maxReplicas < 1) errors.push(invalidValue("spec.maxReplicas", maxReplicas, "must be greater than 0"));
  if (minReplicas !== undefined && maxReplicas < minReplicas)
    errors.push(invalidValue("spec.maxReplicas", maxReplicas, "must be greater than or equal to `minReplicas`"));
  for (const field of ["kind", "name"])
    if (!scaleTargetRef[field]) errors.push(required(`spec.scaleTargetRef.${field}`));
  for (const [at, metric] of (metrics as readonly KubeObject[]).entries()) {
    errors.push(...metricErrors(metric, `spec.metrics[${at}]`));
  }
  for (const rules of ["scaleUp", "scaleDown"]) {
    const { stabilizationWindowSeconds: window } = object.spec?.behavior?.[rules] ?? {};
    const path = `spec.behavior.${rules}.stabilizationWindowSeconds`;
    errors.push(...nonNegative(path, window));
    if (window > 3600) errors.push(invalidValue(path, window, "must be less than or equal to 3600"));
  }
  return errors;
}

function metricErrors(metric: KubeObject, path: string): FieldError[] {
  const type: unknown = metric["type"];
  if (typeof type !== "string" || type === "") return [required(`${path}.type`, "must specify a metric source type")];
  const field = sources[type];
  if (field === undefined) return [notSupported(`${path}.type`, type, Object.keys(sources).sort())];
  const source = metric[field] as KubeObject["spec"];
  if (source === undefined)
    return [required(`${path}.${field}`, "must populate information for the given metric source")];
  const errors: FieldError[] = [];
  if (field === "resource" || field === "containerResource") {
    if (!source.name) errors.push(required(`${path}.${field}.name`, "must specify a resource name"));
    const { averageUtilization, averageValue } = source.target ?? {};
    if (averageUtilization === undefined && averageValue === undefined) {
      const detail = "must set either a target raw value or a target utilization";
      errors.push(required(`${path}.${field}.target.averageUtilization`, detail));
    }
    if (typeof averageUtilization === "number" && averageUtilization < 1)
      errors.push(
        invalidValue(`${path}.${field}.target.averageUtilization`, averageUtilization, "must be greater than 0"),
      );
  } else if (!source.metric?.name) errors.push(required(`${path}.${field}.metric.name`, "must specify a metric name"));
  return errors;
}
