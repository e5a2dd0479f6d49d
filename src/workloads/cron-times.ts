// Which start of a CronJob is due: the newest one that is not over, and how many were missed. Pure. Upstream:
// pkg/controller/cronjob/utils.go (mostRecentScheduleTime, nextScheduleTimeDuration).

import type { CronSchedule } from "../api/cron.ts";
import type { CronJob } from "../api/kinds.ts";

export interface Due {
  /** When a Job was to be started, at most now; undefined when no start has been missed. */
  readonly time: number | undefined;
  /** More than a hundred starts were missed. */
  readonly tooMany: boolean;
  /** From when starts are looked for. */
  readonly since: number;
}

/** More missed starts than this are told of (utils.go `manyMissed`). */
const many = 100;
/** Added to the time of the next look, so that it does not come before its minute (cronjob_controllerv2.go). */
const afterwards = 100;
const day = 86_400_000;
/** Stretches in which the newest start is looked for, shortest first. */
const stretches = [3_600_000, day, 32 * day, 367 * day, 5 * 367 * day];

/** Throws an Error when the schedule never comes. `now` in milliseconds. */
export function dueTime(cronJob: CronJob, schedule: CronSchedule, now: number, withDeadline: boolean): Due {
  const { spec, status, metadata } = cronJob;
  const last = Date.parse(status?.lastScheduleTime ?? "");
  const created = Date.parse(metadata.creationTimestamp ?? "") || now;
  const deadline = withDeadline ? spec?.startingDeadlineSeconds : undefined;
  const earliest = Number.isNaN(last) ? created : last;
  const since = deadline === undefined ? earliest : Math.max(earliest, now - deadline * 1000);
  const zone = spec?.timeZone;
  const first = schedule.next(since, zone);
  if (first === undefined) throw new Error("no time matches the schedule in the next five years");
  if (first > now) return { time: undefined, tooMany: false, since };
  const second = schedule.next(first, zone);
  if (second === undefined || second > now) return { time: first, tooMany: false, since };
  const missed = Math.floor((now - first) / (second - first)) + 1;
  return { time: newest(schedule, spec?.schedule ?? "", first, second, now, zone), tooMany: missed > many, since };
}

/** The newest time that is at most `now`; `second` is. */
function newest(
  schedule: CronSchedule,
  text: string,
  first: number,
  second: number,
  now: number,
  zone: string | undefined,
): number {
  // `@every` counts from the last start, so that a start elsewhere would give other times.
  if (text.startsWith("@every")) return first + Math.floor((now - first) / (second - first)) * (second - first);
  for (const stretch of stretches) {
    let found: number | undefined;
    for (let at = schedule.next(Math.max(first, now - stretch), zone); at !== undefined && at <= now; ) {
      found = at;
      at = schedule.next(at, zone);
    }
    if (found !== undefined) return found;
  }
  return second;
}

/** Milliseconds until the next start is due. */
export function untilNext(cronJob: CronJob, schedule: CronSchedule, now: number): number {
  let from = now;
  try {
    const due = dueTime(cronJob, schedule, now, false);
    from = due.time ?? due.since;
  } catch {
    // Never: looked at again in a day.
    return day;
  }
  const next = schedule.next(from, cronJob.spec?.timeZone) ?? now + day;
  return Math.max(0, next + afterwards - now);
}
