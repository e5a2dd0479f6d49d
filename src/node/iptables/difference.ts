// From one state of the rules to another as one `iptables-restore --noflush` text: only chains that differ, new and changed
// ones rewritten, stale ones emptied and deleted last. The kernel takes it as a whole or not at all, per table.

import type { Rules, Transaction } from "../service-rules.ts";
import { sameLines } from "./renderer.ts";

/** Built-in chains belong to everybody: of them only our jumps are known, and only they are changed. */
const builtIn = new Set(["INPUT", "FORWARD", "OUTPUT", "PREROUTING", "POSTROUTING"]);

/** Longer chains are changed line by line where few lines differ: rewriting costs the whole chain. */
const editFrom = 64;

const tables = ["mangle", "filter", "nat"] as const;

/** See `ServiceRules.difference`. `names` limits the work to these chains (`table/chain`). */
export function difference(now: Rules, wanted: Rules, names?: Iterable<string>): Transaction {
  const parts = new Map<string, { headers: string[]; rules: string[]; deletions: string[] }>();
  let pieces = 0;
  for (const name of names ?? new Set([...now.keys(), ...wanted.keys()])) {
    const before = now.get(name);
    const after = wanted.get(name);
    if (before === after || (before && after && sameLines(before, after))) continue;
    const slash = name.indexOf("/");
    const table = name.slice(0, slash);
    const chain = name.slice(slash + 1);
    let part = parts.get(table);
    if (!part) {
      part = { headers: [], rules: [], deletions: [] };
      parts.set(table, part);
    }
    if (builtIn.has(chain)) {
      if (sameLines(before ?? [], after ?? [])) continue;
      pieces++;
      for (const line of before ?? []) part.rules.push(`-D ${chain} ${line}`);
      for (const [at, line] of (after ?? []).entries()) part.rules.push(`-I ${chain} ${at + 1} ${line}`);
      continue;
    }
    pieces++;
    if (!after) {
      part.headers.push(`:${chain} - [0:0]`);
      part.deletions.push(`-X ${chain}`);
      continue;
    }
    const edits = before && before.length >= editFrom ? edit(chain, before, after) : undefined;
    if (edits) {
      part.rules.push(...edits);
      continue;
    }
    part.headers.push(`:${chain} - [0:0]`);
    for (const line of after) part.rules.push(`-A ${chain} ${line}`);
  }
  const text: string[] = [];
  for (const table of tables) {
    const part = parts.get(table);
    if (!part || part.headers.length + part.rules.length === 0) continue;
    text.push(`*${table}`, ...part.headers, ...part.rules, ...part.deletions, "COMMIT");
  }
  return { text: text.length > 0 ? `${text.join("\n")}\n` : "", pieces };
}

/** The lines between what both have in front and at the end, deleted and inserted by number; undefined when that is much. */
function edit(chain: string, before: readonly string[], after: readonly string[]): string[] | undefined {
  let front = 0;
  while (front < before.length && front < after.length && before[front] === after[front]) front++;
  let back = 0;
  const most = Math.min(before.length, after.length) - front;
  while (back < most && before[before.length - 1 - back] === after[after.length - 1 - back]) back++;
  const removed = before.length - front - back;
  const added = after.length - front - back;
  if (removed + added > editFrom / 2) return undefined;
  const lines: string[] = [];
  for (let n = 0; n < removed; n++) lines.push(`-D ${chain} ${front + 1}`);
  for (let n = 0; n < added; n++) lines.push(`-I ${chain} ${front + 1 + n} ${after[front + n]}`);
  return lines;
}
