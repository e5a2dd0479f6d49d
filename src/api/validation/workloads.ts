// Rules of what makes pods: Deployments, ReplicaSets, StatefulSets, DaemonSets, Jobs, CronJobs
// (pkg/apis/apps/validation, pkg/apis/batch/validation).

import { messageOf } from "../../base/errors.ts";
import { isTimeZone, parseCron } from "../cron.ts";
import { isEmpty, isRecord, semanticEqual } from "../data.ts";
import type { KubeObject } from "../object.ts";
import { type LabelSelectorObject, matchesLabelSelector } from "../selectors.ts";
import { child, type FieldError, forbidden, invalidValue, notSupported, required } from "./field-error.ts";
import { immutableField } from "./metadata.ts";
import { labelNameProblems, labelValueProblems } from "./names.ts";
import { validatePodTemplate } from "./pod.ts";

const atLeastZero = "must be greater than or equal to 0";

/** `Invalid value: -1: must be greater than or equal to 0` for a negative number. */
export function nonNegative(path: string, value: unknown): FieldError[] {
  return typeof value === "number" && value < 0 ? [invalidValue(path, value, atLeastZero)] : [];
}

export function validateLabelSelector(selector: LabelSelectorObject | undefined, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!selector) return errors;
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    for (const problem of labelNameProblems(key)) errors.push(invalidValue(`${path}.matchLabels`, key, problem));
    for (const problem of labelValueProblems(value)) errors.push(invalidValue(`${path}.matchLabels`, value, problem));
  }
  for (const [index, term] of (selector.matchExpressions ?? []).entries()) {
    const at = `${path}.matchExpressions[${index}]`;
    if (term.operator === "In" || term.operator === "NotIn") {
      if (isEmpty(term.values))
        errors.push(required(`${at}.values`, "must be specified when `operator` is 'In' or 'NotIn'"));
    } else if (term.operator === "Exists" || term.operator === "DoesNotExist") {
      if (!isEmpty(term.values))
        errors.push(forbidden(`${at}.values`, "may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
    } else errors.push(invalidValue(`${at}.operator`, term.operator ?? "", "not a valid selector operator"));
    for (const problem of labelNameProblems(term.key ?? "")) errors.push(invalidValue(`${at}.key`, term.key, problem));
  }
  return errors;
}

/** A selector that every workload must have, and that must select its own pods. */
function selectorAndTemplate(object: KubeObject, policies: readonly string[]): FieldError[] {
  const errors: FieldError[] = [];
  const spec = object.spec ?? {};
  const selector: LabelSelectorObject | undefined = spec.selector;
  if (selector === undefined) errors.push(required("spec.selector"));
  else {
    errors.push(...validateLabelSelector(selector, "spec.selector"));
    if (isEmpty(selector.matchLabels) && isEmpty(selector.matchExpressions)) {
      errors.push(
        invalidValue("spec.selector", selector, "empty selector is invalid for " + object.kind.toLowerCase()),
      );
    }
  }
  const labels = spec.template?.metadata?.labels;
  const empty = selector !== undefined && isEmpty(selector.matchLabels) && isEmpty(selector.matchExpressions);
  if (!empty && !matchesLabelSelector(selector, labels ?? {})) {
    errors.push(
      invalidValue("spec.template.metadata.labels", labels ?? null, "`selector` does not match template `labels`"),
    );
  }
  errors.push(...validatePodTemplate(spec.template, "spec.template"));
  const policy = spec.template?.spec?.restartPolicy;
  if (policy !== undefined && !policies.includes(policy)) {
    errors.push(notSupported("spec.template.spec.restartPolicy", policy, policies));
  }
  return errors;
}

export const isPercent = (value: unknown): value is string => typeof value === "string" && /^[0-9]+%$/.test(value);

/** A count, or a percentage in words like `25%`. */
export function intOrPercent(value: unknown, path: string): FieldError[] {
  if (typeof value === "number") return nonNegative(path, value);
  if (value === undefined || isPercent(value)) return [];
  return [
    invalidValue(
      path,
      value,
      "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
    ),
  ];
}

const isZero = (value: unknown) => value === 0 || (isPercent(value) && Number.parseInt(value, 10) === 0);

export function validateDeployment(object: KubeObject): FieldError[] {
  const spec = object.spec ?? {};
  const errors = [...nonNegative("spec.replicas", spec.replicas), ...selectorAndTemplate(object, ["Always"])];
  const strategy = spec.strategy ?? {};
  const path = "spec.strategy";
  if (strategy.type === "Recreate") {
    if (strategy.rollingUpdate !== undefined)
      errors.push(forbidden(`${path}.rollingUpdate`, "may not be specified when strategy `type` is 'Recreate'"));
  } else if (strategy.type === "RollingUpdate") {
    const { maxSurge, maxUnavailable } = strategy.rollingUpdate ?? {};
    const at = `${path}.rollingUpdate`;
    errors.push(...intOrPercent(maxUnavailable, `${at}.maxUnavailable`), ...intOrPercent(maxSurge, `${at}.maxSurge`));
    if (isZero(maxUnavailable) && isZero(maxSurge))
      errors.push(invalidValue(`${at}.maxUnavailable`, maxUnavailable, "may not be 0 when `maxSurge` is 0"));
    if (isPercent(maxUnavailable) && Number.parseInt(maxUnavailable, 10) > 100)
      errors.push(invalidValue(`${at}.maxUnavailable`, maxUnavailable, "must not be greater than 100%"));
  } else errors.push(notSupported(`${path}.type`, strategy.type ?? "", ["Recreate", "RollingUpdate"]));
  errors.push(
    ...nonNegative("spec.minReadySeconds", spec.minReadySeconds),
    ...nonNegative("spec.revisionHistoryLimit", spec.revisionHistoryLimit),
    ...nonNegative("spec.progressDeadlineSeconds", spec.progressDeadlineSeconds),
  );
  if (typeof spec.progressDeadlineSeconds === "number" && spec.progressDeadlineSeconds <= (spec.minReadySeconds ?? 0)) {
    errors.push(
      invalidValue(
        "spec.progressDeadlineSeconds",
        spec.progressDeadlineSeconds,
        "must be greater than minReadySeconds",
      ),
    );
  }
  return errors;
}

export function validateReplicaSet(object: KubeObject): FieldError[] {
  return [
    ...nonNegative("spec.replicas", object.spec?.replicas),
    ...nonNegative("spec.minReadySeconds", object.spec?.minReadySeconds),
    ...selectorAndTemplate(object, ["Always"]),
  ];
}

export function validateDaemonSet(object: KubeObject): FieldError[] {
  const type = object.spec?.updateStrategy?.type;
  return [
    ...selectorAndTemplate(object, ["Always"]),
    ...nonNegative("spec.minReadySeconds", object.spec?.minReadySeconds),
    ...(type === "RollingUpdate" || type === "OnDelete"
      ? []
      : [notSupported("spec.updateStrategy", type ?? "", ["OnDelete", "RollingUpdate"])]),
    ...nonNegative("spec.revisionHistoryLimit", object.spec?.revisionHistoryLimit),
  ];
}

export function validateStatefulSet(object: KubeObject): FieldError[] {
  const spec = object.spec ?? {};
  const errors: FieldError[] = [];
  const management = spec.podManagementPolicy;
  if (management !== "OrderedReady" && management !== "Parallel") {
    errors.push(invalidValue("spec.podManagementPolicy", management ?? "", "must be 'OrderedReady' or 'Parallel'"));
  }
  const type = spec.updateStrategy?.type;
  if (type !== "RollingUpdate" && type !== "OnDelete")
    errors.push(
      invalidValue("spec.updateStrategy", spec.updateStrategy ?? {}, "must be 'RollingUpdate' or 'OnDelete'"),
    );
  else if (type === "RollingUpdate")
    errors.push(
      ...nonNegative("spec.updateStrategy.rollingUpdate.partition", spec.updateStrategy?.rollingUpdate?.partition),
      ...intOrPercent(
        spec.updateStrategy?.rollingUpdate?.maxUnavailable,
        "spec.updateStrategy.rollingUpdate.maxUnavailable",
      ),
    );
  errors.push(
    ...nonNegative("spec.replicas", spec.replicas),
    ...nonNegative("spec.minReadySeconds", spec.minReadySeconds),
  );
  return [...errors, ...selectorAndTemplate(withClaims(object), ["Always"])];
}

/** What the template mounts may be a claim that each pod gets of its own. */
function withClaims(object: KubeObject): KubeObject {
  const { template, volumeClaimTemplates = [] } = object.spec ?? {};
  const given: readonly { name?: string }[] = template?.spec?.volumes ?? [];
  const claims = (volumeClaimTemplates as readonly { metadata?: { name?: string } }[])
    .map(({ metadata }) => metadata?.name)
    .filter((name) => name !== undefined && !given.some((one) => one.name === name))
    .map((name) => ({ name, emptyDir: {} }));
  if (claims.length === 0 || !template?.spec) return object;
  const spec = { ...template.spec, volumes: [...given, ...claims] };
  return { ...object, spec: { ...object.spec, template: { ...template, spec } } };
}

/** apps/v1 selectors may not change; a StatefulSet may change in few places only. */
export function validateSelectorUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  return immutableField("spec.selector", object.spec?.selector, old.spec?.selector);
}

