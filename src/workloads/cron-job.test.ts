import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { type CronJob, type CronJobSpec, CronJobs, Events, type Job, Jobs, Pods } from "../api/kinds.ts";
import { cronJobJob, cronJobPlan } from "./cron-job.ts";
import { startWorld, template, type World } from "./testing/world.ts";

const at = (time: string) => Date.parse(time);
const cron = (spec: Partial<CronJobSpec> = {}, status: CronJob["status"] = {}): CronJob => ({
  apiVersion: "batch/v1",
  kind: "CronJob",
  metadata: { name: "tick", namespace: "default", uid: "c", creationTimestamp: "2026-01-01T10:00:30Z" },
  spec: {
    schedule: "*/5 * * * *",
    concurrencyPolicy: "Allow",
    successfulJobsHistoryLimit: 3,
    failedJobsHistoryLimit: 1,
    jobTemplate: { spec: { template: template("tick", "x", { restartPolicy: "Never" }) } },
    ...spec,
  },
  status,
});
const job = (name: string, more: Job["status"] = {}): Job => ({
  apiVersion: "batch/v1",
  kind: "Job",
  metadata: { name, namespace: "default", uid: name },
  spec: { template: template("tick") },
  status: more,
});
const ended = (type: "Complete" | "Failed", time: string): Job["status"] => ({
  startTime: time,
  ...(type === "Complete" ? { completionTime: time } : {}),
  conditions: [{ type, status: "True" }],
});
const active = (...names: string[]) => names.map((name) => ({ kind: "Job", name, uid: name }));
const plan = (one: CronJob, jobs: readonly Job[], time: string) => cronJobPlan(one, jobs, at(time));
const reasons = (one: ReturnType<typeof cronJobPlan>) => one.events.map(({ reason }) => reason);

describe("a CronJob", () => {
  test("waits for its next time, and a tenth of a second more", () => {
    expect(plan(cron(), [], "2026-01-01T10:04:00Z")).toMatchObject({ start: undefined, again: 60_100 });
  });

  test("starts the Job of a time that has come, once", () => {
    const due = plan(cron(), [], "2026-01-01T10:05:01Z");
    expect(due).toMatchObject({ start: at("2026-01-01T10:05:00Z"), again: 299_100 });
    const started = cron({}, { lastScheduleTime: "2026-01-01T10:05:00Z", active: active("tick-29454365") });
    expect(plan(started, [job("tick-29454365")], "2026-01-01T10:06:00Z").start).toBeUndefined();
  });

  test("names it by the minutes since 1970 and notes the time in its zone", () => {
    const made = cronJobJob(cron({ timeZone: "Asia/Tokyo" }), at("2026-01-01T10:05:00Z"));
    expect(made.metadata).toMatchObject({
      name: `tick-${at("2026-01-01T10:05:00Z") / 60_000}`,
      annotations: { "batch.kubernetes.io/cronjob-scheduled-timestamp": "2026-01-01T19:05:00+09:00" },
      ownerReferences: [{ kind: "CronJob", name: "tick", controller: true }],
    });
  });

  test("starts only the newest of the times that it missed, and says when they were too many", () => {
    const few = plan(cron(), [], "2026-01-01T11:07:00Z");
    expect(few.start).toBe(at("2026-01-01T11:05:00Z"));
    expect(reasons(few)).toEqual([]);
    const many = plan(cron(), [], "2026-01-02T11:07:00Z");
    expect(many.start).toBe(at("2026-01-02T11:05:00Z"));
    expect(reasons(many)).toEqual(["TooManyMissedTimes"]);
  });

  test("does not start what is later than its deadline", () => {
    const late = plan(cron({ schedule: "0 * * * *", startingDeadlineSeconds: 60 }), [], "2026-01-01T11:02:00Z");
    expect(late).toMatchObject({ start: undefined, again: 3_480_100 });
    const inTime = plan(cron({ schedule: "0 * * * *", startingDeadlineSeconds: 200 }), [], "2026-01-01T11:02:00Z");
    expect(inTime.start).toBe(at("2026-01-01T11:00:00Z"));
  });

  test("starts nothing while it is suspended", () => {
    expect(plan(cron({ suspend: true }), [], "2026-01-01T10:05:01Z")).toMatchObject({
      start: undefined,
      again: undefined,
    });
  });

  test("with Forbid waits for the one before, with Replace removes it, with Allow runs beside it", () => {
    const running = { lastScheduleTime: "2026-01-01T10:05:00Z", active: active("a") };
    const now = "2026-01-01T10:10:01Z";
    const forbid = plan(cron({ concurrencyPolicy: "Forbid" }, running), [job("a")], now);
    expect(forbid.start).toBeUndefined();
    expect(forbid.events).toEqual([
      {
        type: "Normal",
        reason: "JobAlreadyActive",
        message: "Not starting job because prior execution is running and concurrency policy is Forbid",
      },
    ]);
    const replace = plan(cron({ concurrencyPolicy: "Replace" }, running), [job("a")], now);
    expect(replace.remove.map(({ metadata }) => metadata.name)).toEqual(["a"]);
    expect(replace.status.active).toBeUndefined();
    expect(replace.start).toBe(at("2026-01-01T10:10:00Z"));
    expect(plan(cron({}, running), [job("a")], now)).toMatchObject({ remove: [], start: at("2026-01-01T10:10:00Z") });
  });

  test("notes Jobs that ended, went missing, or were never its own doing", () => {
    const one = cron({ suspend: true }, { active: active("done", "lost") });
    const jobs = [job("done", ended("Complete", "2026-01-01T10:05:30Z")), job("strange")];
    const { status, events } = plan(one, jobs, "2026-01-01T10:06:00Z");
    expect(status).toEqual({ lastSuccessfulTime: "2026-01-01T10:05:30Z" });
    expect(events.map(({ message }) => message)).toEqual([
      "Saw completed job: done, condition: Complete",
      "Saw a job that the controller did not create or forgot: strange",
      "Active job went missing: lost",
    ]);
  });

  test("keeps as many finished Jobs as it is told, the newest", () => {
    const jobs = [3, 1, 2, 4].map((n) => job(`ok-${n}`, ended("Complete", `2026-01-01T10:0${n}:00Z`)));
    const failed = [1, 2].map((n) => job(`bad-${n}`, ended("Failed", `2026-01-01T10:0${n}:00Z`)));
    const { remove } = plan(cron({ suspend: true }), [...jobs, ...failed], "2026-01-01T11:00:00Z");
    expect(remove.map(({ metadata }) => metadata.name)).toEqual(["ok-1", "bad-1"]);
    expect(
      plan(cron({ suspend: true, successfulJobsHistoryLimit: 0 }), jobs, "2026-01-01T11:00:00Z").remove.length,
    ).toBe(4);
  });

  test("tells of a schedule or a zone that it cannot follow", () => {
    expect(reasons(plan(cron({ schedule: "x" }), [], "2026-01-01T10:05:01Z"))).toEqual(["UnparseableSchedule"]);
    expect(reasons(plan(cron({ schedule: "0 0 31 2 *" }), [], "2026-01-01T10:05:01Z"))).toEqual(["InvalidSchedule"]);
    expect(reasons(plan(cron({ timeZone: "Mars/X" }), [], "2026-01-01T10:05:01Z"))).toEqual(["UnknownTimeZone"]);
  });
});

