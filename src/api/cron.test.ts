import { describe, expect, test } from "bun:test";
import { formatTimeIn, isTimeZone, parseCron } from "./cron.ts";

const after = (schedule: string, time: string, zone?: string) => {
  const next = parseCron(schedule).next(Date.parse(time), zone);
  return next === undefined ? undefined : new Date(next).toISOString().replace(":00.000Z", "Z");
};

describe("the next time of a schedule", () => {
  test.each([
    ["* * * * *", "2026-03-01T10:00:00Z", "2026-03-01T10:01Z"],
    ["* * * * *", "2026-03-01T10:00:59Z", "2026-03-01T10:01Z"],
    ["*/15 * * * *", "2026-03-01T10:50:00Z", "2026-03-01T11:00Z"],
    ["5/20 * * * *", "2026-03-01T10:30:00Z", "2026-03-01T10:45Z"],
    ["0 9-17/4 * * MON-FRI", "2026-03-06T17:00:00Z", "2026-03-09T09:00Z"],
    ["0 0 29 feb *", "2026-03-01T00:00:00Z", "2028-02-29T00:00Z"],
    ["30 8 1,15 * *", "2026-03-01T08:30:00Z", "2026-03-15T08:30Z"],
    ["0 0 ? * 1", "2026-03-04T00:00:00Z", "2026-03-09T00:00Z"],
    ["@yearly", "2026-03-04T00:00:00Z", "2027-01-01T00:00Z"],
    ["@weekly", "2026-03-04T00:00:00Z", "2026-03-08T00:00Z"],
    ["@hourly", "2026-03-04T00:00:00Z", "2026-03-04T01:00Z"],
    ["@every 90m", "2026-03-04T00:00:00Z", "2026-03-04T01:30Z"],
  ])("%s after %s is %s", (schedule, time, expected) => {
    expect(after(schedule, time)).toBe(expected);
  });

  test("days of the month and of the week are alternatives unless one is a star", () => {
    expect(after("0 0 13 * FRI", "2026-03-01T00:00:00Z")).toBe("2026-03-06T00:00Z");
    expect(after("0 0 13 * *", "2026-03-01T00:00:00Z")).toBe("2026-03-13T00:00Z");
    expect(after("0 0 * * FRI", "2026-03-01T00:00:00Z")).toBe("2026-03-06T00:00Z");
    expect(after("0 0 */10 * FRI", "2026-03-01T01:00:00Z")).toBe("2026-03-06T00:00Z");
  });

  test("is none for a day that never comes", () => {
    expect(after("59 23 31 2 *", "2026-03-01T00:00:00Z")).toBeUndefined();
  });

  test("is by the clock of its zone", () => {
    expect(after("30 9 * * *", "2026-03-01T00:00:00Z", "Asia/Tokyo")).toBe("2026-03-01T00:30Z");
    expect(after("0 0 * * *", "2026-03-01T00:00:00Z", "America/New_York")).toBe("2026-03-01T05:00Z");
    expect(after("0 0 1 1 *", "2026-12-31T09:00:00Z", "Pacific/Kiritimati")).toBe("2026-12-31T10:00Z");
  });

  test("passes over minutes that summer time skips, and takes those that come twice twice", () => {
    expect(after("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin")).toBe("2026-03-30T00:30Z");
    expect(after("30 2 * * *", "2026-10-24T12:00:00Z", "Europe/Berlin")).toBe("2026-10-25T00:30Z");
    expect(after("30 2 * * *", "2026-10-25T00:30:00Z", "Europe/Berlin")).toBe("2026-10-25T01:30Z");
    expect(after("30 2 * * *", "2026-10-25T01:30:00Z", "Europe/Berlin")).toBe("2026-10-26T01:30Z");
  });
});

test.each([
  ["", "empty spec string"],
  ["* * * *", "expected exactly 5 fields, found 4: [* * * *]"],
  ["60 * * * *", "end of range (60) above maximum (59): 60"],
  ["* * 0 * *", "beginning of range (0) below minimum (1): 0"],
  ["* * * * 7", "end of range (7) above maximum (6): 7"],
  ["5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"],
  ["1-2-3 * * * *", "too many hyphens: 1-2-3"],
  ["1/2/3 * * * *", "too many slashes: 1/2/3"],
  ["*/0 * * * *", "step of range should be a positive number: */0"],
  ["a * * * *", 'failed to parse int from a: strconv.Atoi: parsing "a": invalid syntax'],
  ["@fortnightly", "unrecognized descriptor: @fortnightly"],
  ["@every 5x", 'failed to parse duration @every 5x: time: invalid duration "5x"'],
])("%p is no schedule: %s", (schedule, message) => {
  expect(() => parseCron(schedule)).toThrow(message);
});

test("time zones are those of the database, by their names", () => {
  expect(["UTC", "Europe/Berlin", "America/Argentina/Buenos_Aires"].every(isTimeZone)).toBe(true);
  expect(["", "Mars/Olympus", "+02:00", "../etc"].some(isTimeZone)).toBe(false);
});

test("times are printed with their zone's offset", () => {
  const time = Date.parse("2026-03-01T00:30:00Z");
  expect(formatTimeIn(time)).toBe("2026-03-01T00:30:00Z");
  expect(formatTimeIn(time, "Asia/Kolkata")).toBe("2026-03-01T06:00:00+05:30");
  expect(formatTimeIn(time, "America/New_York")).toBe("2026-02-28T19:30:00-05:00");
});
