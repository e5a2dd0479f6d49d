// Messages of 100 bytes back and forth over 32 WebSockets: CPU time of the proxy for each message and its echo. The client is this
// process, so that the rate says little; the CPU time is the proxy's own. Usage: bun bench/websocket/run.ts [SECONDS [ROUNDS]].

import { join } from "node:path";
import { apiVersion, type Contender, host, inTurns, keep, path, table, withContenders } from "../contenders.ts";
import { cpuTime } from "../cpu.ts";
import { perSecond, type Run } from "../loads.ts";

const seconds = Number(process.argv[2] ?? 5);
const rounds = Number(process.argv[3] ?? 3);
const sockets = 32;
const message = "m".repeat(100);

async function echo({ port, pid }: Contender, duration: number): Promise<Run> {
  let count = 0;
  let over = false;
  const open = await Promise.all(
    Array.from(
      { length: sockets },
      () =>
        new Promise<WebSocket>((resolve, reject) => {
          const socket = new WebSocket(`ws://127.0.0.1:${port}${path}`, {
            headers: { host, "x-api-version": apiVersion },
          } as unknown as string[]);
          socket.onopen = () => resolve(socket);
          socket.onerror = () => reject(new Error("no handshake"));
          socket.onmessage = () => {
            count++;
            if (!over) socket.send(message);
          };
        }),
    ),
  );
  const before = cpuTime(pid);
  const began = performance.now();
  for (const socket of open) socket.send(message);
  await Bun.sleep(duration * 1000);
  over = true;
  const cpu = cpuTime(pid) - before;
  const result = { microseconds: cpu / count, perSecond: (count * 1000) / (performance.now() - began) };
  for (const socket of open) socket.close();
  return result;
}

await withContenders({ origin: [join(import.meta.dir, "backend.ts")] }, async ({ contenders }) => {
  const results = await inTurns(contenders, rounds, (one, warm) => echo(one, warm ? 1 : seconds));
  const title = `WebSocket echoes of ${message.length} bytes, ${sockets} connections; ${rounds} runs of ${seconds} s in turns`;
  keep(
    import.meta.dir,
    title,
    table(
      results,
      "µs CPU/echo",
      (run) => run.microseconds,
      (runs) => perSecond(runs).replace("requests", "echoes"),
    ),
  );
});
