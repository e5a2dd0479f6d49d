// HTTP/1.1 over TLS, small answers, 32 keep-alive connections, 1,000 rules: CPU time a request. Usage: bun bench/tls/run.ts
// [SECONDS [ROUNDS]].

import { join } from "node:path";
import { inTurns, keep, need, path, table, withContenders } from "../contenders.ts";
import { perSecond, wrk } from "../loads.ts";

const seconds = Number(process.argv[2] ?? 5);
const rounds = Number(process.argv[3] ?? 3);
need("wrk", "wrk");

await withContenders({ origin: [join(import.meta.dir, "../http1/backend.ts")], tls: true }, async ({ contenders }) => {
  const results = await inTurns(contenders, rounds, (one, warm) =>
    wrk(one, path, { seconds: warm ? Math.min(seconds, 2) : seconds, connections: 32, tls: true }),
  );
  const title = `HTTP/1.1 over TLS, 1000 rules, header match, 32 connections; ${rounds} runs of ${seconds} s in turns`;
  keep(
    import.meta.dir,
    title,
    table(results, "µs CPU/request", (run) => run.microseconds, perSecond),
  );
});
