import { afterEach, describe, expect, test } from "bun:test";
import type { TCPSocketListener } from "bun";
import { silentLogger } from "../../base/log.ts";
import { source } from "../../collections/source.ts";
import type { ServicePort } from "../../services/service-table.ts";
import { cartRow } from "../testing/rows.ts";
import { UserspaceForwarder } from "./forwarder.ts";

const service = "127.96.200.1";
let tables = 0;
const ends: (() => Promise<void> | void)[] = [];
afterEach(async () => {
  for (const end of ends.splice(0).reverse()) await end();
});

/** A server on `address` that answers each connection with its own address once the client has ended. */
function endpoint(address: string, port = 18080): TCPSocketListener<unknown> {
  const listener = Bun.listen({
    hostname: address,
    port,
    allowHalfOpen: true,
    socket: {
      data(socket, chunk) {
        socket.write(chunk);
      },
      end(socket) {
        socket.write(`from ${address}`);
        socket.end();
      },
    },
  }) as TCPSocketListener<unknown>;
  ends.push(() => listener.stop(true));
  return listener;
}

/** Sends `text`, ends, and gives all that comes back. */
function talk(hostname: string, port: number, text: string): Promise<string> {
  return new Promise((resolve, reject) => {
    let answer = "";
    Bun.connect({
      hostname,
      port,
      allowHalfOpen: true,
      socket: {
        open(socket) {
          socket.write(text);
          socket.shutdown();
        },
        data(_socket, chunk) {
          answer += chunk.toString();
        },
        end(socket) {
          socket.end();
        },
        close() {
          resolve(answer);
        },
        error() {},
      },
    }).catch(reject);
  });
}

function row(endpoints: readonly string[], more: Partial<ServicePort> = {}): ServicePort {
  const table = endpoints.map((address) => ({ address, port: 18080, local: true }));
  return cartRow(service, table, { port: 18000, localEndpoints: [], ...more });
}

function start(first: ServicePort) {
  const table = source<ServicePort>(`forwarder-test-${tables++}`);
  table.set(first.key, first);
  const forwarder = new UserspaceForwarder({
    table,
    nodeAddresses: [],
    effectivePort: (port) => port,
    log: silentLogger,
  });
  ends.push(() => forwarder.dispose());
  return { table, forwarder };
}

