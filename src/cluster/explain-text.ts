// An explanation as lines for people. Each line that speaks of a field says in which file and line it stands, where that is known.

import { isAbsolute, relative } from "node:path";
import { describeProvenance, type Provenance } from "../model/provenance.ts";
import type { ExplainedFilter, ExplainedShare, Explanation } from "./explain.ts";

/** `directory`: file names are shown relative to it where that is shorter. */
export function renderExplanation(explanation: Explanation, directory: string): string {
  const { request, shares, steps, filters, otherListeners } = explanation;
  const where = (from: Provenance) => placeOf(from, directory);
  const filterLine = (filter: ExplainedFilter) => `${filter.kind}: ${filter.what}   ${where(filter.from)}`;
  const lines = [`${request.method.toUpperCase()} ${request.url}`];
  for (const [name, value] of request.headers) lines.push(`  ${name}: ${value}`);
  lines.push("", `→ ${explanation.answer}`);
  for (const share of shares) {
    lines.push(`  ${percent(share.share).padStart(6)}  ${share.name}   ${where(share.from)}`);
    for (const filter of share.filters) lines.push(`          ${filterLine(filter)}`);
    for (const endpoint of endpointLines(share, explanation.filesOnly ?? false)) lines.push(`          ${endpoint}`);
  }
  if (filters.length > 0) lines.push("", "filters", ...filters.map((filter) => `  ${filterLine(filter)}`));
  if (steps.length > 0) lines.push("", "because");
  for (const { taken, what, reason, from } of steps) {
    if (explanation.filesOnly && what === "backend" && !taken) continue; // pods are not known, so none of them is missing
    lines.push(`  ${taken ? "✓" : "✗"} ${what.padEnd(8)} ${reason}`, `             ${where(from)}`);
  }
  if (explanation.findings) lines.push("", "what is wrong", ...explanation.findings.map((finding) => `  ${finding}`));
  if (otherListeners.length > 0) {
    lines.push(
      "",
      `Other listeners on this port: ${otherListeners.join(", ")} (choose one with --gateway NAMESPACE/NAME)`,
    );
  }
  return lines.join("\n");
}

function endpointLines(share: ExplainedShare, filesOnly: boolean): string[] {
  const answered = /^\d{3}:/.test(share.name); // an answer in place of a backend
  if (share.endpoints.length === 0) return answered || filesOnly ? [] : ["no ready endpoints: 503"];
  return share.endpoints.map(({ address, port, target }) => {
    const name = target ? `  ${target.kind.toLowerCase()} ${target.namespace}/${target.name}` : "";
    return `${address}:${port}${name}`;
  });
}

function placeOf(from: Provenance, directory: string): string {
  if (!from.file) return describeProvenance(from);
  const near = isAbsolute(from.file) ? relative(directory, from.file) : from.file;
  const file = near.length < from.file.length ? near : from.file;
  return `${describeProvenance(from)}  (${file}${from.line ? `:${from.line}` : ""})`;
}

function percent(share: number): string {
  const value = share * 100;
  return `${Number.isInteger(value) ? value : value.toFixed(1)} %`;
}
