// The stand-in program: one process per node. It listens on a Unix socket for its agent, which says what to serve, and goes on
// serving when the agent is away. Usage: main.ts --socket PATH

import { rmSync } from "node:fs";
import type { Socket } from "bun";
import { messageOf } from "../../base/errors.ts";
import { encodeFrame, FrameReader, type ServeMessage } from "./protocol.ts";
import { StandInServer } from "./server.ts";

interface Agent {
  readonly reader: FrameReader<ServeMessage>;
  rest: Buffer;
}

const path = process.argv[process.argv.indexOf("--socket") + 1];
if (!process.argv.includes("--socket") || !path) {
  process.stderr.write("usage: standin/main.ts --socket PATH\n");
  process.exit(2);
}

const agents = new Set<Socket<Agent>>();
const server = new StandInServer(report);

function send(socket: Socket<Agent>, bytes: Buffer): void {
  const all = socket.data.rest.length > 0 ? Buffer.concat([socket.data.rest, bytes]) : bytes;
  const taken = Math.max(0, socket.write(all));
  socket.data.rest = all.subarray(taken);
}

function report(): void {
  const frame = encodeFrame({ type: "state", pods: server.state() });
  for (const socket of agents) send(socket, frame);
}

rmSync(path, { force: true });
Bun.listen<Agent>({
  unix: path,
  socket: {
    open(socket) {
      socket.data = { reader: new FrameReader(), rest: Buffer.alloc(0) };
      agents.add(socket);
    },
    data(socket, chunk) {
      try {
        const last = socket.data.reader.read(chunk).findLast((message) => message.type === "serve");
        if (last) void server.serve(last.pods, last.keep).then(report);
      } catch (error) {
        process.stderr.write(`an agent's message cannot be read: ${messageOf(error)}\n`);
        socket.terminate();
      }
    },
    drain(socket) {
      send(socket, Buffer.alloc(0));
    },
    close(socket) {
      agents.delete(socket);
    },
    error() {},
  },
});

for (const signal of ["SIGTERM", "SIGINT"] as const) {
  process.on(signal, () => {
    server.flushLogs(Date.now());
    rmSync(path, { force: true });
    process.exit(0);
  });
}
