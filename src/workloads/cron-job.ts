// CronJobs: a Job at each time of a schedule, and no more of the finished ones than are to be kept. Upstream:
// pkg/controller/cronjob/cronjob_controllerv2.go, whose events, names and annotations these are.

import { formatTimeIn, isTimeZone, parseCron } from "../api/cron.ts";
import { semanticEqual } from "../api/data.ts";
import { type CronJob, type CronJobStatus, CronJobs, type Job, Jobs, type ObjectReference } from "../api/kinds.ts";
import { type KubeObject, nameOf } from "../api/object.ts";
import { isStatusReason } from "../api/status-error.ts";
import { formatTime } from "../api/strategy.ts";
import { type Disposable, disposeAll } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { startController } from "./controller.ts";
import { dueTime, untilNext } from "./cron-times.ts";
import { type Occurrence, recorder } from "./events.ts";
import { finished } from "./job.ts";
import { controllerOf, controllerReference, eachChange, type Objects } from "./objects.ts";

const timestampAnnotation = "batch.kubernetes.io/cronjob-scheduled-timestamp";

export interface CronJobPlan {
  /** What is now known of the Jobs that were started. */
  readonly status: CronJobStatus;
  readonly events: readonly Occurrence[];
  /** Jobs that are to go before the next one starts, or because enough others are kept. */
  readonly remove: readonly Job[];
  /** The time for which a Job is to be started now. */
  readonly start: number | undefined;
  /** Milliseconds until the next start; undefined when there will be none. */
  readonly again: number | undefined;
}

/** `jobs` are those that this CronJob controls. `now` in milliseconds. */
export function cronJobPlan(cronJob: CronJob, jobs: readonly Job[], now: number): CronJobPlan {
  const events: Occurrence[] = [];
  const tell = (type: Occurrence["type"], reason: string, message: string) => events.push({ type, reason, message });
  const status = jobsStatus(cronJob, jobs, tell);
  const surplus = [
    ...oldest(jobs, "Complete", cronJob.spec?.successfulJobsHistoryLimit),
    ...oldest(jobs, "Failed", cronJob.spec?.failedJobsHistoryLimit),
  ];
  const rest = (again?: number): CronJobPlan => ({ status, events, remove: surplus, start: undefined, again });
  const { spec } = cronJob;
  if (!spec || cronJob.metadata.deletionTimestamp !== undefined) return rest();
  if (spec.timeZone !== undefined && !isTimeZone(spec.timeZone)) {
    const zone = JSON.stringify(spec.timeZone);
    tell("Warning", "UnknownTimeZone", `invalid timeZone: ${zone}: unknown time zone ${spec.timeZone}`);
    return rest();
  }
  if (spec.suspend) return rest();
  let schedule: ReturnType<typeof parseCron>;
  let due: ReturnType<typeof dueTime>;
  try {
    schedule = parseCron(spec.schedule);
  } catch (error) {
    const text = JSON.stringify(spec.schedule);
    tell("Warning", "UnparseableSchedule", `unparseable schedule: ${text} : ${messageOf(error)}`);
    return rest();
  }
  try {
    due = dueTime({ ...cronJob, status }, schedule, now, true);
  } catch (error) {
    const text = JSON.stringify(spec.schedule);
    tell("Warning", "InvalidSchedule", `invalid schedule: ${text} : ${messageOf(error)}`);
    return rest();
  }
  if (due.tooMany) {
    const remedy = "Set or decrease .spec.startingDeadlineSeconds or check clock skew";
    tell("Warning", "TooManyMissedTimes", `too many missed start times. ${remedy}`);
  }
  const { time } = due;
  const again = untilNext({ ...cronJob, status }, schedule, now);
  if (time === undefined) return rest(again);
  if (spec.startingDeadlineSeconds !== undefined && time + spec.startingDeadlineSeconds * 1000 < now) {
    tell("Warning", "MissSchedule", `Missed scheduled time to start a job: ${new Date(time).toUTCString()}`);
    return rest(again);
  }
  const active = status.active ?? [];
  const name = jobName(cronJob, time);
  if (active.some((one) => one.name === name) || Date.parse(status.lastScheduleTime ?? "") === time) return rest(again);
  if (spec.concurrencyPolicy === "Forbid" && active.length > 0) {
    const why = "prior execution is running and concurrency policy is Forbid";
    tell("Normal", "JobAlreadyActive", `Not starting job because ${why}`);
    return rest(again);
  }
  const replaced =
    spec.concurrencyPolicy === "Replace"
      ? jobs.filter((job) => active.some(({ uid }) => uid === job.metadata.uid))
      : [];
  const gone = new Set(replaced.map(({ metadata }) => metadata.uid));
  const left = active.filter(({ uid }) => !gone.has(uid));
  return { status: withActive(status, left), events, remove: [...surplus, ...replaced], start: time, again };
}

