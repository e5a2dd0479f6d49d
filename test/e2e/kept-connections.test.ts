// Connections that are kept: one whose end has come while nobody looked is not used again, not even in the very turn of the event
// loop in which both are known, so that what cannot be sent twice is not lost on it.

import { afterAll, beforeAll, expect, test } from "bun:test";
import type { Socket } from "bun";
import { forwardAll, freePort, ProxyUnderTest } from "./proxy-harness.ts";
import { RawClient, rawBackend } from "./proxy-raw.ts";

const proxy = new ProxyUnderTest();
const port = freePort();
const sockets: Socket<{ text: string }>[] = [];
const server = rawBackend((socket, text) => {
  if (!text.includes("\r\n\r\n")) return;
  socket.data.text = "";
  sockets.push(socket);
  socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
});

beforeAll(async () => {
  await proxy.start();
  await forwardAll(proxy, port, server.port);
});

afterAll(async () => {
  await proxy.stop();
  server.stop();
});

test.each(["end", "terminate"] as const)(
  "a POST is not sent on a connection that the backend has just left by %s",
  async (how) => {
    const client = await RawClient.connect(port);
    const post = "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n";
    const answered = (times: number) => client.read((seen) => seen.split("\r\n\r\nok").length > times);
    client.send(post);
    await answered(1);
    // The kept connection rests; then the proxy finds the request and, behind it, the end of that connection.
    await Bun.sleep(500);
    process.kill(proxy.process!.pid, "SIGSTOP");
    client.send(post);
    await Bun.sleep(50);
    sockets.at(-1)![how]();
    await Bun.sleep(50);
    process.kill(proxy.process!.pid, "SIGCONT");
    await answered(2);
    expect(client.seen.match(/HTTP\/1.1 \d+/g)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200"]);
    client.close();
  },
);
