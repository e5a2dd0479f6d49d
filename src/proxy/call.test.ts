import { beforeEach, describe, expect, test } from "bun:test";
import { exportJWK, generateKeyPair, SignJWT } from "jose";
import { FakeClock } from "../base/clock.ts";
import type { Logger } from "../base/log.ts";
import { type CallAnswer, type CallRequest, call } from "./call.ts";
import { Deadlines } from "./deadlines.ts";
import type { Repeat, RequestHead, Upstream, UpstreamEvents } from "./exchange.ts";
import { KeySets } from "./filters/key-sets.ts";
import { HeaderBlock } from "./headers.ts";
import type { Reason } from "./reason.ts";
import type { Backends } from "./upstream/backends.ts";
import type { Waiter } from "./upstream/pool.ts";

/** What a connection of the backend was told, and what it tells. */
class Connection {
  events!: UpstreamEvents;
  head!: RequestHead;
  body = "";
  ended = false;
  cancelled = false;

  begin(events: UpstreamEvents): void {
    this.events = events;
  }
  send(head: RequestHead): void {
    this.head = head;
  }
  write(chunk: Buffer, start: number, end: number): boolean {
    this.body += chunk.toString("latin1", start, end);
    return false;
  }
  end(): void {
    this.ended = true;
  }
  cancel(): void {
    this.cancelled = true;
  }

  answer(status: number, text: string): void {
    const headers = new HeaderBlock();
    headers.add("x-a", "1");
    this.events.responded({ status, phrase: "", headers, length: text.length });
    this.events.responseData(Buffer.from(text), 0, text.length);
    if (!this.cancelled) this.events.responseEnd(undefined);
  }
  fail(reason: Reason, repeat: Repeat): void {
    this.events.upstreamFailed(reason, repeat);
  }
}

let clock: FakeClock;
let deadlines: Deadlines;
let connections: Connection[];
/** Who waits for a connection, while none is given. */
let waiting: Waiter[];
let refuse: Reason | "wait" | undefined;

beforeEach(() => {
  clock = new FakeClock();
  deadlines = new Deadlines(clock);
  connections = [];
  waiting = [];
  refuse = undefined;
});

const backends = {
  get: () => ({
    acquire(waiter: Waiter): Reason | undefined {
      if (refuse === "wait") {
        waiting.push(waiter);
        return undefined;
      }
      if (refuse) return refuse;
      const connection = new Connection();
      connections.push(connection);
      waiter.connected(connection as unknown as Upstream, undefined as never);
      return undefined;
    },
    forget(waiter: Waiter) {
      waiting = waiting.filter((one) => one !== waiter);
    },
  }),
} as unknown as Backends;

const request: CallRequest = {
  backend: "b",
  method: "POST",
  scheme: "http",
  authority: "a.example",
  path: "/p?q",
  headers: [
    { name: "x-a", value: "1" },
    { name: "content-length", value: "99" },
    { name: "connection", value: "close" },
  ],
  body: [Buffer.from("ab"), Buffer.from("c")],
  timeout: 1000,
  maxBytes: 5,
};

function made(more: Partial<CallRequest> = {}) {
  const ends: (CallAnswer | Reason)[] = [];
  const underWay = call({ backends, deadlines }, { ...request, ...more }, (end) => ends.push(end));
  return { ends, underWay };
}

