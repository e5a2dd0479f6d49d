// Whether an address is asked for, and granted.

import { expect, test } from "bun:test";
import { AddressClaims, type Place } from "./claims.ts";
import { answerClaim, type ClaimMessage, WorkerClaims } from "./worker-claims.ts";

const place = (address: string, port: number, more: Partial<Place> = {}): Place => ({
  ...{ address, port, transport: "tcp" },
  ...more,
});

test("an address is asked for when its first socket is made, and again when the last is gone", () => {
  const asked: string[] = [];
  let handsOver = false;
  const claims = new AddressClaims(
    () => handsOver,
    ({ address, transport }) => asked.push(`${transport} ${address}`) > 0 && address === "10.0.0.9",
  );
  expect(claims.take(place("10.0.0.1", 80), 1)).toBe(true);
  // Fellow workers', and addresses that one's own sockets hold in part.
  expect(claims.take(place("10.0.0.1", 80), 2)).toBe(true);
  expect(claims.take(place("0.0.0.0", 80), 1)).toBe(true);
  expect(claims.take(place("10.0.0.9", 80), 1)).toBe(true);
  expect(asked).toEqual(["tcp 10.0.0.1"]);
  // Another port, kind or namespace is another place.
  claims.take(place("10.0.0.1", 81), 1);
  claims.take(place("10.0.0.1", 80, { transport: "udp" }), 1);
  claims.take(place("10.0.0.1", 80, { namespace: "/run/netns/a" }), 1);
  expect(asked.splice(0)).toHaveLength(4);

  expect(claims.take(place("10.0.0.9", 443), 1)).toBe(false);
  // What was refused is not held.
  expect(claims.take(place("10.0.0.9", 443), 1)).toBe(false);
  handsOver = true;
  expect(claims.take(place("10.0.0.9", 443), 1)).toBe(true);
  expect(asked.splice(0)).toHaveLength(2);
  handsOver = false;

  claims.release(place("10.0.0.9", 443), 1);
  claims.gone(1);
  expect(claims.take(place("10.0.0.1", 80), 1)).toBe(true);
  expect(asked).toEqual([]);
  claims.gone(1);
  claims.release(place("10.0.0.1", 80), 2);
  claims.take(place("10.0.0.1", 80), 1);
  expect(asked).toEqual(["tcp 10.0.0.1"]);
});

test.each(["tcp", "udp"] as const)(
  "others are found on %s also where they would share their port, connections are not",
  async (transport) => {
    const claims = new AddressClaims(() => false);
    const options = { hostname: "127.0.0.1", port: 0 };
    const tcp = () => Bun.listen({ ...options, ...({ reusePort: true } as object), socket: { data() {} } });
    const other = transport === "tcp" ? tcp() : await Bun.udpSocket({ ...options, ...({ flags: 4 } as object) });
    const { port } = other;
    expect(claims.take(place("127.0.0.1", port, { transport }), 1)).toBe(false);
    expect(claims.take(place("0.0.0.0", port, { transport }), 1)).toBe(false);
    const alone = claims.alone();
    expect(alone.take(place("127.0.0.1", port, { transport }))).rejects.toMatchObject({ code: "EADDRINUSE" });
    const accepted =
      transport === "tcp" ? await Bun.connect({ hostname: "127.0.0.1", port, socket: { data() {} } }) : undefined;
    if ("stop" in other) other.stop(false);
    else other.close();
    expect(claims.take(place("127.0.0.1", port, { transport }), 1)).toBe(true);
    // Why this cannot be had is not its question.
    expect(claims.take(place("192.0.2.1", port, { transport }), 1)).toBe(true);
    accepted?.terminate();
  },
);

test("a worker asks the process that started it, and claims for itself when that is gone", async () => {
  const claims = new AddressClaims(
    () => false,
    ({ port }) => port === 81,
  );
  let gone = false;
  const sent: ClaimMessage[] = [];
  const worker: WorkerClaims = new WorkerClaims((message) => {
    if (gone) return false;
    sent.push(message);
    const answer = answerClaim(claims, 1, JSON.parse(JSON.stringify(message)));
    if (answer) queueMicrotask(() => worker.answered(answer));
    return true;
  });
  await worker.take(place("10.0.0.1", 80));
  expect(worker.take(place("10.0.0.1", 81))).rejects.toMatchObject({ code: "EADDRINUSE" });
  worker.release(place("10.0.0.1", 80));
  expect(sent).toHaveLength(3);
  gone = true;
  await worker.take(place("10.0.0.1", 81));
  expect(answerClaim(claims, 1, "handed over")).toBe(undefined);

  const silent = new WorkerClaims(() => true);
  const waits = silent.take(place("10.0.0.1", 80));
  silent.leftAlone();
  await waits;
});
