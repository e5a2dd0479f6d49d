import { FFIType, ptr } from "bun:ffi";
import { expect, test } from "bun:test";
import { openLibc } from "../../base/libc.ts";
import { openSocket, type SocketWay } from "./open-socket.ts";

const { i32, ptr: pointer } = FFIType;
const { getsockopt } = openLibc(
  { getsockopt: { args: [i32, i32, i32, pointer, pointer], returns: i32 } },
  "options cannot be read",
);

function option(fd: number, level: number, name: number): number {
  const value = new Int32Array(1);
  const size = new Uint32Array([4]);
  expect(getsockopt(fd, level, name, ptr(value), ptr(size))).toBe(0);
  return value[0]!;
}

/** SO_KEEPALIVE, TCP_KEEPIDLE, TCP_KEEPINTVL, TCP_KEEPCNT of a connection that is opened this way. */
async function optionsOf(more: Partial<SocketWay>): Promise<number[]> {
  const server = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  try {
    const { port } = server;
    return await new Promise((resolve, reject) => {
      const nothing = () => {};
      const events = {
        open(socket: object) {
          const { fd } = socket as { fd: number };
          resolve([option(fd, 1, 9), ...[4, 5, 6].map((name) => option(fd, 6, name))]);
        },
        ...{ data: nothing, drain: nothing, end: nothing, close: nothing, error: nothing, connectError: reject },
        ...{ handshake: nothing, session: nothing },
      };
      openSocket({ address: "127.0.0.1", port, ...more }, undefined, events, events).catch(reject);
    });
  } finally {
    server.stop(true);
  }
}

test("a connection to an endpoint is kept alive as its backend says, and else as the machine does", async () => {
  const [off, ...machine] = await optionsOf({});
  expect(off).toBe(0);
  const [time, interval] = machine;
  expect(await optionsOf({ tcpKeepalive: { time: 60_000, interval: 7_000, probes: 3 } })).toEqual([1, 60, 7, 3]);
  expect(await optionsOf({ tcpKeepalive: { probes: 4 } })).toEqual([1, time!, interval!, 4]);
  expect(await optionsOf({ tcpKeepalive: {} })).toEqual([1, ...machine]);
});

test("also one that begins with a PROXY header", async () => {
  const preface = Buffer.from("PROXY UNKNOWN\r\n");
  expect((await optionsOf({ preface, tcpKeepalive: { time: 9_000 } })).slice(0, 2)).toEqual([1, 9]);
});