describe("a call", () => {
  test("sends what it was given, with framing of its own, and gives the answer", () => {
    const { ends } = made();
    const [connection] = connections as [Connection];
    expect(connection.head).toMatchObject({ method: "POST", authority: "a.example", path: "/p?q", length: 3 });
    expect(connection.head.headers.entries()).toEqual([
      ["x-a", "1"],
      ["content-length", "3"],
    ]);
    expect([connection.body, connection.ended]).toEqual(["abc", true]);
    connection.answer(201, "hello");
    expect(ends).toEqual([{ status: 201, headers: [["x-a", "1"]], body: Buffer.from("hello"), trailers: [] }]);
    clock.advance(5000);
    expect(ends).toHaveLength(1);
  });

  test("ends at its timeout, also while it waits for a connection", () => {
    const slow = made();
    clock.advance(1100);
    expect(slow.ends).toEqual(["request_timeout"]);
    expect(connections[0]!.cancelled).toBeTrue();
    refuse = "wait";
    const queued = made();
    expect(waiting).toHaveLength(1);
    clock.advance(1100);
    expect(queued.ends).toEqual(["request_timeout"]);
    expect(waiting).toHaveLength(0);
  });

  test("that is cancelled says nothing any more", () => {
    const { ends, underWay } = made();
    underWay.cancel();
    expect(connections[0]!.cancelled).toBeTrue();
    clock.advance(5000);
    expect(ends).toEqual([]);
  });

  test("takes no more than it wants, unless it throws it away", () => {
    const { ends } = made();
    connections[0]!.answer(200, "longer");
    expect(ends).toEqual(["upstream_malformed"]);
    expect(connections[0]!.cancelled).toBeTrue();
    const thrown = made({ maxBytes: "discard" });
    connections[1]!.answer(200, "longer");
    expect(thrown.ends).toMatchObject([{ status: 200, body: Buffer.alloc(0) }]);
  });

  test("is made once more when a kept connection was closed, and fails for any other reason", () => {
    const { ends } = made();
    connections[0]!.fail("upstream_closed", "idempotent");
    connections[1]!.fail("upstream_closed", "idempotent");
    expect(connections).toHaveLength(2);
    expect(ends).toEqual(["upstream_closed"]);
    expect(made().ends).toEqual([]);
    connections[2]!.fail("upstream_malformed", "never");
    expect(connections).toHaveLength(3);
    refuse = "no_endpoints";
    expect(made().ends).toEqual(["no_endpoints"]);
  });
});

describe("key sets from a backend", async () => {
  const pairs = await Promise.all([generateKeyPair("ES256"), generateKeyPair("ES256")]);
  const jwks = await Promise.all(
    pairs.map(async ({ publicKey }, index) => ({ ...(await exportJWK(publicKey)), kid: `k${index}` })),
  );
  const from = { backend: "b", authority: "a", path: "/jwks", keep: 60_000 };
  const log = { warn() {} } as unknown as Logger;
  const sets = () => new KeySets({ clock, deadlines, backends, log });
  const publish = (count: number, keys = jwks) => connections[count]!.answer(200, JSON.stringify({ keys }));

  test("are fetched once for all who ask, and kept", async () => {
    const all = sets();
    const set = all.get(from);
    expect(all.get({ ...from })).toBe(set);
    const both = [set.keys(), set.keys()];
    expect(connections).toHaveLength(1);
    publish(0);
    const [one, two] = await Promise.all(both);
    expect(one).toBeDefined();
    expect(one).toBe(two!);
    expect(await set.keys()).toBe(one!);
    // When they are old, they serve while new ones are fetched.
    clock.advance(60_000);
    expect(await set.keys()).toBe(one!);
    expect(connections).toHaveLength(2);
    publish(1);
    expect(await set.keys()).not.toBe(one!);
  });

  test("are fetched anew for a key that is not there, at most every ten seconds", async () => {
    const set = sets().get(from);
    const first = set.keys();
    publish(0, [jwks[0]!]);
    await first;
    expect(await set.newer()).toBeUndefined();
    expect(connections).toHaveLength(1);
    clock.advance(10_000);
    const newer = set.newer();
    publish(1);
    const resolver = (await newer)!;
    const token = await new SignJWT({}).setProtectedHeader({ alg: "ES256", kid: "k1" }).sign(pairs[1]!.privateKey);
    const header = JSON.parse(Buffer.from(token.split(".")[0]!, "base64url").toString());
    expect(await resolver(header, { payload: "", signature: "" })).toBeDefined();
  });

  test("that fail leave those that are there, and are not asked for at once again", async () => {
    const set = sets().get(from);
    const first = set.keys();
    connections[0]!.answer(500, "");
    expect(await first).toBeUndefined();
    expect(await set.keys()).toBeUndefined();
    expect(connections).toHaveLength(1);
    clock.advance(1000);
    const second = set.keys();
    connections[1]!.answer(200, "no json");
    expect(await second).toBeUndefined();
    clock.advance(1000);
    const third = set.keys();
    publish(2);
    expect(await third).toBeDefined();
    clock.advance(60_000);
    const kept = set.keys();
    connections[3]!.answer(503, "");
    expect(await kept).toBeDefined();
  });
});
