// One question to one other DNS server, over UDP or TCP. Each has a socket, and so a source port, of its own, which is what
// makes a forged answer hard to place (RFC 5452).

import { udpError } from "../base/datagram.ts";
import type { Upstream } from "./upstreams.ts";

/** Resolves with the answer's bytes; rejects when there is none within `timeout` milliseconds. */
export type Exchange = (upstream: Upstream, message: Uint8Array, timeout: number) => Promise<Uint8Array>;

export const askOverUdp: Exchange = (upstream, message, timeout) =>
  new Promise((resolve, reject) => {
    let done = false;
    let close = () => {};
    const finish = (settle: () => void) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      close();
      settle();
    };
    const timer = setTimeout(() => finish(() => reject(new Error("no answer in time"))), timeout);
    Bun.udpSocket({
      connect: { hostname: upstream.address, port: upstream.port },
      socket: {
        data(_socket, data) {
          // Only a datagram with our id can be the answer; what else comes is not waited for any longer than it takes.
          if (data[0] === message[0] && data[1] === message[1]) finish(() => resolve(new Uint8Array(data)));
        },
        error(...told: readonly unknown[]) {
          finish(() => reject(udpError(told)));
        },
      },
    })
      .then((socket) => {
        close = () => socket.close();
        if (done) socket.close();
        else socket.send(message);
      })
      .catch((error) => finish(() => reject(error)));
  });

export const askOverTcp: Exchange = (upstream, message, timeout) =>
  new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    let done = false;
    let close = () => {};
    const finish = (settle: () => void) => {
      if (done) return;
      done = true;
      clearTimeout(timer);
      close();
      settle();
    };
    const timer = setTimeout(() => finish(() => reject(new Error("no answer in time"))), timeout);
    const framed = Buffer.alloc(2 + message.length);
    framed.writeUInt16BE(message.length, 0);
    framed.set(message, 2);
    Bun.connect({
      hostname: upstream.address,
      port: upstream.port,
      socket: {
        open(socket) {
          close = () => socket.end();
          socket.write(framed);
        },
        data(_socket, data) {
          received = Buffer.concat([received, data]);
          if (received.length < 2 || received.length < 2 + received.readUInt16BE(0)) return;
          finish(() => resolve(new Uint8Array(received.subarray(2, 2 + received.readUInt16BE(0)))));
        },
        close() {
          finish(() => reject(new Error("the server closed the connection")));
        },
        error(_socket, error) {
          finish(() => reject(error));
        },
      },
    }).catch((error) => finish(() => reject(error)));
  });
