// Clients that ask a proxy without a pause, over kept connections and over new ones, while something is done to it. They try nothing
// again, so that a failure of the proxy is one of theirs.

import net from "node:net";
import { eventually } from "./stack.ts";

export interface Tally {
  answered: number;
  readonly failures: string[];
  connections: number;
  /** Milliseconds of connections whose SYN was said again, which is after a second (RFC 6298 §2). */
  readonly slow: number[];
}

const slow = 900;

export type Place = readonly [address: string, port: number];

/** Requests one after the other until `stop`, on connections that are kept as long as the answers allow, or each on a new one. */
async function ask([address, port]: Place, keep: boolean, tally: Tally, stop: () => boolean): Promise<void> {
  let socket: net.Socket | undefined;
  while (!stop()) {
    socket ??= await connect(address, port, tally);
    if (!socket) continue;
    const closes = await answerOn(socket, keep, tally);
    if (!closes) continue;
    socket.destroy();
    socket = undefined;
  }
  socket?.destroy();
}

function connect(address: string, port: number, tally: Tally): Promise<net.Socket | undefined> {
  return new Promise((resolve) => {
    const began = performance.now();
    const socket = net.connect(port, address);
    tally.connections++;
    socket.once("connect", () => {
      const took = Math.round(performance.now() - began);
      if (took > slow) tally.slow.push(took);
      resolve(socket);
    });
    socket.once("error", (error) => {
      tally.failures.push(`connect: ${error.message}`);
      resolve(undefined);
    });
  });
}

/** One request; whether the connection is over. A failure is anything but a whole answer 200: nothing is tried again. */
function answerOn(socket: net.Socket, keep: boolean, tally: Tally): Promise<boolean> {
  return new Promise((resolve) => {
    let text = "";
    const end = (closes: boolean, failure?: string) => {
      if (failure === undefined) tally.answered++;
      else tally.failures.push(failure);
      for (const name of ["data", "close", "error"]) socket.removeAllListeners(name);
      socket.on("error", () => {});
      clearTimeout(timer);
      resolve(closes);
    };
    const timer = setTimeout(() => end(true, `timeout after ${JSON.stringify(text)}`), 20_000);
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
      const head = text.indexOf("\r\n\r\n");
      if (head < 0) return;
      const length = Number(/content-length: (\d+)/i.exec(text)?.[1]);
      if (text.length < head + 4 + length) return;
      const closes = !keep || /connection: close/i.test(text.slice(0, head));
      end(closes, text.startsWith("HTTP/1.1 200") ? undefined : text.slice(0, head));
    });
    socket.on("close", () => end(true, `closed after ${JSON.stringify(text)}`));
    socket.on("error", (error) => end(true, error.message));
    socket.write(`GET /cart/x HTTP/1.1\r\nhost: shop.example.com\r\n${keep ? "" : "connection: close\r\n"}\r\n`);
  });
}

/** Asks from eight clients until `work` is done. */
export async function whileAsked(place: Place, work: () => Promise<void>): Promise<Tally> {
  const tally: Tally = { answered: 0, failures: [], connections: 0, slow: [] };
  let over = false;
  const clients = Array.from({ length: 8 }, (_, index) => ask(place, index % 2 === 0, tally, () => over));
  await eventually(
    async () => tally.answered,
    (answered) => answered > 200,
  );
  try {
    await work();
    const already = tally.answered;
    await eventually(
      async () => tally.answered,
      (answered) => answered > already + 500,
    );
  } finally {
    over = true;
    await Promise.all(clients);
  }
  return tally;
}
