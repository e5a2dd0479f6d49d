// Run inside a namespace: opens the connections that standard input asks for, and prints what came of each as JSON. For
// `packets.test.ts`.

import { connect } from "node:net";

export interface Attempt {
  readonly host: string;
  readonly port: number;
  /** How many connections, one after the other. */
  readonly times: number;
}

export interface Reached {
  readonly pod: string;
  readonly client: string;
}

/** What answered, or the error's code; `timeout` when nothing came. */
export type Answer = Reached | string;

const patience = 1_200;
const atOnce = 96;

if (import.meta.main) {
  const attempts = (await Bun.stdin.json()) as Attempt[];
  const answers: Answer[][] = attempts.map(() => []);
  let next = 0;
  const work = async () => {
    for (let at = next++; at < attempts.length; at = next++) {
      const { host, port, times } = attempts[at]!;
      for (let n = 0; n < times; n++) answers[at]!.push(await ask(host, port));
    }
  };
  await Promise.all(Array.from({ length: atOnce }, work));
  console.log(JSON.stringify(answers));
}

function ask(host: string, port: number): Promise<Answer> {
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
    if (!body.endsWith("}\n")) return;
    const { pod, client } = JSON.parse(body) as Reached;
    end({ pod, client });
  });
  socket.on("error", (error: NodeJS.ErrnoException) => end(error.code ?? error.message));
  return promise;
}
