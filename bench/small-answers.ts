// The benchmark of small answers over HTTP/1.1, without TLS (`http1`) and with it (`tls`): CPU time a request of everybody.

import { join } from "node:path";
import { everybody, inTurns, keep, type Name, need, path, table, withContenders } from "./contenders.ts";
import { perSecond, wrk } from "./loads.ts";

/** Takes seconds, rounds and names from the command line; keeps the result in `directory` when everybody was asked for. */
export async function smallAnswers(directory: string, what: string, tls: boolean): Promise<void> {
  const seconds = Number(process.argv[2] ?? 5);
  const rounds = Number(process.argv[3] ?? 3);
  const names = process.argv[4]?.split(",") as readonly Name[] | undefined;
  need("wrk", "wrk");
  const origin = [join(import.meta.dir, "http1/backend.ts")];
  await withContenders({ origin, tls, who: names ?? everybody }, async ({ contenders }) => {
    const results = await inTurns(contenders, rounds, (one, warm) =>
      wrk(one, path, { seconds: warm ? Math.min(seconds, 2) : seconds, connections: 32, tls }),
    );
    const title = `${what}, 1000 rules, header match, 32 connections; ${rounds} runs of ${seconds} s in turns`;
    const lines = table(results, "µs CPU/request", (run) => run.microseconds, perSecond);
    if (names) console.log([title, ...lines].join("\n"));
    else keep(directory, title, lines);
  });
}
