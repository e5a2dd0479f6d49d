import { expect, test } from "bun:test";
import { askOverTcp, askOverUdp } from "./upstream.ts";

const message = Uint8Array.of(0x12, 0x34, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0);

/** A port of the loopback address that nobody listens on any more. */
async function closedPort(): Promise<number> {
  const socket = await Bun.udpSocket({ hostname: "127.0.0.1", port: 0 });
  const { port } = socket;
  socket.close();
  return port;
}

test.each([
  ["UDP", askOverUdp],
  ["TCP", askOverTcp],
] as const)(
  "a server that refuses over %s is told of at once and by name, not when the time is over",
  async (_, ask) => {
    const error = await ask({ address: "127.0.0.1", port: await closedPort() }, message, 60_000).catch((one) => one);
    expect(error).toBeInstanceOf(Error);
    expect(error.code).toBe("ECONNREFUSED");
  },
);

test("an answer with another id is not taken", async () => {
  const server = await Bun.udpSocket({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, data, port, address) {
        socket.send(Uint8Array.of(data[0]! ^ 1, ...data.subarray(1)), port, address);
        socket.send(Uint8Array.of(...data.subarray(0, 2), 0x81), port, address);
      },
    },
  });
  const answer = await askOverUdp({ address: "127.0.0.1", port: server.port }, message, 10_000);
  expect([...answer]).toEqual([0x12, 0x34, 0x81]);
  server.close();
});
