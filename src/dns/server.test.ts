import { expect, test } from "bun:test";
import { encode } from "dns-packet";
import { createLogger, silentLogger } from "../base/log.ts";
import { startDnsServer } from "./server.ts";
import { ZoneTable } from "./zone-table.ts";

const settings = { zone: "cluster.local", nameservers: ["10.96.0.10"], ttl: 5, pods: "verified" as const };

test("an asker that has gone before its answer is told of by the error's name, and others are answered", async () => {
  const { promise: said, resolve } = Promise.withResolvers<string>();
  const server = await startDnsServer({
    answering: { names: new ZoneTable(settings), log: silentLogger },
    addresses: ["127.0.0.1"],
    port: 0,
    log: createLogger(resolve, "debug"),
  });
  const question = (id: number) =>
    encode({ type: "query", id, questions: [{ type: "A", name: "cart.shop.svc.cluster.local" }] });
  const gone = await Bun.udpSocket({ hostname: "127.0.0.1" });
  gone.send(question(1), server.port, "127.0.0.1");
  gone.close();
  expect(await said).toContain("ECONNREFUSED");

  const { promise: answer, resolve: take } = Promise.withResolvers<Uint8Array>();
  const client = await Bun.udpSocket({ hostname: "127.0.0.1", socket: { data: (_, data) => take(data) } });
  client.send(question(2), server.port, "127.0.0.1");
  expect((await answer)[1]).toBe(2);
  client.close();
  await server.dispose();
});
