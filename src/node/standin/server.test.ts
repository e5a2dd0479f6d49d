import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { StandInPod } from "./protocol.ts";
import { StandInServer } from "./server.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-standin-"));
const address = "127.244.201.1";
const port = 18081;
const pod: StandInPod = {
  uid: "u",
  namespace: "shop",
  name: "cart-1",
  node: "node-1",
  serviceAccount: "cart",
  labels: { app: "cart", version: "v2" },
  addresses: [address],
  listenAddresses: [address],
  containers: [
    {
      name: "app",
      image: "cart:2",
      attempt: 0,
      logFile: join(folder, "0.log"),
      ports: [
        { protocol: "TCP", port: 80, listenPort: port },
        { protocol: "UDP", port: 53, listenPort: port },
      ],
    },
  ],
};

/** Sends bytes on one connection and gives what comes until `enough` says so or the connection ends. */
function exchange(text: string, enough: (answer: string) => boolean = () => false): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    Bun.connect({
      hostname: address,
      port,
      socket: {
        open: (socket) => void socket.write(text),
        data(socket, chunk) {
          answer += chunk.toString("latin1");
          if (enough(answer)) socket.end();
        },
        close: () => resolve(answer),
        error() {},
      },
    }).catch(reject);
  });
}

const get = (target: string, more = "") => `GET ${target} HTTP/1.1\r\nHost: cart\r\n${more}\r\n`;