const statefulSetMutable = [
  "replicas",
  "ordinals",
  "template",
  "updateStrategy",
  "revisionHistoryLimit",
  "persistentVolumeClaimRetentionPolicy",
  "minReadySeconds",
];

export function validateStatefulSetUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  const rest = (spec: unknown) =>
    isRecord(spec)
      ? Object.fromEntries(Object.entries(spec).filter(([field]) => !statefulSetMutable.includes(field)))
      : {};
  if (semanticEqual(rest(object.spec), rest(old.spec))) return [];
  return [
    forbidden(
      "spec",
      "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden",
    ),
  ];
}

export function validateJob(object: KubeObject, path = "spec"): FieldError[] {
  const spec = (path === "spec" ? object.spec : object.spec?.jobTemplate?.spec) ?? {};
  const errors: FieldError[] = [];
  for (const field of [
    "parallelism",
    "completions",
    "activeDeadlineSeconds",
    "backoffLimit",
    "ttlSecondsAfterFinished",
  ]) {
    errors.push(...nonNegative(child(path, field), spec[field]));
  }
  if (spec.completionMode === "Indexed" && spec.completions === undefined) {
    errors.push(required(child(path, "completions"), "when completion mode is Indexed"));
  }
  errors.push(...validatePodTemplate(spec.template, `${path}.template`));
  const policy = spec.template?.spec?.restartPolicy;
  if (policy === "Always") {
    errors.push(required(`${path}.template.spec.restartPolicy`, 'valid values: "OnFailure", "Never"'));
  } else if (policy !== undefined && policy !== "OnFailure" && policy !== "Never") {
    errors.push(notSupported(`${path}.template.spec.restartPolicy`, policy, ["OnFailure", "Never"]));
  }
  return errors;
}

