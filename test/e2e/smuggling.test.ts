// Request smuggling: nothing that a client sends makes our proxy and anybody before or behind it disagree about where a request
// ends. Each case of `smuggling-cases.ts` goes through our proxy; what that sent on is then given to real NGINX, HAProxy and
// Envoy as backends, and the same bytes to each of them in front of us. Those that are not installed are skipped with a word.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HttpPeer, peerNames, peerProgram } from "./http-peers.ts";
import { converse, field, ReferenceOrigin, readMessages } from "./http-reference.ts";
import { backend, endpoints, freePort, ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { hidden, lenient, noted, refusedBehind, type SmugglingCase, smugglingCases } from "./smuggling-cases.ts";

const peers = peerNames.filter((name) => {
  if (peerProgram(name)) return true;
  console.log(`skipped: ${name} is not there; what our proxy sends on is not compared with it`);
  return false;
});

const folder = mkdtempSync(join(tmpdir(), "fl-t-smuggling-"));
const proxy = new ProxyUnderTest();
const port = freePort();
const origin = new ReferenceOrigin(true);
const cleanups: (() => unknown)[] = [];

const idOf = (index: number) => `c${String(index).padStart(3, "0")}`;
const placed = (text: string, index: number) => text.replaceAll("@@@@", idOf(index));
/** Closes the connection from the client's side when all before it was read as we read it. */
const canary = (index: number) => `GET /${idOf(index)}-canary HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`;

beforeAll(async () => {
  await proxy.start();
  const rejected = await proxy.control.update({
    backends: [backend("one")],
    endpoints: [endpoints("one", origin.port)],
    routeTables: [routeTable([rule("all")])],
    listeners: [plainListener(port)],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  for (const cleanup of cleanups) await cleanup();
  await proxy.stop();
  origin.stop();
  rmSync(folder, { recursive: true, force: true });
});

/** What the proxy sent on for each case: one text a backend connection. */
const sentOn = new Map<SmugglingCase, readonly string[]>();

const readable = (text: string) => (text.length > 300 ? `${text.slice(0, 300)}…` : text);

async function throughProxy(one: SmugglingCase, index: number): Promise<void> {
  const since = origin.mark();
  const { text, closed } = await converse(port, placed(one.bytes, index) + canary(index), 20_000);
  const recorded = since();
  const answers = readMessages(text, "response", true);
  const statuses = answers.messages.map(({ start }) => Number(start.slice(9, 12))).filter((status) => status >= 200);
  // The canary is answered only when the connection went on behind the case.
  const goesOn = answers.messages.some((answer) => field(answer, "x-origin")?.includes("-canary") === true);
  expect(closed).toBe(true);
  expect(goesOn ? statuses.slice(0, -1) : statuses).toEqual([...one.status]);
  const requests = recorded.flatMap((stream) => {
    const reading = readMessages(stream, "request");
    // A body that turned out to be malformed ends its backend connection in the middle of a request.
    if (one.forwarded > 0) expect([reading.rest, reading.broken]).toEqual(["", undefined]);
    return reading.messages;
  });
  const targets = requests.map(({ start }) => start.split(" ")[1]!);
  expect(targets.some((target) => target.includes("-hidden"))).toBe(false);
  expect(targets.filter((target) => !target.includes("-canary")).length).toBe(one.forwarded);
  for (const request of requests) {
    expect(request.fields.filter(([name]) => name === "host").length).toBe(1);
    for (const [name] of request.fields) expect(hopByHop.has(name)).toBe(false);
    expect(field(request, "x-forwarded-for")).toBe("127.0.0.1");
  }
  sentOn.set(one, recorded);
}

/** What must not reach a backend, whatever a client sent: of one hop, or a known name in another spelling. */
const hopByHop = new Set(
  "te trailer keep-alive proxy-connection http2-settings transfer_encoding content_length x_forwarded_for".split(" "),
);

describe("through our proxy", () => {
  smugglingCases.forEach((one, index) => {
    test(one.name, () => throughProxy(one, index));
  });

  test("every case has a name of its own, and hidden requests are hidden", () => {
    expect(new Set(smugglingCases.map(({ name }) => name)).size).toBe(smugglingCases.length);
    expect(smugglingCases.filter(({ bytes }) => bytes.includes(hidden)).length).toBeGreaterThan(20);
  });
});

describe.each(peers)("%s", (name) => {
  const behind = new ReferenceOrigin(false);
  cleanups.push(() => behind.stop());

  test("behind us, it sees in what we send on exactly the requests that we counted", async () => {
    const peer = await HttpPeer.start(name, behind.port, folder);
    cleanups.push(() => peer.stop());
    const wrong: string[] = [];
    await inParallel([...sentOn], 8, async ([one, streams]) => {
      for (const stream of streams) {
        const reading = readMessages(stream, "request");
        const counted = reading.messages.map(({ start }) => start.split(" ").slice(0, 2).join(" "));
        // A body that we cut off has no end for anybody.
        if (counted.length === 0) continue;
        const { text, closed } = await converse(peer.port, stream + canary(999), 20_000);
        const seen = readMessages(text, "response", true).messages.filter(
          ({ start }) => !start.startsWith("HTTP/1.1 1"),
        );
        const told = seen.map((answer) => field(answer, "x-origin") ?? answer.start.slice(9, 12));
        const right = noted(refusedBehind, name, one.name)
          ? ["4", "GET /c999-canary"].includes(told.at(-1)!.replace(/^4\d\d$/, "4")) && told.length <= 2
          : told.join() === [...counted, "GET /c999-canary"].join();
        if (!closed || !right) wrong.push(`${one.name}: it saw ${told.join()} in ${readable(JSON.stringify(stream))}`);
      }
    });
    expect(wrong).toEqual([]);
  });

  test("in front of us, each client gets the answers to what it was understood to ask, and nothing else is asked", async () => {
    // Our proxy again, but with an origin that keeps its connections, so that a poisoned one would show.
    const kept = new ReferenceOrigin(false);
    cleanups.push(() => kept.stop());
    await proxy.control.update({ endpoints: [endpoints("one", kept.port)] });
    const peer = await HttpPeer.start(name, port, folder);
    cleanups.push(() => peer.stop());
    const before = kept.seen.length;
    const told: string[][] = [];
    await inParallel([...smugglingCases.entries()], 32, async ([index, one]) => {
      const { text } = await converse(peer.port, placed(one.bytes, index) + canary(index), 3_000);
      told[index] = readMessages(text, "response", true).messages.flatMap((answer) => field(answer, "x-origin") ?? []);
    });
    const asked = kept.seen.slice(before);
    const wrong: string[] = [];
    for (const [index, one] of smugglingCases.entries()) {
      const mine = asked.filter((what) => what.includes(`${idOf(index)}`));
      if (mine.join() !== told[index]!.join())
        wrong.push(`${one.name}: asked ${mine.join()}, told ${told[index]!.join()}`);
      const took = mine.filter((what) => !what.includes("-canary")).length;
      if (took > one.forwarded && !noted(lenient, name, one.name))
        wrong.push(`${one.name}: it took ${mine.join()}; we take ${one.forwarded}`);
    }
    expect(asked.filter((what) => what.startsWith("broken"))).toEqual([]);
    expect(wrong).toEqual([]);
  });
});

async function inParallel<T>(all: readonly T[], width: number, work: (one: T) => Promise<void>): Promise<void> {
  const rest = [...all];
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let one = rest.shift(); one !== undefined; one = rest.shift()) await work(one);
    }),
  );
}
