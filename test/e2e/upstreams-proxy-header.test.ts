// What backends are told of clients by PROXY headers, through a real proxy process. Needs no privileges.

import { describe, expect, test } from "bun:test";
import { readProxyHeader } from "../../src/proxy/listener/proxy-protocol.ts";
import { backend, endpoints, freePort, from, type ProxyUnderTest, plainListener } from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";
import { eachUpstreamTest, until } from "./upstream-servers.ts";

let proxy: ProxyUnderTest;
let port: number;
const { ends, serve, get } = eachUpstreamTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

describe("PROXY headers to backends", () => {
  /** Keeps what each connection begins with, and answers requests of HTTP/1. */
  function recorder() {
    const seen: Buffer[] = [];
    const made = Bun.listen<{ at: number }>({
      hostname: "127.0.0.1",
      port: 0,
      socket: {
        open(socket) {
          socket.data = { at: seen.push(Buffer.alloc(0)) - 1 };
        },
        data(socket, bytes) {
          const all = Buffer.concat([seen[socket.data.at]!, bytes]);
          seen[socket.data.at] = all;
          if (all.includes("\r\n\r\n", all.length - 4)) socket.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
        },
      },
    });
    ends.push(() => made.stop(true));
    return { port: made.port, seen };
  }

  test("version 1: each request has a connection of its own, which tells of its client", async () => {
    const one = recorder();
    await serve([one], { proxyProtocol: 1 });
    const client = await RawClient.connect(port);
    for (let index = 1; index <= 2; index++) {
      client.send("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
      await client.read((all) => all.split("ok").length > index);
    }
    const begin = `PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${port}\r\nGET / HTTP/1.1\r\n`;
    expect(one.seen.map((bytes) => bytes.toString("latin1").slice(0, begin.length))).toEqual([begin, begin]);
    client.close();
  });

  test("version 2, with limits and connections that cannot be made", async () => {
    const one = recorder();
    await serve([{ port: freePort() }, one], { proxyProtocol: 2, limits: { connections: 1 } });
    const answers = await Promise.all(Array.from({ length: 6 }, () => get()));
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200, 200, 200, 200]);
    expect(one.seen.every((bytes) => readProxyHeader(bytes) !== "malformed")).toBe(true);
    await until(async () =>
      (await (await proxy.get("/metrics")).text()).includes('upstream_connections{backend="one"} 0'),
    );
  });

  test("relayed connections begin with one, too", async () => {
    const one = recorder();
    await proxy.start();
    const to = [{ from, weight: 1, target: { backend: "one" }, filters: [] }];
    const rejected = await proxy.control.update({
      backends: [backend("one", { protocol: "tcp", proxyProtocol: 1 })],
      endpoints: [endpoints("one", one.port)],
      listeners: [{ ...plainListener(port), chains: [{ from, when: { kind: "plain" }, serve: { tcp: to } }] }],
    });
    expect(rejected).toEqual([]);
    const client = await RawClient.connect(port);
    client.send("hello");
    await until(async () => one.seen[0]?.includes("hello"));
    expect(one.seen[0]!.toString()).toBe(`PROXY TCP4 127.0.0.1 127.0.0.1 ${client.socket.localPort} ${port}\r\nhello`);
    client.close();
  });

  test("a check says that it is the proxy's own", async () => {
    const one = recorder();
    await serve([one], {
      proxyProtocol: 1,
      healthCheck: {
        ...{ interval: 50, timeout: 2_000, unhealthyThreshold: 1, healthyThreshold: 1 },
        check: { kind: "http", path: "/" },
      },
    });
    await until(async () => one.seen.length > 2);
    expect(one.seen[0]!.toString()).toStartWith("PROXY UNKNOWN\r\nGET / HTTP/1.1");
  });
});