/** The status with what has become of the Jobs, telling it. */
function jobsStatus(
  cronJob: CronJob,
  jobs: readonly Job[],
  tell: (type: Occurrence["type"], reason: string, message: string) => void,
): CronJobStatus {
  const before = cronJob.status ?? {};
  let active = [...(before.active ?? [])];
  let { lastSuccessfulTime } = before;
  const byUid = new Map(jobs.map((job) => [job.metadata.uid, job]));
  for (const job of jobs) {
    const { name, uid } = job.metadata;
    const found = active.some((one) => one.uid === uid);
    const end = finished(job.status ?? {}) ? endOf(job) : undefined;
    if (!found && end === undefined && job.metadata.deletionTimestamp === undefined) {
      const message = `Saw a job that the controller did not create or forgot: ${name}`;
      tell("Warning", "UnexpectedJob", message);
    } else if (found && end !== undefined) {
      active = active.filter((one) => one.uid !== uid);
      tell("Normal", "SawCompletedJob", `Saw completed job: ${name}, condition: ${end}`);
    }
    const completed = job.status?.completionTime;
    if (end === "Complete" && completed && !(lastSuccessfulTime !== undefined && completed <= lastSuccessfulTime))
      lastSuccessfulTime = completed;
  }
  for (const one of active.filter(({ uid }) => !byUid.has(uid))) {
    tell("Normal", "MissingJob", `Active job went missing: ${one.name}`);
    active = active.filter(({ uid }) => uid !== one.uid);
  }
  return withActive({ ...before, ...(lastSuccessfulTime ? { lastSuccessfulTime } : {}) }, active);
}

function withActive(status: CronJobStatus, active: readonly ObjectReference[]): CronJobStatus {
  const { active: _before, ...rest } = status;
  return active.length > 0 ? { ...rest, active } : rest;
}

function endOf(job: Job): string | undefined {
  const ends = job.status?.conditions?.filter(
    ({ type, status }) => status === "True" && (type === "Complete" || type === "Failed"),
  );
  return ends?.[0]?.type;
}

/** The finished Jobs of one kind beyond the limit, oldest first; none without a limit. */
function oldest(jobs: readonly Job[], end: "Complete" | "Failed", limit: number | undefined): readonly Job[] {
  if (limit === undefined) return [];
  const ended = jobs.filter((job) => endOf(job) === end && job.metadata.deletionTimestamp === undefined);
  const started = (job: Job) => job.status?.startTime ?? "";
  const sorted = ended.sort((a, b) =>
    started(a) === started(b) ? (a.metadata.name < b.metadata.name ? -1 : 1) : started(a) < started(b) ? -1 : 1,
  );
  return sorted.slice(0, Math.max(0, sorted.length - limit));
}

/** `<cronjob>-<minutes since 1970>`, so that one time has one Job whoever starts it. */
function jobName(cronJob: CronJob, time: number): string {
  return `${cronJob.metadata.name}-${Math.floor(time / 60_000)}`;
}

