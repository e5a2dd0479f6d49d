// Formats of times in log lines: the part of strftime (POSIX) that Envoy's `START_TIME(…)` takes, with its `%f`, `%3f`, `%s` and
// `%E3S`, in UTC or in the machine's time zone. Words are English, as in the C locale.

/** A format taken apart: texts that stay the same for a second, and between them digits of its fraction. */
export interface TimeFormat {
  /** The text of a second, in milliseconds since 1970, in pieces; behind each but the last are `fractions[i]` digits. */
  readonly pieces: (second: number) => readonly string[];
  readonly fractions: readonly number[];
}

/** Longest format, in characters. */
const longest = 256;

const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = [
  ...["January", "February", "March", "April", "May", "June"],
  ...["July", "August", "September", "October", "November", "December"],
];

const two = (value: number): string => String(value).padStart(2, "0");

/** A point in time by parts; `zone` in minutes east of Greenwich. */
interface Parts {
  readonly year: number;
  readonly month: number;
  readonly day: number;
  readonly weekday: number;
  readonly hour: number;
  readonly minute: number;
  readonly second: number;
  readonly zone: number;
  readonly since: number;
}

type Conversion = (parts: Parts) => string;

const conversions: Readonly<Record<string, Conversion>> = {
  Y: ({ year }) => String(year),
  y: ({ year }) => two(year % 100),
  C: ({ year }) => two(Math.floor(year / 100)),
  m: ({ month }) => two(month + 1),
  d: ({ day }) => two(day),
  e: ({ day }) => String(day).padStart(2, " "),
  j: ({ year, month, day }) =>
    String(Math.round((Date.UTC(year, month, day) - Date.UTC(year, 0, 1)) / 86_400_000) + 1).padStart(3, "0"),
  H: ({ hour }) => two(hour),
  I: ({ hour }) => two(hour % 12 || 12),
  M: ({ minute }) => two(minute),
  S: ({ second }) => two(second),
  p: ({ hour }) => (hour < 12 ? "AM" : "PM"),
  a: ({ weekday }) => days[weekday]!.slice(0, 3),
  A: ({ weekday }) => days[weekday]!,
  b: ({ month }) => months[month]!.slice(0, 3),
  h: ({ month }) => months[month]!.slice(0, 3),
  B: ({ month }) => months[month]!,
  u: ({ weekday }) => String(weekday || 7),
  w: ({ weekday }) => String(weekday),
  z: ({ zone }) => offset(zone, ""),
  Ez: ({ zone }) => offset(zone, ":"),
  s: ({ since }) => String(since / 1000),
  "%": () => "%",
};

/** Conversions that stand for others. */
const short: Readonly<Record<string, string>> = {
  F: "%Y-%m-%d",
  T: "%H:%M:%S",
  R: "%H:%M",
  D: "%m/%d/%y",
  c: "%a %b %e %H:%M:%S %Y",
  x: "%m/%d/%y",
  X: "%H:%M:%S",
  r: "%I:%M:%S %p",
};

function offset(minutes: number, between: string): string {
  const size = Math.abs(minutes);
  return `${minutes < 0 ? "-" : "+"}${two(Math.floor(size / 60))}${between}${two(size % 60)}`;
}

/** Throws an Error that names what is not taken. */
export function timeFormat(format: string, local: boolean): TimeFormat {
  if (format.length > longest) throw new Error(`a format of a time has at most ${longest} characters`);
  if (!/^[ -~]*$/.test(format)) throw new Error("a format of a time is made of printable ASCII");
  const fractions: number[] = [];
  const pieces: Conversion[][] = [[]];
  const take = (text: string): void => {
    for (const [part, digits, seconds, named] of text.matchAll(/[^%]+|%([1-9])f|%E([0-9])S|%(E?z|[A-Za-z%])|%/g)) {
      const expanded = named !== undefined ? short[named] : undefined;
      if (expanded !== undefined) take(expanded);
      else if (named === "f" || digits !== undefined) fraction(digits === undefined ? 9 : Number(digits));
      else if (seconds !== undefined) {
        pieces.at(-1)!.push(conversions["S"]!, ...(seconds === "0" ? [] : [() => "."]));
        if (seconds !== "0") fraction(Number(seconds));
      } else if (named === "Z") pieces.at(-1)!.push(local ? zoneName : () => "UTC");
      else if (named !== undefined || part === "%") {
        const conversion = conversions[named ?? ""];
        if (!conversion) throw new Error(`"${part}" is no conversion of times; there are ${known.join(" ")}`);
        pieces.at(-1)!.push(conversion);
      } else pieces.at(-1)!.push(() => part);
    }
  };
  const fraction = (digits: number): void => {
    fractions.push(digits);
    pieces.push([]);
  };
  take(format);
  return {
    pieces: (second) => {
      const parts = local ? localParts(second) : utcParts(second);
      return pieces.map((piece) => piece.map((conversion) => conversion(parts)).join(""));
    },
    fractions,
  };
}

const known = [...Object.keys(conversions), ...Object.keys(short), "Z", "f", "3f", "E3S"].map((one) => `%${one}`);

function utcParts(since: number): Parts {
  const date = new Date(since);
  return {
    year: date.getUTCFullYear(),
    month: date.getUTCMonth(),
    day: date.getUTCDate(),
    weekday: date.getUTCDay(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
    zone: 0,
    since,
  };
}

function localParts(since: number): Parts {
  const zone = -new Date(since).getTimezoneOffset();
  return { ...utcParts(since + zone * 60_000), zone, since };
}

function zoneName({ since }: Parts): string {
  const parts = new Intl.DateTimeFormat("en-US", { timeZoneName: "short" }).formatToParts(since);
  return parts.find(({ type }) => type === "timeZoneName")?.value ?? "";
}
