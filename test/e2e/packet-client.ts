// Run inside a namespace: opens the connections and sends the datagrams that standard input asks for, and prints what came of
// each as JSON. For `packet-table.ts`.

import { createSocket } from "node:dgram";
import { connect } from "node:net";

export interface Attempt {
  readonly protocol: "tcp" | "udp";
  readonly host: string;
  readonly port: number;
  /** How many connections, one after the other. */
  readonly times: number;
}

/** What standard input has. */
export interface Attempts {
  /** Milliseconds until no answer counts as none. */
  readonly patience: number;
  /** How many are under way at one time. */
  readonly atOnce: number;
  readonly attempts: readonly Attempt[];
}

export interface Reached {
  readonly pod: string;
  readonly client: string;
}

/** What answered, or the error's code; `closed` when the connection was ended, `timeout` when nothing came. */
export type Answer = Reached | string;

/**
 * Each datagram has a source port of its own: one that an earlier socket had would meet that one's entry in connection tracking.
 * Below the ports that the kernel gives out by itself.
 */
let nextPort = 20_000;

/** A datagram that was lost is sent again after so many milliseconds. */
const againAfter = 500;

if (import.meta.main) {
  const { patience, atOnce, attempts } = (await Bun.stdin.json()) as Attempts;
  const answers: Answer[][] = attempts.map(() => []);
  let next = 0;
  const work = async () => {
    for (let at = next++; at < attempts.length; at = next++) {
      const { protocol, host, port, times } = attempts[at]!;
      const ask = protocol === "tcp" ? askTcp : askUdp;
      for (let n = 0; n < times; n++) answers[at]!.push(await ask(host, port, patience));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  console.log(JSON.stringify(answers));
  process.exit(0);
}

function askTcp(host: string, port: number, patience: number): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  const socket = connect({ host, port });
  let text = "";
  const end = (answer: Answer) => {
    clearTimeout(timer);
    socket.destroy();
    resolve(answer);
  };
  const timer = setTimeout(() => end("timeout"), patience);
  socket.on("connect", () => socket.write("GET / HTTP/1.0\r\n\r\n"));
  socket.on("data", (data) => {
    text += data.toString();
    const body = text.slice(text.indexOf("\r\n\r\n") + 4);
    if (body.endsWith("}\n")) end(reached(body));
  });
  socket.on("error", (error: NodeJS.ErrnoException) =>
    end(error.code === "ECONNRESET" ? "closed" : (error.code ?? error.message)),
  );
  socket.on("close", () => end("closed"));
  return promise;
}

/** A connected socket: it hears refusals, and nothing from anybody else. */
function askUdp(host: string, port: number, patience: number): Promise<Answer> {
  const { promise, resolve } = Promise.withResolvers<Answer>();
  const socket = createSocket(host.includes(":") ? "udp6" : "udp4");
  let ended = false;
  const end = (answer: Answer) => {
    if (ended) return;
    ended = true;
    clearTimeout(timer);
    clearInterval(again);
    socket.close();
    resolve(answer);
  };
  const failed = (error: NodeJS.ErrnoException) => end(error.code ?? error.message);
  const send = () => {
    if (ended) return;
    try {
      socket.send("?", (error) => error && failed(error));
    } catch (error) {
      failed(error as NodeJS.ErrnoException);
    }
  };
  const timer = setTimeout(() => end("timeout"), patience);
  const again = setInterval(send, againAfter);
  socket.on("error", failed);
  socket.on("message", (data) => end(reached(data.toString())));
  socket.bind(nextPort++, () => socket.connect(port, host, send));
  return promise;
}

function reached(body: string): Reached {
  const { pod, client } = JSON.parse(body) as Reached;
  return { pod, client };
}
