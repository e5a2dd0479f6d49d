// HTTP/2 over TLS, small answers of a backend of HTTP/1.1, 32 connections of 10 streams, 1,000 rules with header matches: CPU time a
// request of the proxy's process, ours with all telemetry on beside ours without, and NGINX without a log and with one. 320 requests
// are under way at once: `nginx` keeps a connection to the backend for each, `nginx-64` keeps 64 and opens and closes the others.
// Usage: bun bench/http2/run.ts [REQUESTS [ROUNDS [NAME,…]]]; with names only those, and the result is not kept.

import { join } from "node:path";
import { everybody, inTurns, keep, type Name, need, path, table, withContenders } from "../contenders.ts";
import { h2load, perSecond } from "../loads.ts";

const requests = Number(process.argv[2] ?? 50_000);
const rounds = Number(process.argv[3] ?? 5);
const names = process.argv[4]?.split(",") as readonly Name[] | undefined;
const connections = 32;
const streams = 10;
/** Long enough that our hot functions are compiled: that goes on beside the load, and would be counted. */
const warmUp = 60_000;
need("h2load", "nghttp2-client");

await withContenders(
  { origin: [join(import.meta.dir, "../http1/backend.ts")], tls: true, who: names ?? [...everybody, "nginx-64"] },
  async ({ contenders }) => {
    const results = await inTurns(contenders, rounds, (one, warm) =>
      h2load(one, path, {
        requests: warm ? warmUp : requests,
        connections,
        tls: true,
        more: [`-m${streams}`],
      }),
    );
    const title = `HTTP/2 over TLS, 1000 rules, header match, ${connections} connections of ${streams} streams; ${rounds} runs of ${requests} requests in turns`;
    const lines = table(results, "µs CPU/request", (run) => run.microseconds, perSecond);
    if (names) console.log([title, ...lines].join("\n"));
    else keep(import.meta.dir, title, lines);
  },
);
