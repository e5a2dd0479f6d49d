// Schedules of CronJobs: the five standard fields, the @macros and `@every`, with the meaning and the messages of the parser
// that CronJobs use (robfig/cron v3 ParseStandard). Times are whole minutes of a time zone's wall clock: a minute that a change
// to summer time skips never comes, and one that comes twice counts twice. Pure; zones come from the runtime's own database.

/** `next` gives the first time after `after` (both in milliseconds), or undefined when there is none in five years. */
export interface CronSchedule {
  next(after: number, timeZone?: string): number | undefined;
}

interface Field {
  readonly name: string;
  readonly low: number;
  readonly high: number;
  readonly names?: readonly string[];
}

const fields: readonly Field[] = [
  { name: "minute", low: 0, high: 59 },
  { name: "hour", low: 0, high: 23 },
  { name: "day of month", low: 1, high: 31 },
  {
    name: "month",
    low: 1,
    high: 12,
    names: ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
  },
  { name: "day of week", low: 0, high: 6, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

const macros: Readonly<Record<string, string>> = {
  "@yearly": "0 0 1 1 *",
  "@annually": "0 0 1 1 *",
  "@monthly": "0 0 1 * *",
  "@weekly": "0 0 * * 0",
  "@daily": "0 0 * * *",
  "@midnight": "0 0 * * *",
  "@hourly": "0 * * * *",
};

const minute = 60_000;
const day = 86_400_000;
/** How far ahead a time is looked for (robfig/cron spec.go). */
const years = 5;

/** Throws an Error with the parser's words when the text is no schedule. */
export function parseCron(text: string): CronSchedule {
  if (text === "") throw new Error("empty spec string");
  if (text.startsWith("@every ")) return every(text.slice("@every ".length));
  if (text.startsWith("@") && macros[text] === undefined) throw new Error(`unrecognized descriptor: ${text}`);
  const parts = (macros[text] ?? text).trim().split(/\s+/);
  if (parts.length !== fields.length)
    throw new Error(`expected exactly 5 fields, found ${parts.length}: [${parts.join(" ")}]`);
  const [minutes, hours, days, months, weekdays] = fields.map((field, at) => parseField(parts[at]!, field));
  const wall: Wall = { minutes: minutes!, hours: hours!, days: days!, months: months!, weekdays: weekdays! };
  return { next: (after, timeZone = "UTC") => nextOf(wall, after, timeZone) };
}

interface Values {
  readonly values: ReadonlySet<number>;
  /** Said with a star, so that of the two kinds of days only the other one decides. */
  readonly star: boolean;
}

function parseField(text: string, field: Field): Values {
  const values = new Set<number>();
  let star = false;
  for (const part of text.split(",").filter((one) => one !== "")) star = addRange(part, field, values) || star;
  return { values, star };
}

/** Adds what a part like `1-5/2` means; true when it is a star. */
function addRange(part: string, { low, high, names }: Field, values: Set<number>): boolean {
  const [range = "", stepText, ...moreSteps] = part.split("/");
  const [first = "", last, ...moreRanges] = range.split("-");
  let star = first === "*" || first === "?";
  let [start, end] = [low, high];
  if (!star) {
    start = meaning(first, names);
    if (moreRanges.length > 0) throw new Error(`too many hyphens: ${part}`);
    end = last === undefined ? start : meaning(last, names);
  }
  if (moreSteps.length > 0) throw new Error(`too many slashes: ${part}`);
  let step = 1;
  if (stepText !== undefined) {
    step = number(stepText);
    // `5/15` is `5-59/15`.
    if (last === undefined) end = high;
    if (step > 1) star = false;
  }
  if (start < low) throw new Error(`beginning of range (${start}) below minimum (${low}): ${part}`);
  if (end > high) throw new Error(`end of range (${end}) above maximum (${high}): ${part}`);
  if (start > end) throw new Error(`beginning of range (${start}) beyond end of range (${end}): ${part}`);
  if (step === 0) throw new Error(`step of range should be a positive number: ${part}`);
  for (let value = start; value <= end; value += step) values.add(value);
  return star;
}

function meaning(text: string, names: readonly string[] | undefined): number {
  const at = text === "" ? -1 : (names?.indexOf(text.toLowerCase()) ?? -1);
  return at >= 0 ? at : number(text);
}

function number(text: string): number {
  if (!/^[+-]?\d{1,9}$/.test(text))
    throw new Error(`failed to parse int from ${text}: strconv.Atoi: parsing ${JSON.stringify(text)}: invalid syntax`);
  if (text.startsWith("-")) throw new Error(`negative number (${Number(text)}) not allowed: ${text}`);
  return Number(text);
}

const units: Readonly<Record<string, number>> = {
  ns: 1e-6,
  us: 1e-3,
  µs: 1e-3,
  ms: 1,
  s: 1000,
  m: 60_000,
  h: 3_600_000,
};

/** A constant delay, in whole seconds and at least one (robfig/cron constantdelay.go). */
function every(text: string): CronSchedule {
  if (!/^\+?(\d+(\.\d*)?(ns|us|µs|ms|s|m|h))+$/.test(text))
    throw new Error(`failed to parse duration @every ${text}: time: invalid duration ${JSON.stringify(text)}`);
  let delay = 0;
  for (const [, count, unit] of text.matchAll(/(\d+(?:\.\d*)?)(ns|us|µs|ms|s|m|h)/g))
    delay += Number(count) * units[unit!]!;
  delay = Math.max(1000, Math.floor(delay / 1000) * 1000);
  return { next: (after) => Math.floor(after / 1000) * 1000 + delay };
}

interface Wall {
  readonly minutes: Values;
  readonly hours: Values;
  readonly days: Values;
  readonly months: Values;
  readonly weekdays: Values;
}

function nextOf(wall: Wall, after: number, timeZone: string): number | undefined {
  const from = after + offsetAt(after, timeZone);
  // Days of the wall clock, as if it were UTC's; one earlier, since the clock may be set back past midnight.
  const first = Math.floor(from / day) * day - day;
  for (let at = first; at < first + years * 366 * day; at += day) {
    const found = isDay(wall, new Date(at)) ? nextInDay(wall, at, after, timeZone) : undefined;
    if (found !== undefined) return found;
  }
  return undefined;
}

function isDay({ days, months, weekdays }: Wall, date: Date): boolean {
  if (!months.values.has(date.getUTCMonth() + 1)) return false;
  const ofMonth = days.values.has(date.getUTCDate());
  const ofWeek = weekdays.values.has(date.getUTCDay());
  return days.star || weekdays.star ? ofMonth && ofWeek : ofMonth || ofWeek;
}

function nextInDay({ minutes, hours }: Wall, start: number, after: number, timeZone: string): number | undefined {
  const offsets = new Set([-day, 0, day, 2 * day].map((apart) => offsetAt(start + apart, timeZone)));
  let best: number | undefined;
  for (const hour of hours.values) {
    for (const one of minutes.values) {
      for (const offset of offsets) {
        const time = start + (hour * 60 + one) * minute - offset;
        if (time <= after || (best !== undefined && time >= best)) continue;
        if (offsets.size === 1 || offsetAt(time, timeZone) === offset) best = time;
      }
    }
  }
  return best;
}

const formats = new Map<string, Intl.DateTimeFormat>();

/** What a zone's clock is ahead of UTC, in milliseconds. */
function offsetAt(time: number, timeZone: string): number {
  if (timeZone === "UTC") return 0;
  let format = formats.get(timeZone);
  if (!format) {
    format = new Intl.DateTimeFormat("en-US", {
      timeZone,
      hourCycle: "h23",
      year: "numeric",
      month: "numeric",
      day: "numeric",
      hour: "numeric",
      minute: "numeric",
      second: "numeric",
    });
    formats.set(timeZone, format);
  }
  const part = Object.fromEntries(format.formatToParts(time).map(({ type, value }) => [type, Number(value)]));
  const wall = Date.UTC(part["year"]!, part["month"]! - 1, part["day"], part["hour"], part["minute"], part["second"]);
  return wall - Math.floor(time / 1000) * 1000;
}

/** Whether the runtime's database has this zone under this name (IANA). */
export function isTimeZone(name: string): boolean {
  if (!/^[A-Za-z][A-Za-z0-9_+-]*(\/[A-Za-z0-9_+-]+)*$/.test(name)) return false;
  try {
    new Intl.DateTimeFormat("en-US", { timeZone: name });
    return true;
  } catch {
    return false;
  }
}

/** RFC 3339 in a zone's own time: `2026-03-01T09:30:00+09:00`; UTC's is `Z`. */
export function formatTimeIn(time: number, timeZone = "UTC"): string {
  const offset = offsetAt(time, timeZone);
  const wall = new Date(time + offset).toISOString().slice(0, 19);
  if (offset === 0) return `${wall}Z`;
  const minutes = Math.abs(offset) / minute;
  const two = (value: number) => String(Math.floor(value)).padStart(2, "0");
  return `${wall}${offset < 0 ? "-" : "+"}${two(minutes / 60)}:${two(minutes % 60)}`;
}
