// For tests only: whether the compiled router finds the rule that `decide`, the reference, finds for a request.

import { decide } from "../../model/decide.ts";
import type { DecideRequest } from "../../model/decision.ts";
import type { Model, Rule } from "../../model/model.ts";
import { parseTarget } from "../../model/path.ts";
import { normalizedPath } from "../../model/path-normalization.ts";
import type { RequestHead } from "../exchange.ts";
import { HeaderBlock } from "../headers.ts";
import { parseFields } from "../http1/fields.ts";
import { Router } from "./router.ts";

/** A head as a codec would make it. */
export function headOf(request: DecideRequest): RequestHead {
  const connects = request.method === "CONNECT";
  const toPlace = connects && !request.target.startsWith("/");
  const target = toPlace ? { authority: request.target, path: "", query: undefined } : parseTarget(request.target);
  const headers = new HeaderBlock();
  const lines = Buffer.from(`${request.headers.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`);
  if (parseFields(lines, 0, lines.length, headers) !== lines.length) throw new Error("the fields cannot be read");
  return {
    method: request.method,
    scheme: request.tls ? "https" : "http",
    authority: target.authority ?? request.authority,
    path: target.path,
    query: target.query,
    headers,
    hostKept: false,
    length: 0,
    upgrade: connects ? (toPlace ? "" : "protocol") : undefined,
    tunnelOnly: connects,
    source: request.source ?? "",
  };
}

/** A model's tables, compiled; what is found is the rule itself. */
export function compiled(model: Pick<Model, "routeTables">): ReadonlyMap<string, Router<Rule>> {
  return new Map([...model.routeTables].map(([name, table]) => [name, new Router(table, (rule) => rule)]));
}

/** Whether a rule was found; undefined when the request does not come to a route table. Throws when the two disagree. */
export function agree(
  model: Model,
  routers: ReadonlyMap<string, Router<Rule>>,
  request: DecideRequest,
): boolean | undefined {
  const decision = decide(model, request);
  if (!decision.chain || !("routes" in decision.chain.serve)) return undefined;
  const { listener, rule, host, outcome } = decision;
  const status = outcome.kind === "respond" ? outcome.status : 0;
  const head = headOf(request);
  const path = normalizedPath(head.path, listener?.pathNormalization ?? "NONE");
  if (path === undefined) {
    if (status !== 400) throw new Error(`${JSON.stringify(request)} has no path, but decide answers ${status}`);
    return false;
  }
  head.path = path;
  const found = routers.get(decision.chain.serve.routes)!.find(head);
  const unserved = status === 501 ? "method_not_supported" : host ? "no_route" : "no_host";
  const expected = rule ?? (status === 400 ? "bad_host" : unserved);
  if (found !== expected) {
    const name = (one: Rule | string) => (typeof one === "string" ? one : one.name);
    throw new Error(`${JSON.stringify(request)}: the router finds ${name(found)}, decide ${name(expected)}`);
  }
  return rule !== undefined;
}
