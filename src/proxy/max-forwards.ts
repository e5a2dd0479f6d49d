// Max-Forwards (RFC 9110 §7.6.2): how many more proxies a TRACE or OPTIONS may pass. The one at which none is left answers itself.

import type { RequestHead } from "./exchange.ts";
import { hopByHopNames } from "./headers.ts";
import { type LocalAnswer, localAnswer } from "./local-answer.ts";

/** What the answer to a TRACE does not repeat (RFC 9110 §9.3.8). */
const secret = new Set(["authorization", "proxy-authorization", "cookie"]);

/** Counts this proxy. The answer where no other may follow; undefined where one may. */
export function spendForward(head: RequestHead): LocalAnswer | undefined {
  const { headers, method } = head;
  const field = headers.get("max-forwards");
  // A field that is no number is for nobody.
  if (field === undefined || !/^[0-9]{1,9}$/.test(field)) return undefined;
  const left = Number(field);
  if (left > 0) {
    headers.set("max-forwards", String(left - 1));
    return undefined;
  }
  const reason = { name: "x-fairlead-reason", value: "last_hop" };
  return method === "TRACE"
    ? localAnswer(200, repeated(head), [{ name: "content-type", value: "message/http" }, reason])
    : localAnswer(200, "", [reason]);
}

/** The request as HTTP/1.1 would have it. */
function repeated({ method, path, query, authority, headers }: RequestHead): string {
  const fields = headers.entries().filter(([name]) => name !== "host" && !secret.has(name) && !hopByHopNames.has(name));
  const target = query === undefined ? path : `${path}?${query}`;
  const lines = [`${method} ${target} HTTP/1.1`, `host: ${authority}`, ...fields.map((field) => field.join(": "))];
  return `${lines.join("\r\n")}\r\n\r\n`;
}
