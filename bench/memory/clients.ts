// Clients that each ask once and stay: a process of its own, so that their sockets are not counted among another's open files.
// Arguments: PORT h1|h2 plain|tls COUNT. Prints `ready` when all have their answers; ends when its input does.

import { connect as connectTcp, type Socket } from "node:net";
import { connect as connectTls } from "node:tls";
import { Flag, FrameType, preface } from "../../src/proxy/http2/frame.ts";
import { frame, Peer, settings } from "../../src/proxy/http2/peer.ts";
import { apiVersion, host, path } from "../contenders.ts";

const [port, protocol, security, count] = process.argv.slice(2);
const http2 = protocol === "h2";
const tls = security === "tls";
/** At a time: a queue of connections that is not accepted overflows. */
const batch = 100;

const request = `GET ${path} HTTP/1.1\r\nhost: ${host}\r\nx-api-version: ${apiVersion}\r\naccept: */*\r\n\r\n`;

function http2Request(): Buffer {
  const fields = {
    ":method": "GET",
    ":scheme": tls ? "https" : "http",
    ":authority": host,
    ":path": path,
    "x-api-version": apiVersion,
  };
  return Buffer.concat([preface, settings(), new Peer().headers(1, fields)]);
}

/** Resolves when the answer is there; the connection stays. */
function ask(): Promise<Socket> {
  return new Promise((resolve, reject) => {
    const peer = new Peer();
    let answered = false;
    const begin = () => void socket.write(http2 ? http2Request() : request);
    const to = { host: "127.0.0.1", port: Number(port) };
    const socket: Socket = tls
      ? connectTls(
          { ...to, servername: host, rejectUnauthorized: false, ALPNProtocols: [http2 ? "h2" : "http/1.1"] },
          begin,
        )
      : connectTcp(to, begin);
    socket.on("data", (bytes: Buffer) => {
      if (answered) return;
      if (http2) {
        peer.write(bytes, 0, bytes.length);
        answered = peer.frames.some(
          ({ type, flags, id }) => id === 1 && type <= FrameType.headers && (flags & Flag.endStream) !== 0,
        );
        if (answered) socket.write(frame(FrameType.settings, Flag.ack, 0));
      } else answered = bytes.includes("}");
      if (answered) resolve(socket);
    });
    socket.on("error", reject);
    socket.on("close", () => reject(new Error("closed before the answer")));
  });
}

const sockets: Socket[] = [];
while (sockets.length < Number(count)) {
  const more = Math.min(batch, Number(count) - sockets.length);
  sockets.push(...(await Promise.all(Array.from({ length: more }, ask))));
}
process.stdout.write("ready\n");
for await (const _ of Bun.stdin.stream());
const gone = sockets.filter((socket) => socket.destroyed).length;
if (gone > 0) process.stderr.write(`${gone} of ${count} connections did not stay\n`);
process.exit(gone > 0 ? 1 : 0);
