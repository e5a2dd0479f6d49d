// The admin interface of a composition of workers: asks each of them, and answers with all of it as one (`combined.ts`). A worker
// that is being started, or ends while it answers, is left out; without any the answer is 503.

import { inSlices, otherTurn } from "../../base/steps.ts";
import { combinedClusters, combinedListeners, combinedStats, combinedStatus, summedMetrics } from "./combined.ts";
import { inPieces, listPieces, objectPieces, prometheusType } from "./in-pieces.ts";
import { type AdminHandlers, type AdminSocket, answerDrain, listenAdmin, Unavailable } from "./listen.ts";
import type { ClusterView, ListenerView, StatsView, StatusView } from "./views.ts";

export interface CombinedOptions {
  readonly path: string;
  readonly name: string;
  readonly workers: readonly { readonly admin: string }[];
  drain(deadline: number, successors: number | undefined): void;
}

const help = `GET /healthz, /metrics, /status, /config[?type=TYPE], /listeners, /routes, /clusters, /connections, /stats, /log-level
PUT /log-level (debug, info, warn, error)
POST /drain?deadline=MILLISECONDS[&successors=NUMBER], /reopen-logs
Profiles are made by each worker at its own socket: this one's with .1, .2, … behind. So is a POST /drain of one: it is started anew.
`;

/** Milliseconds for a worker's answer. */
const patience = 5_000;

/** Throws an Error when the socket cannot be made. */
export function serveCombinedAdmin({ path, name, workers, drain }: CombinedOptions): AdminSocket {
  /** A worker's answer, read to its end: it may go while it speaks. */
  const ask = async ({ admin }: { readonly admin: string }, method: string, target: string, body?: string) => {
    const answer = await fetch(`http://proxy${target}`, {
      ...{ method, unix: admin, signal: AbortSignal.timeout(patience) },
      ...(body === undefined ? {} : { body }),
    });
    return { status: answer.status, type: answer.headers.get("content-type") ?? "", text: await answer.text() };
  };
  /** Of those that answer. */
  const each = async (method: string, target: string, body?: string): Promise<Answer[]> => {
    const asked = await Promise.allSettled(workers.map((one) => ask(one, method, target, body)));
    const answers = asked.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    if (answers.length === 0) throw new Unavailable("no worker answers");
    return answers;
  };
  const good = async (target: string): Promise<string[]> => {
    const answers = (await each("GET", target)).filter(({ status }) => status === 200);
    if (answers.length === 0) throw new Unavailable("no worker answers");
    return answers.map(({ text }) => text);
  };
  const all = async <T>(target: string): Promise<T[]> => {
    const values: T[] = [];
    for (const text of await good(target)) {
      values.push(JSON.parse(text) as T);
      await otherTurn();
    }
    return values;
  };
  const told = ({ status, type, text }: Answer) => new Response(text, { status, headers: { "content-type": type } });
  /** What is done by all: what one of them says to it, rather that it failed. */
  const byAll = async (method: string, target: string, body?: string) => {
    const answers = await each(method, target, body);
    return told(answers.find(({ status }) => status !== 200) ?? answers[0]!);
  };
  /** What is the same everywhere. */
  const byOne = async (target: string) => {
    for (const worker of workers) {
      const answer = await ask(worker, "GET", target).catch(() => undefined);
      if (answer) return told(answer);
    }
    throw new Unavailable("no worker answers");
  };
  const own = { name, pid: process.pid };
  const handlers: AdminHandlers = {
    "GET /healthz": () => byAll("GET", "/healthz"),
    "GET /metrics": async () => inPieces(summedMetrics(await good("/metrics")), prometheusType),
    "GET /status": async () => Response.json(combinedStatus(own, await all<StatusView>("/status"))),
    "GET /config": (url) => byOne(`/config${url.search}`),
    "GET /routes": () => byOne("/routes"),
    "GET /listeners": async () =>
      inPieces(listPieces(await inSlices(combinedListeners(await all<ListenerView[]>("/listeners"))))),
    "GET /clusters": async () =>
      inPieces(listPieces(await inSlices(combinedClusters(await all<ClusterView[]>("/clusters"))))),
    "GET /connections": async () => inPieces(listPieces((await all<object[]>("/connections")).flat())),
    "GET /stats": async () => {
      const stats = await all<StatsView>("/stats");
      const { workers: shown, routes, backends, relays, ...fields } = await inSlices(combinedStats(own, stats));
      return inPieces(
        objectPieces(fields, [
          ["workers", listPieces(shown)],
          ["relays", listPieces(relays)],
          ["routes", listPieces(routes)],
          ["backends", listPieces(backends)],
        ]),
      );
    },
    "GET /log-level": () => byOne("/log-level"),
    "PUT /log-level": async (_url, request) => byAll("PUT", "/log-level", await request.text()),
    "POST /reopen-logs": () => byAll("POST", "/reopen-logs"),
    "POST /drain": (url) => answerDrain(url, drain),
  };
  return listenAdmin(path, handlers, help);
}

interface Answer {
  readonly status: number;
  readonly type: string;
  readonly text: string;
}
