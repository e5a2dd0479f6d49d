// Which content coding an answer may get: what the client takes (RFC 9110 §12.5.3, with its weights) and whether an answer is
// worth coding.

import type { Compression } from "./filters.ts";

export type Coding = Compression["codings"][number];

/** The first of `codings` that an Accept-Encoding value allows at its highest weight; undefined when it is sent as it is. */
export function chosenCoding(codings: readonly Coding[], accepted: string | undefined): Coding | undefined {
  if (accepted === undefined) return undefined;
  const weights = new Map<string, number>();
  for (const member of accepted.toLowerCase().split(",")) {
    const [name = "", ...parameters] = member.split(";").map((part) => part.trim());
    const q = parameters.find((one) => one.startsWith("q="))?.slice(2);
    const weight = q === undefined ? 1 : /^(0(\.\d{0,3})?|1(\.0{0,3})?)$/.test(q) ? Number(q) : 0;
    if (name !== "" && !weights.has(name)) weights.set(name === "x-gzip" ? "gzip" : name, weight);
  }
  const any = weights.get("*") ?? 0;
  const identity = weights.get("identity") ?? 0;
  let best: Coding | undefined;
  let most = 0;
  for (const coding of codings) {
    const weight = weights.get(coding) ?? any;
    if (weight > most && weight >= identity) {
      best = coding;
      most = weight;
    }
  }
  return best;
}

/** Whether a list of media types (`text/*` is allowed) has the one of a Content-Type value. */
export function typeListed(types: readonly string[], contentType: string | undefined): boolean {
  const type = (contentType ?? "").split(";", 1)[0]!.trim().toLowerCase();
  if (type === "") return false;
  return types.some((one) => one === type || (one.endsWith("/*") && type.startsWith(one.slice(0, -1))));
}