/** The Job of a CronJob for one of its times. */
export function cronJobJob(cronJob: CronJob, time: number): KubeObject {
  const { metadata, spec } = cronJob.spec!.jobTemplate;
  return {
    apiVersion: "batch/v1",
    kind: "Job",
    metadata: {
      name: jobName(cronJob, time),
      namespace: cronJob.metadata.namespace,
      ...(metadata?.labels ? { labels: metadata.labels } : {}),
      annotations: { ...metadata?.annotations, [timestampAnnotation]: formatTimeIn(time, cronJob.spec?.timeZone) },
      ownerReferences: [controllerReference(CronJobs, cronJob)],
    } as KubeObject["metadata"],
    spec,
  };
}

export function startCronJobs(objects: Objects): Disposable {
  const record = recorder(objects, "cronjob-controller");
  const cronJobs = objects.of(CronJobs);
  const jobsByController = objects.byController(Jobs);
  /** What was told last, so that what goes on is told once. */
  const told = new Map<string, string>();

  const controller = startController({
    name: "cronjob",
    clock: objects.clock,
    log: objects.log,
    async reconcile(key) {
      const cronJob = cronJobs.get(key) as CronJob | undefined;
      if (!cronJob) {
        told.delete(key);
        return undefined;
      }
      const jobs = jobsByController.where(cronJob.metadata.uid ?? "") as readonly Job[];
      const plan = cronJobPlan(cronJob, jobs, objects.clock.now());
      tell(key, cronJob, plan.events);
      for (const job of plan.remove) {
        await remove(job);
        record(cronJob, { type: "Normal", reason: "SuccessfulDelete", message: `Deleted job ${job.metadata.name}` });
      }
      let { status } = plan;
      if (plan.start !== undefined) {
        const job = await make(cronJob, plan.start);
        if (job) {
          status = {
            ...withActive(status, [...(status.active ?? []), referenceTo(job)]),
            lastScheduleTime: formatTime(plan.start),
          };
        }
      }
      if (!semanticEqual(status, cronJob.status)) await objects.updateStatus(CronJobs, cronJob, status);
      return plan.again;
    },
  });

  function tell(key: string, cronJob: CronJob, events: readonly Occurrence[]): void {
    const lasting = events.filter(({ reason }) => reason !== "SawCompletedJob" && reason !== "MissingJob");
    const text = JSON.stringify(lasting);
    const known = told.get(key) === text;
    told.set(key, text);
    for (const event of events) if (!known || !lasting.includes(event)) record(cronJob, event);
  }

  async function remove(job: Job): Promise<void> {
    try {
      await objects.delete(Jobs, job, { propagationPolicy: "Background" });
    } catch (error) {
      if (!isStatusReason(error, "NotFound")) throw error;
    }
  }

  /** The Job for this time; undefined when one of that name is somebody else's. */
  async function make(cronJob: CronJob, time: number): Promise<KubeObject | undefined> {
    const wanted = cronJobJob(cronJob, time);
    try {
      const job = await objects.create(Jobs, wanted);
      record(cronJob, { type: "Normal", reason: "SuccessfulCreate", message: `Created job ${job.metadata.name}` });
      return job;
    } catch (error) {
      const { namespace, name } = wanted.metadata;
      if (isStatusReason(error, "AlreadyExists")) {
        // Made before, and its status not written: a crash in between.
        const there = await objects.store.get({ resource: Jobs, namespace, name });
        return there && controllerOf(there.metadata)?.uid === cronJob.metadata.uid ? there : undefined;
      }
      record(cronJob, { type: "Warning", reason: "FailedCreate", message: `Error creating job: ${messageOf(error)}` });
      throw error;
    }
  }

  return disposeAll([
    controller,
    eachChange(cronJobs, (_cronJob, { key }) => controller.enqueue(key)),
    eachChange(objects.of(Jobs), (job, { before }) => {
      for (const one of [before, job]) {
        const owner = one && controllerOf(one.metadata);
        if (owner?.kind === "CronJob") controller.enqueue(nameOf(one!.metadata.namespace, owner.name));
      }
    }),
  ]);
}

function referenceTo({ metadata }: KubeObject): ObjectReference {
  const { name, namespace, uid, resourceVersion } = metadata;
  return { apiVersion: "batch/v1", kind: "Job", name, namespace, uid, resourceVersion } as ObjectReference;
}