describe("a stand-in", () => {
  const server = new StandInServer(() => {});
  beforeAll(() => server.serve([pod]));

  test("a pod that is to be kept is served on, though nothing else is said of it", async () => {
    await server.serve([], [pod.uid]);
    expect(server.state()).toMatchObject([{ uid: pod.uid, serving: true }]);
  });

  afterAll(async () => {
    await server.serve([]);
    rmSync(folder, { recursive: true });
  });

  test("says who it is and what it received", async () => {
    const response = await fetch(`http://${address}:${port}/a?x=1&x=2`, {
      method: "POST",
      body: "grün",
      headers: { "x-api-version": "v2" },
    });
    expect(await response.json()).toMatchObject({
      pod: "cart-1",
      namespace: "shop",
      node: "node-1",
      ip: address,
      port: 80,
      serviceAccount: "cart",
      version: "v2",
      labels: { app: "cart" },
      method: "POST",
      path: "/a?x=1&x=2",
      query: { x: ["1", "2"] },
      headers: { "x-api-version": ["v2"] },
      body: { length: 5, text: "grün" },
      local: address,
    });
  });

  test("answers pipelined requests in order, also when the first is to wait", async () => {
    const answer = await exchange(get("/1?delay=30ms") + get("/2") + get("/3", "Connection: close\r\n"));
    expect([...answer.matchAll(/"path":"([^"]*)"/g)].map((match) => match[1])).toEqual(["/1?delay=30ms", "/2", "/3"]);
  });

  test("answers HEAD without a body, and with the length that GET would have", async () => {
    const answer = await exchange("HEAD /?size=7 HTTP/1.1\r\nConnection: close\r\n\r\n");
    expect(answer).toEndWith("\r\n\r\n");
    expect(answer).toContain("Content-Length: 7\r\n");
  });

  test("gives the status, size and headers that are asked for", async () => {
    const response = await fetch(`http://${address}:${port}/`, {
      headers: { "x-stand-in": "status=503, size=3000000, header=Retry-After: 7" },
    });
    expect([response.status, response.headers.get("retry-after")]).toEqual([503, "7"]);
    expect((await response.bytes()).length).toBe(3_000_000);
  });

  test("ends the connection when it is told to abort", async () => {
    expect(await exchange(get("/?abort"))).toBe("");
  });

  test("refuses what is no HTTP, and closes", async () => {
    expect(await exchange("GET / HTTP/2.0\r\n\r\n")).toStartWith("HTTP/1.1 505 ");
  });

  test("echoes over WebSocket: text, bytes, long frames, pings; and says goodbye", async () => {
    const socket = new WebSocket(`ws://${address}:${port}/chat`);
    socket.binaryType = "arraybuffer";
    const next = () =>
      new Promise<string | ArrayBuffer>((resolve, reject) => {
        socket.onmessage = ({ data }) => resolve(data as string | ArrayBuffer);
        socket.onclose = () => reject(new Error("closed"));
      });
    await new Promise((resolve) => (socket.onopen = resolve));
    for (const text of ["hello", "x".repeat(300), "y".repeat(100_000)]) {
      const echoed = next();
      socket.send(text);
      expect(await echoed).toBe(text);
    }
    const bytes = next();
    socket.send(new Uint8Array([0, 255]));
    expect([...new Uint8Array((await bytes) as ArrayBuffer)]).toEqual([0, 255]);
    const closed = new Promise<number>((resolve) => (socket.onclose = ({ code }) => resolve(code)));
    socket.close(1000);
    expect(await closed).toBe(1000);
    const handshake =
      "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    // An unmasked frame right behind the handshake is an error of the protocol.
    expect(await exchange(`${get("/", handshake)}\x81\x01a`)).toEndWith("\r\n\r\n\x88\x02\x03\xea");
  });

  test("answers datagrams", async () => {
    const answer = await new Promise<string>((resolve) => {
      void Bun.udpSocket({
        connect: { hostname: address, port },
        socket: {
          data(socket, data) {
            resolve(data.toString());
            socket.close();
          },
        },
      }).then((socket) => socket.send("ping"));
    });
    expect(JSON.parse(answer)).toMatchObject({ pod: "cart-1", port: 53, request: "ping" });
  });

  test("logs one line a request", () => {
    server.flushLogs(Date.now());
    const log = readFileSync(join(folder, "0.log"), "utf8");
    expect(log).toContain("stdout F stand-in for cart:2 serves 80/TCP (as 18081), 53/UDP (as 18081)\n");
    expect(log).toMatch(/^\S+Z stdout F 127\.0\.0\.1 "GET \/2 HTTP\/1\.1" 200 [0-9]+$/m);
  });

  test("draining, waits for the request of a connection that came before", async () => {
    const uid = "fresh";
    const own = { ...pod, uid, listenAddresses: ["127.244.201.2"] };
    await server.serve([pod, own]);
    const { promise, resolve } = Promise.withResolvers<string>();
    let answer = "";
    const socket = await Bun.connect({
      hostname: "127.244.201.2",
      port,
      socket: {
        data(_, chunk) {
          answer += chunk;
        },
        close: () => resolve(answer),
        error() {},
      },
    });
    await server.serve([pod, { ...own, drainUntil: Date.now() + 5000 }]);
    const taken = () => {
      const attempt = Bun.connect({ hostname: "127.244.201.2", port, socket: { data() {} } });
      const end = (one: { end(): unknown }) => void one.end();
      return attempt.then(end).then(
        () => true,
        () => false,
      );
    };
    // Asked seldom: while somebody comes, it goes on taking connections.
    do await Bun.sleep(300);
    while (await taken());
    socket.write(get("/late"));
    expect(await promise).toContain("200 OK");
    await server.serve([pod]);
  });

  test("draining, finishes what is under way, says that connections end, and takes no more", async () => {
    const slow = exchange(get("/slow?delay=60ms"));
    const resting = exchange(get("/rest"));
    await Bun.sleep(5);
    await server.serve([{ ...pod, drainUntil: Date.now() + 5000 }]);
    const during = await exchange(get("/new"));
    expect(during).toContain("Connection: close");
    expect(await slow).toContain("200 OK");
    await resting;
    while (!server.state()[0]?.drained) await Bun.sleep(5);
    expect(exchange(get("/late"))).rejects.toThrow();
  });
});