export function validateJobUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  const errors = [
    ...(old.spec?.completionMode === "Indexed"
      ? []
      : immutableField("spec.completions", object.spec?.completions, old.spec?.completions)),
    ...immutableField("spec.selector", object.spec?.selector, old.spec?.selector),
    ...immutableField("spec.completionMode", object.spec?.completionMode, old.spec?.completionMode),
    ...immutableField("spec.backoffLimitPerIndex", object.spec?.backoffLimitPerIndex, old.spec?.backoffLimitPerIndex),
    ...immutableField("spec.managedBy", object.spec?.managedBy, old.spec?.managedBy),
  ];
  if (!semanticEqual(object.spec?.template, old.spec?.template) && !old.spec?.suspend) {
    errors.push(...immutableField("spec.template", object.spec?.template, old.spec?.template));
  }
  return errors;
}

export function validateCronJob(object: KubeObject): FieldError[] {
  const spec = object.spec ?? {};
  const errors: FieldError[] = [];
  if (!spec.schedule) errors.push(required("spec.schedule"));
  else {
    const problem = cronProblem(spec.schedule);
    if (problem) errors.push(invalidValue("spec.schedule", spec.schedule, problem));
  }
  errors.push(...validateTimeZone(spec.timeZone, "spec.timeZone"));
  errors.push(...nonNegative("spec.startingDeadlineSeconds", spec.startingDeadlineSeconds));
  const policies = ["Allow", "Forbid", "Replace"];
  if (!spec.concurrencyPolicy) errors.push(required("spec.concurrencyPolicy"));
  else if (!policies.includes(spec.concurrencyPolicy))
    errors.push(notSupported("spec.concurrencyPolicy", spec.concurrencyPolicy, policies));
  errors.push(
    ...nonNegative("spec.successfulJobsHistoryLimit", spec.successfulJobsHistoryLimit),
    ...nonNegative("spec.failedJobsHistoryLimit", spec.failedJobsHistoryLimit),
  );
  if (object.metadata.name.length > 52)
    errors.push(invalidValue("metadata.name", object.metadata.name, "must be no more than 52 characters"));
  return [...errors, ...validateJob(object, "spec.jobTemplate.spec")];
}

/** What the cron parser says of a schedule; undefined when it is one. */
function cronProblem(schedule: string): string | undefined {
  if (schedule.includes("TZ=")) return "cannot use TZ or CRON_TZ in schedule, use timeZone field instead";
  try {
    parseCron(schedule);
    return undefined;
  } catch (error) {
    return messageOf(error);
  }
}

/** pkg/apis/batch/validation validateTimeZone. */
function validateTimeZone(zone: string | undefined, path: string): FieldError[] {
  if (zone === undefined) return [];
  if (zone === "") return [invalidValue(path, zone, "timeZone must be nil or non-empty string")];
  if (zone.toLowerCase() === "local") {
    const detail = "timeZone must be an explicit time zone as defined in https://www.iana.org/time-zones";
    return [invalidValue(path, zone, detail)];
  }
  return isTimeZone(zone) ? [] : [invalidValue(path, zone, `unknown time zone ${zone}`)];
}
