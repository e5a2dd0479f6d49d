// HTTP/1.1 between clients and backends, byte by byte, and tunnels. The proxy program is spawned, configured over its
// control socket and spoken to over loopback. Needs no privileges.

import { describe, expect, test } from "bun:test";
import {
  another,
  answering,
  eachProxyTest,
  echo,
  ends,
  port,
  proxy,
  request,
  serve,
  until,
  url,
} from "./proxy-cases.ts";
import { exchange, RawClient, rawBackend } from "./proxy-raw.ts";

eachProxyTest();

describe("HTTP/1.1", () => {
  test("what is malformed is answered and the connection closed; nothing of it reaches the backend", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    await serve([one.port]);
    const wrong: [string, number][] = [
      ["GET / HTTP/1.1\r\nhost: a\nx: b\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\n\r\n", 400],
      ["GET / HTTP/1.1\r\nhost: a b\r\n\r\n", 400],
      ["POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\nGET /x", 400],
      ["POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!", 400],
      ["POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: gzip, chunked\r\n\r\n", 501],
      ["CONNECT a:1 HTTP/1.1\r\nhost: a\r\n\r\n", 501],
      ["GET / HTTP/1.2\r\nhost: a\r\nexpect: magic\r\n\r\n", 417],
      ["GET / HTTP/3.0\r\nhost: a\r\n\r\n", 505],
      [request("/", `x: ${"a".repeat(70_000)}`), 431],
    ];
    for (const [text, status] of wrong) {
      const answer = await exchange(port, text, (seen) => seen.includes("is no host") || seen.includes("or no host"));
      expect(answer.slice(0, 12)).toBe(`HTTP/1.1 ${status}`);
      expect(answer).toContain("x-fairlead-reason: ");
    }
    expect(one.connections()).toBe(0);
  });

  test("a bad chunk ends the request with 400", async () => {
    const one = rawBackend(() => {});
    ends.push(one.stop);
    await serve([one.port]);
    const head = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    const answer = await exchange(port, `${head}5\r\nhello\r\nZ\r\n`);
    expect(answer).toStartWith("HTTP/1.1 400");
    expect(answer).toContain("bad_chunk");
  });

  test("pipelined requests are answered in order", async () => {
    await serve([echo("one")]);
    const answers = await exchange(port, request("/a") + request("/b") + request("/c", "connection: close"));
    const paths = [...answers.matchAll(/"path":"([^"]+)"/g)].map((match) => match[1]);
    expect(paths).toEqual(["/a", "/b", "/c"]);
  });

  test("HEAD, 204 and 304 have no body, and the connection goes on", async () => {
    const answers: Record<string, string> = {
      HEAD: "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n",
      "/204": "HTTP/1.1 204 No Content\r\n\r\n",
      "/304": "HTTP/1.1 304 Not Modified\r\ncontent-length: 1000\r\netag: x\r\n\r\n",
    };
    const one = rawBackend((socket, text) => {
      socket.data.text = "";
      for (const [key, answer] of Object.entries(answers)) if (text.includes(key)) socket.write(answer);
    });
    ends.push(one.stop);
    await serve([one.port]);
    const text = `${request("/").replace("GET", "HEAD")}${request("/204")}${request("/304", "connection: close")}`;
    const seen = await exchange(port, text);
    expect([...seen.matchAll(/HTTP\/1\.1 (\d+)/g)].map((match) => match[1])).toEqual(["200", "204", "304"]);
    expect(seen).toContain("content-length: 1000");
    expect(one.connections()).toBe(1);
  });

  test("bodies of every framing arrive whole, for clients of both versions", async () => {
    const ways = {
      length: "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\nhello world",
      chunked: "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n6;x=y\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n",
      close: "HTTP/1.1 200 OK\r\n\r\nhello world",
    };
    for (const [way, bytes] of Object.entries(ways)) {
      const one = answering(bytes, { close: way === "close" });
      await another();
      await serve([one.port]);
      expect(await (await fetch(url())).text()).toBe("hello world");
      const old = await exchange(port, "GET / HTTP/1.0\r\nhost: a\r\n\r\n");
      expect(old).not.toContain("chunked");
      expect(old).toEndWith("\r\n\r\nhello world");
    }
  });

  test("an answer that is cut off is seen as cut off", async () => {
    const one = answering("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhello\r\n", { close: true });
    await serve([one.port]);
    const seen = await exchange(port, request());
    expect(seen).toContain("hello");
    expect(seen).not.toContain("0\r\n\r\n");
  });

  test("trailers are passed on", async () => {
    const one = answering(
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\nhost: b\r\n\r\n",
    );
    await serve([one.port]);
    const seen = await exchange(port, request("/", "connection: close"));
    expect(seen).toEndWith("1\r\na\r\n0\r\nx-sum: 7\r\n\r\n");
  });

  test("100-continue is passed both ways", async () => {
    const one = rawBackend((socket, text) => {
      if (text.endsWith("\r\n\r\n")) socket.write("HTTP/1.1 100 Continue\r\n\r\n");
      if (text.endsWith("hello")) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
    });
    ends.push(one.stop);
    await serve([one.port]);
    const client = await RawClient.connect(port);
    client.send("POST / HTTP/1.1\r\nhost: a\r\nexpect: 100-continue\r\ncontent-length: 5\r\nconnection: close\r\n\r\n");
    await client.read((seen) => seen.includes("100 Continue\r\n\r\n"));
    client.send("hello");
    expect(await client.read(() => false)).toEndWith("\r\n\r\nok");
  });

  test("an upgraded connection is a tunnel", async () => {
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (incoming, self) => (self.upgrade(incoming) ? undefined : new Response("no", { status: 400 })),
      websocket: { message: (socket, message) => void socket.send(`echo ${message}`) },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!]);
    const socket = new WebSocket(`ws://127.0.0.1:${port}/chat`);
    const answers: string[] = [];
    await new Promise<void>((resolve, reject) => {
      socket.onopen = () => socket.send("one");
      socket.onerror = () => reject(new Error("websocket failed"));
      socket.onmessage = ({ data }) => {
        answers.push(String(data));
        if (answers.length === 1) socket.send("x".repeat(100_000));
        else resolve();
      };
    });
    socket.close();
    expect(answers[0]).toBe("echo one");
    expect(answers[1]!.length).toBe(100_005);
  });

  test("a tunnel ends on both sides when either side leaves, and what was said before arrives", async () => {
    let said = "";
    let left = 0;
    const listener = Bun.listen<{ open: boolean }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { open: false };
        },
        data(socket, bytes) {
          if (socket.data.open) {
            said += bytes.toString();
            if (said.endsWith("leave")) socket.end("bye");
          } else {
            socket.data.open = true;
            socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\nhello");
          }
        },
        close() {
          left++;
        },
      },
    });
    ends.push(() => listener.stop(true));
    await serve([listener.port]);
    const upgrade = request("/", "connection: upgrade", "upgrade: raw");
    const client = await RawClient.connect(port);
    client.send(upgrade);
    await client.read((seen) => seen.endsWith("hello"));
    client.send("last words");
    client.socket.shutdown();
    await until(() => left === 1);
    expect(said).toBe("last words");
    expect(await exchange(port, `${upgrade}leave`)).toEndWith("hellobye");
  });

  test("a client that says no more in a tunnel still hears the backend", async () => {
    const heard: string[] = [];
    const listener = Bun.listen({
      hostname: "127.0.0.1",
      port: 0,
      allowHalfOpen: true,
      socket: {
        data(socket, bytes) {
          const text = bytes.toString();
          if (text.startsWith("GET"))
            socket.write("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: raw\r\n\r\n");
          else heard.push(text);
        },
        end(socket) {
          heard.push("end");
          // In two turns, so that what comes after the first is seen to come, too.
          socket.write("you said ");
          setTimeout(() => socket.end(heard.join()), 20);
        },
      },
    });
    ends.push(() => listener.stop(true));
    await serve([listener.port]);
    const client = await RawClient.connect(port);
    client.send(request("/", "connection: upgrade", "upgrade: raw"));
    await client.read((seen) => seen.includes("\r\n\r\n"));
    client.send("all");
    client.socket.shutdown();
    expect(await client.read(() => false)).toEndWith("you said all,end");
  });

  test("a 101 that was not asked for is an error", async () => {
    const one = answering("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n");
    await serve([one.port]);
    expect((await fetch(url())).status).toBe(502);
  });

  test("bytes behind an answer never become the next one", async () => {
    const bytes = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
    const one = answering(`${bytes}HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison`);
    await serve([one.port]);
    for (let count = 0; count < 5; count++) expect(await (await fetch(url())).text()).toBe("ok");
    expect(one.connections()).toBe(5);
  });

  test("neither a client nor a backend that does not read fills the proxy's memory", async () => {
    const size = 64 * 1024 * 1024;
    const server = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      maxRequestBodySize: 4 * size,
      async fetch(incoming) {
        if (incoming.method === "GET") return new Response(new Uint8Array(size));
        let bytes = 0;
        for await (const chunk of incoming.body!) bytes += chunk.length;
        return new Response(String(bytes));
      },
    });
    ends.push(() => server.stop(true));
    await serve([server.port!]);
    const memory = async () => ((await (await proxy.get("/stats")).json()) as { memoryBytes: number }).memoryBytes;
    const before = await memory();
    const slow = await RawClient.connect(port, { keep: false });
    slow.socket.pause();
    slow.send(request("/", "connection: close"));
    // Enough time for the whole body, were it not held back.
    expect(await (await fetch(url(), { method: "POST", body: new Uint8Array(size) })).text()).toBe(String(size));
    expect((await memory()) - before).toBeLessThan(40 * 1024 * 1024);
    slow.socket.resume();
    await slow.read(() => slow.bytes >= size);
    expect(slow.bytes).toBeGreaterThanOrEqual(size);
    slow.close();
  });
});
