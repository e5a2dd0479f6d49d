// Lengths of time as Go and Kubernetes' flags write them (`1m30s`); other languages' forms are read where those languages are.

import { UserError } from "./errors.ts";

const units: Readonly<Record<string, number>> = { ms: 1, s: 1000, m: 60_000, h: 3_600_000 };

/** Milliseconds of `500ms`, `30s`, `2m`, `1h`, or combinations (`1m30s`). Throws a UserError naming `option`. */
export function parseDuration(text: string, option: string): number {
  let total = 0;
  const rest = text.replace(/(\d+(?:\.\d+)?)(ms|s|m|h)/g, (_, count: string, name: string) => {
    total += Number(count) * units[name]!;
    return "";
  });
  if (rest === "" && text !== "") return total;
  throw new UserError(`${option} ${text}: not a duration`, {
    remedy: "Write it as 500ms, 30s, 2m or 1m30s.",
    exitCode: 2,
  });
}
