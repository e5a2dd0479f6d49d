// Jobs: run pods until enough of them succeeded, or too many failed. Counts come from the pods that are there and never go
// back, so that a pod deleted later is still counted. Pod failure policies and success policies are not followed.
// Upstream: pkg/controller/job/job_controller.go.

import { semanticEqual } from "../api/data.ts";
import { type Job, type JobCondition, type JobStatus, Jobs, type Pod, Pods } from "../api/kinds.ts";
import type { KubeObject } from "../api/object.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { recorder } from "./events.ts";
import { eachChange, type Objects } from "./objects.ts";
import { claim, ownersOf } from "./ownership.ts";
import { isActive, isReady, podFromTemplate } from "./pods.ts";
import { inGrowingBatches } from "./replica-set.ts";

const indexAnnotation = "batch.kubernetes.io/job-completion-index";

export interface JobPlan {
  /** Pods to make; the completion index of each in an Indexed Job, else undefined. */
  readonly create: readonly (number | undefined)[];
  readonly remove: readonly Pod[];
  readonly status: JobStatus;
  /** Milliseconds after which time alone changes something. */
  readonly again: number | undefined;
}

export function jobPlan(job: Job, pods: readonly Pod[], now: number): JobPlan {
  const { status = {}, spec } = job;
  if (finished(status) || job.metadata.deletionTimestamp)
    return { create: [], remove: [], status, again: expiry(job, now) };
  const indexed = spec?.completionMode === "Indexed";
  const completions = spec?.completions;
  const parallelism = spec?.parallelism ?? 1;
  const active = pods.filter(isActive);
  const done = pods.filter((pod) => pod.status?.phase === "Succeeded");
  const doneIndexes = new Set(indexed ? [...parseIndexes(status.completedIndexes), ...done.map(indexOf)] : []);
  const succeeded = indexed ? doneIndexes.size : Math.max(status.succeeded ?? 0, done.length);
  const failed = Math.max(status.failed ?? 0, pods.filter((pod) => pod.status?.phase === "Failed").length);
  const suspended = spec?.suspend === true;
  const startTime = suspended ? undefined : (status.startTime ?? formatTime(now));
  const deadline = spec?.activeDeadlineSeconds;
  const overdue = startTime !== undefined && deadline !== undefined && Date.parse(startTime) + deadline * 1000 <= now;

  let end: Ending | undefined;
  if (completions !== undefined ? succeeded >= completions : succeeded > 0 && active.length === 0) {
    end = { type: "Complete", reason: "CompletionsReached", message: "Reached expected number of succeeded pods" };
  } else if (failed > (spec?.backoffLimit ?? 6)) {
    end = { type: "Failed", reason: "BackoffLimitExceeded", message: "Job has reached the specified backoff limit" };
  } else if (overdue) {
    end = { type: "Failed", reason: "DeadlineExceeded", message: "Job was active longer than specified deadline" };
  }

  const create: (number | undefined)[] = [];
  let remove: readonly Pod[] = [];
  if (end || suspended) remove = active;
  else {
    const left = completions === undefined ? (succeeded > 0 ? active.length : parallelism) : completions - succeeded;
    const wanted = Math.min(parallelism, Math.max(0, left));
    if (active.length > wanted)
      remove = [...active].sort((a, b) => Number(isReady(a)) - Number(isReady(b))).slice(0, active.length - wanted);
    const busy = new Set(active.map(indexOf));
    for (let next = 0; create.length < wanted - active.length; next++) {
      if (!indexed) create.push(undefined);
      else if (next >= (completions ?? 0)) break;
      else if (!busy.has(next) && !doneIndexes.has(next)) create.push(next);
    }
  }

  const activeAfter = end || suspended ? 0 : active.length;
  const ready = end || suspended ? 0 : active.filter(isReady).length;
  const conditions = [...(status.conditions ?? []).filter((one) => one.type !== "Suspended")];
  if (end) conditions.push(...endConditions(end, now));
  else if (suspended || status.conditions?.some((one) => one.type === "Suspended")) {
    conditions.push(suspension(suspended, status.conditions, now));
  }
  return {
    create,
    remove,
    status: {
      ...(startTime === undefined ? {} : { startTime }),
      ...(end?.type === "Complete" ? { completionTime: formatTime(now) } : {}),
      ...(activeAfter > 0 ? { active: activeAfter } : {}),
      ...(succeeded > 0 ? { succeeded } : {}),
      ...(failed > 0 ? { failed } : {}),
      ...(doneIndexes.size > 0 ? { completedIndexes: formatIndexes(doneIndexes) } : {}),
      terminating: pods.filter((pod) => pod.metadata.deletionTimestamp !== undefined).length,
      ready,
      uncountedTerminatedPods: {},
      ...(conditions.length > 0 ? { conditions } : {}),
    },
    again:
      end || startTime === undefined || deadline === undefined
        ? undefined
        : Date.parse(startTime) + deadline * 1000 - now,
  };
}

interface Ending {
  readonly type: "Complete" | "Failed";
  readonly reason: string;
  readonly message: string;
}

function endConditions(end: Ending, now: number): readonly JobCondition[] {
  const time = formatTime(now);
  const { reason, message } = end;
  const first = end.type === "Complete" ? "SuccessCriteriaMet" : "FailureTarget";
  return [first, end.type].map((type) => ({
    type,
    status: "True",
    lastProbeTime: time,
    lastTransitionTime: time,
    reason,
    message,
  }));
}