describe("the userspace Service forwarder", () => {
  test("spreads connections over the endpoints in turn, and passes half-closes both ways", async () => {
    endpoint("127.244.200.1");
    endpoint("127.244.200.2");
    const { forwarder } = start(row(["127.244.200.1", "127.244.200.2"]));
    await forwarder.settled();
    const answers = [await talk(service, 18000, "a"), await talk(service, 18000, "b")];
    expect(answers.toSorted()).toEqual(["afrom 127.244.200.1", "bfrom 127.244.200.2"]);
  });

  test("keeps a client at its endpoint with ClientIP affinity", async () => {
    endpoint("127.244.200.1");
    endpoint("127.244.200.2");
    const { forwarder } = start(row(["127.244.200.1", "127.244.200.2"], { affinitySeconds: 60 }));
    await forwarder.settled();
    const answers = new Set<string>();
    for (let i = 0; i < 4; i++) answers.add(await talk(service, 18000, ""));
    expect(answers.size).toBe(1);
  });

  test("refuses connections while there is no endpoint", async () => {
    const server = endpoint("127.244.200.1");
    const first = row(["127.244.200.1"]);
    const { table, forwarder } = start(first);
    await forwarder.settled();
    expect(await talk(service, 18000, "")).toBe("from 127.244.200.1");
    table.set(first.key, row([]));
    await forwarder.settled();
    expect(talk(service, 18000, "")).rejects.toThrow();
    server.stop(true);
  });

  test("lets through to a load-balancer address only whom its source ranges admit, also after they change", async () => {
    endpoint("127.244.200.1");
    const balancer = "127.97.200.1";
    const shut = row(["127.244.200.1"], { loadBalancerIPs: [balancer], sourceRanges: ["192.0.2.0/24"] });
    const { table, forwarder } = start(shut);
    await forwarder.settled();
    expect(await talk(balancer, 18000, "")).toBe("");
    expect(await talk(service, 18000, "")).toBe("from 127.244.200.1");
    table.set(shut.key, { ...shut, sourceRanges: ["192.0.2.0/24", "127.0.0.0/8"] });
    await forwarder.settled();
    expect(await talk(balancer, 18000, "")).toBe("from 127.244.200.1");
  });

  test("says of an address that it cannot serve why not", async () => {
    const { forwarder } = start(row(["127.244.200.1"], { externalIPs: ["192.0.2.9"] }));
    await forwarder.settled();
    expect(forwarder.unserved("TCP", "192.0.2.9", 18000)).toStartWith("shop/cart:http: ");
    expect(forwarder.unserved("TCP", service, 18000)).toBeUndefined();
  });

  test("tries another endpoint when one refuses", async () => {
    endpoint("127.244.200.2");
    const { forwarder } = start(row(["127.244.200.1", "127.244.200.2"]));
    await forwarder.settled();
    for (let i = 0; i < 3; i++) expect(await talk(service, 18000, "")).toBe("from 127.244.200.2");
  });

  test("carries datagrams, each client's to one endpoint and back", async () => {
    const server = await Bun.udpSocket({
      hostname: "127.244.200.1",
      port: 18080,
      socket: {
        data(socket, data, port, address) {
          socket.send(`${data.toString()} to ${port > 0}`, port, address);
        },
      },
    });
    ends.push(() => server.close());
    const { forwarder } = start(row(["127.244.200.1"], { protocol: "UDP", key: "shop/cart:http/UDP/4" }));
    await forwarder.settled();
    const answers: string[] = [];
    const client = await Bun.udpSocket({
      connect: { hostname: service, port: 18000 },
      socket: {
        data(_socket, data) {
          answers.push(data.toString());
          if (answers.length === 1) client.send("second");
        },
      },
    });
    ends.push(() => client.close());
    client.send("first");
    while (answers.length < 2) await Bun.sleep(1);
    expect(answers).toEqual(["first to true", "second to true"]);
  });

  test("outlives UDP clients that do not wait for their answer", async () => {
    const { promise: asked, resolve: answer } = Promise.withResolvers<() => void>();
    const server = await Bun.udpSocket({
      hostname: "127.244.200.1",
      port: 18080,
      socket: {
        data(socket, data, port, address) {
          const reply = () => void socket.send(`to ${data.toString()}`, port, address);
          if (data.toString() === "gone") answer(reply);
          else reply();
        },
      },
    });
    ends.push(() => server.close());
    const { forwarder } = start(row(["127.244.200.1"], { protocol: "UDP", key: "shop/cart:http/UDP/4" }));
    await forwarder.settled();
    const leaving = await Bun.udpSocket({ connect: { hostname: service, port: 18000 } });
    leaving.send("gone");
    const reply = await asked;
    leaving.close();
    reply();
    for (let n = 0; n < 3; n++) {
      const { promise: answered, resolve } = Promise.withResolvers<string>();
      const client = await Bun.udpSocket({
        connect: { hostname: service, port: 18000 },
        socket: { data: (_, data) => resolve(data.toString()) },
      });
      client.send("stay");
      expect(await answered).toBe("to stay");
      client.close();
    }
  });

  test("carries more than the sockets hold, without loss", async () => {
    endpoint("127.244.200.1");
    const { forwarder } = start(row(["127.244.200.1"]));
    await forwarder.settled();
    const text = "0123456789abcdef".repeat(64 * 1024);
    const answer = await sendAll(service, 18000, text);
    expect(answer).toBe(text.length + "from 127.244.200.1".length);
  });
});

/** Sends a long text as the socket takes it, and counts what comes back. */
function sendAll(hostname: string, port: number, text: string): Promise<number> {
  return new Promise((resolve, reject) => {
    let rest = Buffer.from(text);
    let received = 0;
    const push = (socket: { write(data: Buffer): number; shutdown(): void }) => {
      rest = rest.subarray(Math.max(0, socket.write(rest)));
      if (rest.length === 0) socket.shutdown();
    };
    Bun.connect({
      hostname,
      port,
      allowHalfOpen: true,
      socket: {
        open: push,
        drain(socket) {
          if (rest.length > 0) push(socket);
        },
        data(_socket, chunk) {
          received += chunk.length;
        },
        end(socket) {
          socket.end();
        },
        close() {
          resolve(received);
        },
        error() {},
      },
    }).catch(reject);
  });
}
