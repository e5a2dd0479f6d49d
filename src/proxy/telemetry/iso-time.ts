// The time of a log line (ISO 8601, UTC, milliseconds). Kept for the millisecond: many requests
// share one, and making it costs as much as an eighth of a line.

let lastTime = Number.NaN;
let lastText = "";

/** `time`: milliseconds since 1970. */
export function isoTime(time: number): string {
  const whole = Math.floor(time);
  if (whole !== lastTime) {
    lastTime = whole;
    lastText = new Date(whole).toISOString();
  }
  return lastText;
}