function suspension(suspended: boolean, before: readonly JobCondition[] | undefined, now: number): JobCondition {
  const status = suspended ? "True" : "False";
  const old = before?.find((one) => one.type === "Suspended");
  if (old?.status === status) return old;
  const time = formatTime(now);
  const word = suspended ? "Suspended" : "Resumed";
  return {
    type: "Suspended",
    status,
    lastProbeTime: time,
    lastTransitionTime: time,
    reason: `Job${word}`,
    message: `Job ${word.toLowerCase()}`,
  };
}

export function finished(status: JobStatus): boolean {
  return (status.conditions ?? []).some(
    (one) => (one.type === "Complete" || one.type === "Failed") && one.status === "True",
  );
}

/** Milliseconds until a finished Job is to be deleted; undefined when it stays. */
function expiry(job: Job, now: number): number | undefined {
  const seconds = job.spec?.ttlSecondsAfterFinished;
  const end = job.status?.conditions?.find(
    (one) => one.type === "Complete" || one.type === "Failed",
  )?.lastTransitionTime;
  if (seconds === undefined || end === undefined) return undefined;
  return Math.max(0, Date.parse(end) + seconds * 1000 - now);
}

function indexOf(pod: Pod): number {
  return Number(pod.metadata.annotations?.[indexAnnotation] ?? -1);
}

/** `0-2,5` (upstream's compressed form). */
export function formatIndexes(indexes: ReadonlySet<number>): string {
  const sorted = [...indexes].sort((a, b) => a - b);
  const parts: string[] = [];
  for (let at = 0; at < sorted.length; ) {
    let end = at;
    while (sorted[end + 1] === sorted[end]! + 1) end++;
    const gap = end - at;
    parts.push(
      gap === 0 ? `${sorted[at]}` : gap === 1 ? `${sorted[at]},${sorted[end]}` : `${sorted[at]}-${sorted[end]}`,
    );
    at = end + 1;
  }
  return parts.join(",");
}

export function parseIndexes(text: string | undefined): readonly number[] {
  return (text ?? "")
    .split(",")
    .filter((part) => part !== "")
    .flatMap((part) => {
      const [first = 0, last = first] = part.split("-").map(Number);
      return Array.from({ length: last - first + 1 }, (_, offset) => first + offset);
    });
}

/** The next pod of a Job. */
export function jobPod(job: Job, index: number | undefined): KubeObject {
  const pod = podFromTemplate(Jobs, job, job.spec!.template);
  if (index === undefined) return pod;
  const env = { name: "JOB_COMPLETION_INDEX", value: String(index) };
  const withIndex = (containers: readonly { env?: readonly unknown[] }[] = []) =>
    containers.map((container) => ({ ...container, env: [...(container.env ?? []), env] }));
  return {
    ...pod,
    metadata: {
      ...pod.metadata,
      generateName: `${job.metadata.name}-${index}-`,
      labels: { ...pod.metadata.labels, [indexAnnotation]: String(index) },
      annotations: { ...pod.metadata.annotations, [indexAnnotation]: String(index) },
    },
    spec: {
      ...pod.spec,
      hostname: `${job.metadata.name}-${index}`,
      containers: withIndex(pod.spec.containers),
      ...(pod.spec.initContainers ? { initContainers: withIndex(pod.spec.initContainers) } : {}),
    },
  };
}

export function startJobs(objects: Objects): Disposable {
  const record = recorder(objects, "job-controller");
  const jobs = objects.of(Jobs);

  const controller = startController({
    name: "job",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const job = jobs.get(key) as Job | undefined;
      if (!job) return undefined;
      const pods = (await claim(objects, Pods, Jobs, job, job.spec?.selector)) as readonly Pod[];
      const plan = jobPlan(job, pods, objects.clock.now());
      if (finished(job.status ?? {})) {
        if (plan.again === 0) await objects.delete(Jobs, job, { propagationPolicy: "Background" });
        return plan.again;
      }
      // The outcome is written first: were it lost, the pods that are removed now would be made again.
      const changed = !semanticEqual(plan.status, job.status);
      if (changed) await objects.updateStatus(Jobs, job, plan.status);
      if (changed && finished(plan.status)) {
        const end = plan.status.conditions!.at(-1)!;
        const normal = end.type === "Complete";
        record(job, {
          type: normal ? "Normal" : "Warning",
          reason: normal ? "Completed" : (end.reason ?? ""),
          message: normal ? "Job completed" : (end.message ?? ""),
        });
      }
      await Promise.all(plan.remove.map((pod) => objects.delete(Pods, pod)));
      const error = await inGrowingBatches(plan.create.length, async (at) => {
        const pod = await objects.create(Pods, jobPod(job, plan.create[at]));
        record(job, { type: "Normal", reason: "SuccessfulCreate", message: `Created pod: ${pod.metadata.name}` });
      });
      if (error) {
        record(job, { type: "Warning", reason: "FailedCreate", message: `Error creating: ${messageOf(error)}` });
        throw error;
      }
      return plan.again;
    },
  });

  return disposeAll([
    controller,
    eachChange(jobs, (_job, { key }) => controller.enqueue(key)),
    eachChange(objects.of(Pods), (_pod, change) => {
      for (const owner of ownersOf(objects, Jobs, change)) controller.enqueue(owner);
    }),
  ]);
}
