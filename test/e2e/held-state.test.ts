// What becomes of ejections and copies beside the requests, through a real proxy process: gRPC's UNAVAILABLE ejects wherever it is said,
// an ejection lives on over updates, and a mirror that stays silent holds nobody up. Needs no privileges.

import { afterEach, beforeEach, expect, test } from "bun:test";
import http2 from "node:http2";
import net, { type AddressInfo } from "node:net";
import { ends, port, proxy, serve, server, setUp, tearDown, url } from "./policy-stack.ts";
import { backend, endpoints, freePort, from, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { RawHttp2 } from "./raw-http2.ts";
import { eventually } from "./stack.ts";
import { detection } from "./upstream-servers.ts";

beforeEach(setUp);
afterEach(tearDown);

/** A gRPC server that answers this status, in its only head or in trailers. */
async function grpcServer(status: string, place: "head" | "trailers"): Promise<{ port: number; asked: number }> {
  const made = http2.createServer();
  const of = { port: 0, asked: 0 };
  made.on("stream", (stream: http2.ServerHttp2Stream) => {
    of.asked++;
    stream.on("error", () => {});
    const head = { ":status": 200, "content-type": "application/grpc" };
    if (place === "head") stream.respond({ ...head, "grpc-status": status }, { endStream: true });
    else {
      stream.respond(head, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": status }));
      stream.end(Buffer.alloc(5));
    }
  });
  await new Promise<void>((done) => made.listen(0, "127.0.0.1", done));
  ends.push(() => made.close());
  of.port = (made.address() as AddressInfo).port;
  return of;
}

test.each(["head", "trailers"] as const)("status 14 in the %s ejects, and updates do not end it", async (place) => {
  const bad = await grpcServer("14", place);
  const good = await grpcServer("0", "trailers");
  const config = { protocol: "h2c", outlierDetection: { ...detection, interval: 60_000 } } as const;
  await proxy.start();
  const update = async (resources: { [type: string]: readonly object[] }) =>
    expect(await proxy.control.update(resources)).toEqual([]);
  await update({
    backends: [backend("one", config)],
    endpoints: [endpoints("one", bad.port, good.port)],
    routeTables: [routeTable([rule("all")])],
    listeners: [plainListener(port)],
  });
  const client = await RawHttp2.connect(port);
  const call = { ":method": "POST", ":scheme": "http", ":authority": "a", ":path": "/s/m", te: "trailers" };
  let id = 1;
  const ask = async (count: number) => {
    for (let n = 0; n < count; n++, id += 2) {
      client.send(client.headers(id, { ...call, "content-type": "application/grpc" }));
      const over = async () => client.frames.some((one) => one.id === id && one.type <= 1 && (one.flags & 1) !== 0);
      await eventually(over, Boolean);
    }
  };
  await ask(12);
  expect([bad.asked, good.asked]).toEqual([3, 9]);
  await update({ routeTables: [routeTable([rule("other")])] });
  await update({ endpoints: [endpoints("one", bad.port, good.port, freePort())] });
  await update({ endpoints: [endpoints("one", bad.port, good.port)] });
  await ask(6);
  expect([bad.asked, good.asked]).toEqual([3, 15]);
  client.close();
});

test("a mirror that accepts and says nothing holds no request up", async () => {
  const silent = net.createServer((socket) => socket.on("error", () => {}));
  await new Promise<void>((done) => silent.listen(0, "127.0.0.1", done));
  ends.push(() => silent.close());
  const main = server();
  const mirror = { kind: "mirror", from, backend: "copy", perMillion: 1_000_000 } as const;
  await serve([mirror], main, { copy: { port: (silent.address() as AddressInfo).port } });
  // Copies have 15 s: were one waited for, this would take as long; and more of them than are kept at a time.
  const begun = performance.now();
  for (let round = 0; round < 30; round++) {
    const answers = await Promise.all(Array.from({ length: 10 }, () => fetch(url(), { method: "POST", body: "some" })));
    expect(answers.map(({ status }) => status)).toEqual(Array(10).fill(200));
  }
  expect(performance.now() - begun).toBeLessThan(14_000);
  expect(main.seen).toHaveLength(300);
});
