// The rows of what makes pods (pkg/printers/internalversion/printers.go): Deployments, ReplicaSets, DaemonSets, Jobs, CronJobs.

import { age, type ConditionLike, containers, labels, name, none, type Printer } from "./cells.ts";
import { ageOf, humanDuration } from "./duration.ts";
import { formatLabelSelector } from "./selectors.ts";

export const deployment: Printer = (object, now) => {
  const [names, images] = containers(object.spec?.template);
  return [
    name(object),
    `${object.status?.readyReplicas ?? 0}/${object.spec?.replicas ?? 0}`,
    object.status?.updatedReplicas ?? 0,
    object.status?.availableReplicas ?? 0,
    age(object, now),
    names,
    images,
    formatLabelSelector(object.spec?.selector),
  ];
};

export const replicaSet: Printer = (object, now) => {
  const [names, images] = containers(object.spec?.template);
  return [
    name(object),
    object.spec?.replicas ?? 0,
    object.status?.replicas ?? 0,
    object.status?.readyReplicas ?? 0,
    age(object, now),
    names,
    images,
    object.kind === "ReplicationController"
      ? labels(object.spec?.selector)
      : formatLabelSelector(object.spec?.selector),
  ];
};

export const daemonSet: Printer = (object, now) => {
  const [names, images] = containers(object.spec?.template);
  const status = object.status ?? {};
  return [
    name(object),
    status.desiredNumberScheduled ?? 0,
    status.currentNumberScheduled ?? 0,
    status.numberReady ?? 0,
    status.updatedNumberScheduled ?? 0,
    status.numberAvailable ?? 0,
    labels(object.spec?.template?.spec?.nodeSelector),
    age(object, now),
    names,
    images,
    formatLabelSelector(object.spec?.selector),
  ];
};

export const job: Printer = (object, now) => {
  const spec = object.spec ?? {};
  const status = object.status ?? {};
  const conditions = (status.conditions ?? []) as readonly ConditionLike[];
  const has = (type: string) => conditions.some((one) => one.type === type && one.status === "True");
  const state = has("Complete")
    ? "Complete"
    : has("Failed")
      ? "Failed"
      : object.metadata.deletionTimestamp
        ? "Terminating"
        : has("Suspended")
          ? "Suspended"
          : has("FailureTarget")
            ? "FailureTarget"
            : has("SuccessCriteriaMet")
              ? "SuccessCriteriaMet"
              : "Running";
  const done = status.succeeded ?? 0;
  const completions =
    spec.completions !== undefined
      ? `${done}/${spec.completions}`
      : (spec.parallelism ?? 0) > 1
        ? `${done}/1 of ${spec.parallelism}`
        : `${done}/1`;
  const start = status.startTime ? Date.parse(status.startTime) : undefined;
  const end = status.completionTime ? Date.parse(status.completionTime) : now;
  const [names, images] = containers(spec.template);
  return [
    name(object),
    state,
    completions,
    start === undefined ? "" : humanDuration(end - start),
    age(object, now),
    names,
    images,
    formatLabelSelector(spec.selector),
  ];
};

export const cronJob: Printer = (object, now) => {
  const template = object.spec?.jobTemplate?.spec;
  const [names, images] = containers(template?.template);
  return [
    name(object),
    object.spec?.schedule ?? "",
    object.spec?.timeZone ?? none,
    object.spec?.suspend === undefined ? "<unset>" : object.spec.suspend ? "True" : "False",
    (object.status?.active ?? []).length,
    object.status?.lastScheduleTime ? ageOf(object.status.lastScheduleTime, now) : none,
    age(object, now),
    names,
    images,
    formatLabelSelector(template?.selector),
  ];
};
