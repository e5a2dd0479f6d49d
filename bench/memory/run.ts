// Memory of idle connections: resident memory before and after 9,500 clients (what 20,000 open files permit HAProxy) have each asked once and stay, HTTP/1.1 and HTTP/2
// without TLS. Usage: bun bench/memory/run.ts [CONNECTIONS].

import { readFileSync } from "node:fs";
import { join } from "node:path";
import type { Socket } from "bun";
import { Flag, FrameType, preface } from "../../src/proxy/http2/frame.ts";
import { frame, Peer, settings } from "../../src/proxy/http2/peer.ts";
import { apiVersion, type Contender, host, keep, path, withContenders } from "../contenders.ts";

const wanted = Number(process.argv[2] ?? 9_500);
const batch = 200;

function resident(pid: number): number {
  return Number(/VmRSS:\s+(\d+) kB/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))![1]);
}

const request = Buffer.from(
  `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nx-api-version: ${apiVersion}\r\naccept: */*\r\n\r\n`,
);

function http2Request(): Buffer {
  const fields = {
    ":method": "GET",
    ":scheme": "http",
    ":authority": host,
    ":path": path,
    "x-api-version": apiVersion,
  };
  return Buffer.concat([preface, settings(), new Peer().headers(1, fields)]);
}

/** Resolves when the answer is there; the connection stays. */
function ask(port: number, http2: boolean): Promise<Socket<undefined>> {
  return new Promise((resolve, reject) => {
    const peer = new Peer();
    let answered = false;
    Bun.connect<undefined>({
      hostname: "127.0.0.1",
      port,
      socket: {
        open(socket) {
          socket.write(http2 ? http2Request() : request);
        },
        data(socket, bytes) {
          if (answered) return;
          if (http2) {
            peer.write(bytes, 0, bytes.length);
            answered = peer.frames.some(
              ({ type, flags, id }) => id === 1 && type <= FrameType.headers && (flags & Flag.endStream) !== 0,
            );
          } else answered = bytes.includes("}");
          if (!answered) return;
          if (http2) socket.write(frame(FrameType.settings, Flag.ack, 0));
          resolve(socket);
        },
        close() {
          if (!answered) reject(new Error("closed before the answer"));
        },
        error() {},
      },
    }).catch(reject);
  });
}

async function measure({ port, pid }: Contender, http2: boolean): Promise<string> {
  // What the first requests cost once is not a connection's.
  const first = await Promise.all(Array.from({ length: batch }, () => ask(port, http2)));
  const before = resident(pid);
  const sockets: Socket<undefined>[] = [];
  while (sockets.length < wanted)
    sockets.push(
      ...(await Promise.all(Array.from({ length: Math.min(batch, wanted - sockets.length) }, () => ask(port, http2)))),
    );
  await Bun.sleep(3000);
  const after = resident(pid);
  for (const socket of [...first, ...sockets]) socket.terminate();
  await Bun.sleep(2000);
  return `${((after - before) / wanted).toFixed(1)} KiB a connection (${(before / 1024).toFixed(0)} -> ${(after / 1024).toFixed(0)} MiB, ${(resident(pid) / 1024).toFixed(0)} afterwards)`;
}

const lines: string[] = [];
for (const http2 of [false, true]) {
  await withContenders({ origin: [join(import.meta.dir, "../http1/backend.ts")], http2 }, async ({ contenders }) => {
    lines.push(http2 ? "HTTP/2" : "HTTP/1.1");
    for (const one of contenders) lines.push(`${one.name.padEnd(9)} ${await measure(one, http2)}`);
  });
}
keep(import.meta.dir, `${wanted} idle connections after one request each, without TLS`, lines);
