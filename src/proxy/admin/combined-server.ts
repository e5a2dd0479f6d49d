// The admin interface of a composition of workers: asks each of them, and answers with all of it as one (`combined.ts`). A worker
// that is being started is left out; without any the answer is 503.

import { combinedClusters, combinedListeners, combinedSeries, combinedStatus, summedMetrics } from "./combined.ts";
import { type AdminHandlers, type AdminSocket, answerDrain, listenAdmin } from "./listen.ts";
import type { ClusterView, ListenerView, SeriesView, StatusView } from "./views.ts";

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
  const each = async (method: string, target: string, body?: string): Promise<Response[]> => {
    const asked = workers.map(({ admin }) =>
      fetch(`http://proxy${target}`, {
        ...{ method, unix: admin, signal: AbortSignal.timeout(patience) },
        ...(body === undefined ? {} : { body }),
      }),
    );
    const answers = (await Promise.allSettled(asked)).flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
    if (answers.length === 0) throw new Error("no worker answers");
    return answers;
  };
  const all = async <T>(target: string) =>
    (await Promise.all((await each("GET", target)).map((answer) => answer.json()))) as T[];
  const first = async (answers: Promise<Response[]>) => {
    const [failed] = (await answers).filter(({ ok }) => !ok);
    return failed ?? (await answers)[0]!;
  };
  const handlers: AdminHandlers = {
    "GET /healthz": async () => first(each("GET", "/healthz")),
    "GET /metrics": async () => {
      const texts = await Promise.all((await each("GET", "/metrics")).map((answer) => answer.text()));
      return new Response(summedMetrics(texts), {
        headers: { "content-type": "text/plain; version=0.0.4; charset=utf-8" },
      });
    },
    "GET /status": async () =>
      Response.json(combinedStatus({ name, pid: process.pid }, await all<StatusView>("/status"))),
    "GET /config": async (url) => first(each("GET", `/config${url.search}`)),
    "GET /routes": async () => first(each("GET", "/routes")),
    "GET /listeners": async () => Response.json(combinedListeners(await all<ListenerView[]>("/listeners"))),
    "GET /clusters": async () => Response.json(combinedClusters(await all<ClusterView[]>("/clusters"))),
    "GET /connections": async () => Response.json((await all<object[]>("/connections")).flat()),
    "GET /stats": async () => {
      const stats = await all<StatusView & { routes: SeriesView[]; backends: ClusterView[] }>("/stats");
      return Response.json({
        ...combinedStatus({ name, pid: process.pid }, stats),
        routes: combinedSeries(stats.map(({ routes }) => routes)),
        backends: combinedClusters(stats.map(({ backends }) => backends)),
      });
    },
    "GET /log-level": async () => first(each("GET", "/log-level")),
    "PUT /log-level": async (_url, request) => first(each("PUT", "/log-level", await request.text())),
    "POST /reopen-logs": async () => first(each("POST", "/reopen-logs")),
    "POST /drain": (url) => answerDrain(url, drain),
  };
  return listenAdmin(path, handlers, help);
}
