// Run inside a namespace: asks places over TCP and UDP without a pause until standard input ends, each time on a new socket and nothing
// twice, and prints what came of it as JSON. For `transparent-hand-over.test.ts`.

import { createSocket } from "node:dgram";
import { connect } from "node:net";

/** Whom to ask, in the program's argument as JSON. */
export interface Place {
  readonly protocol: "tcp" | "udp";
  readonly address: string;
  readonly port: number;
  /** What the answer begins with. */
  readonly expected: string;
}

export interface Asked {
  answered: number;
  /** What came instead of the answer. */
  readonly failures: string[];
  /** Milliseconds of connections that took longer than a SYN that is said again. */
  readonly slow: number[];
}

const patience = 10_000;
/** TCP's first retransmission comes after a second (RFC 6298 §2). */
const slow = 900;

function askTcp({ address, port }: Place, asked: Asked): Promise<string> {
  return new Promise((resolve) => {
    const began = performance.now();
    let text = "";
    const socket = connect(port, address, () => {
      const took = performance.now() - began;
      if (took > slow) asked.slow.push(Math.round(took));
      socket.write("GET /x HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    });
    socket.setTimeout(patience, () => socket.destroy(new Error("timeout")));
    socket.on("data", (bytes) => {
      text += bytes.toString("latin1");
    });
    socket.on("error", (error) => resolve(error.message));
    socket.on("close", () => resolve(text.split("\r\n\r\n")[1] ?? `closed after ${JSON.stringify(text)}`));
  });
}

function askUdp({ address, port }: Place): Promise<string> {
  return new Promise((resolve) => {
    const socket = createSocket(address.includes(":") ? "udp6" : "udp4");
    const end = (text: string) => {
      clearTimeout(timer);
      socket.close();
      resolve(text);
    };
    const began = new Date().toISOString();
    const timer = setTimeout(() => end(`nothing since ${began}`), patience);
    socket.on("message", (bytes) => end(bytes.toString()));
    socket.on("error", (error) => end(error.message));
    socket.send("hello", port, address);
  });
}

if (import.meta.main) {
  let over = false;
  process.stdin.on("end", () => {
    over = true;
  });
  process.stdin.resume();
  const results = await Promise.all(
    (JSON.parse(process.argv[2]!) as Place[]).map(async (place) => {
      const asked: Asked = { answered: 0, failures: [], slow: [] };
      const one = async () => {
        while (!over) {
          const text = await (place.protocol === "tcp" ? askTcp(place, asked) : askUdp(place));
          if (text.startsWith(place.expected)) asked.answered++;
          else asked.failures.push(text);
          await Bun.sleep(5);
        }
      };
      await Promise.all([one(), one()]);
      return asked;
    }),
  );
  console.log(JSON.stringify(results));
  process.exit();
}