describe("CronJobs in a world", () => {
  let world: World;
  beforeEach(async () => {
    world = await startWorld();
  });
  afterEach(() => world.dispose());

  test("run by the clock, and go on after a restart", async () => {
    const { uid: _uid, creationTimestamp: _time, ...metadata } = cron().metadata;
    await world.create(CronJobs, {
      ...cron({ schedule: "* * * * *", concurrencyPolicy: "Forbid" }),
      metadata,
      status: {},
    });
    await world.quiet();
    expect(world.all(Jobs)).toEqual([]);
    const pass = (seconds: number) => world.clock.advance(seconds * 1000);
    pass(61);
    await world.until("a Job runs", () => world.all(Pods)[0]?.status?.phase === "Running");
    const first = world.all(Jobs)[0]!;
    await world.until("it is active", () => world.get(CronJobs, "tick")!.status?.active?.length === 1);
    expect(world.get(CronJobs, "tick")!.status.lastScheduleTime).toMatch(/:00Z$/);
    await world.restart();
    pass(60);
    await world.until("it is told", () => world.all(Events).some((event) => event["reason"] === "JobAlreadyActive"));
    expect(world.all(Jobs).length).toBe(1);

    const pod = world.all(Pods)[0]!;
    await world.store.update(Pods, { ...pod, status: { phase: "Succeeded" } }, { subresource: "status" });
    await world.until("the next one runs", () => {
      pass(1);
      return world.all(Jobs).length === 2;
    });
    await world.until("status", () => world.get(CronJobs, "tick")!.status?.lastSuccessfulTime !== undefined);
    const names = world.get(CronJobs, "tick")!.status.active.map(({ name }: { name: string }) => name);
    expect(names).not.toContain(first.metadata.name);
    await world.remove(CronJobs, "tick");
    await world.until("all is gone", () => world.all(Jobs).length === 0 && world.all(Pods).length === 0);
  });
});
