// Unary calls of gRPC as proxies see them: a small POST over HTTP/2 (without TLS) with `te: trailers`, an answer with trailers, 8
// connections of 10 streams, 1,000 rules. CPU time a call, ours with all telemetry on beside ours without. Usage: bun
// bench/grpc/run.ts [CALLS [ROUNDS]].

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { everybody, inTurns, keep, need, path, table, withContenders } from "../contenders.ts";
import { h2load, perSecond } from "../loads.ts";

const calls = Number(process.argv[2] ?? 50_000);
const rounds = Number(process.argv[3] ?? 3);
/** Long enough that our hot functions are compiled: that goes on beside the load, and would be counted. */
const warmUp = 60_000;
need("h2load", "nghttp2-client");

await withContenders(
  { origin: [join(import.meta.dir, "backend.ts")], http2: true, grpc: true, who: everybody },
  async ({ contenders, folder }) => {
    const message = join(folder, "message");
    writeFileSync(message, Buffer.from([0, 0, 0, 0, 5, 10, 3, 97, 98, 99]));
    const results = await inTurns(contenders, rounds, (one, warm) =>
      h2load(one, path, {
        requests: warm ? warmUp : calls,
        connections: 8,
        more: ["-m10", "-d", message, "-H", "content-type: application/grpc", "-H", "te: trailers"],
      }),
    );
    const title = `gRPC unary, 1000 rules, 8 connections of 10 streams; ${rounds} runs of ${calls} calls in turns`;
    keep(
      import.meta.dir,
      title,
      table(results, "µs CPU/call", (run) => run.microseconds, perSecond),
    );
  },
);
