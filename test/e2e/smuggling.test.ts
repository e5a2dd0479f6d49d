// Request smuggling: nothing that a client sends makes our proxy and anybody before or behind it disagree about where a request
// ends. Each case of `smuggling-cases.ts` goes through our proxy; what that sent on is then given to real NGINX, HAProxy and
// Envoy as backends, and the same bytes to each of them in front of us. Those that are not installed are skipped with a word.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { HttpPeer, peerNames, peerProgram } from "./http-peers.ts";
import { converse, field, ReferenceOrigin, readMessages } from "./http-reference.ts";
import { endpoints, forwardAll, freePort, ProxyUnderTest } from "./proxy-harness.ts";
import { rawBackend } from "./proxy-raw.ts";
import { canary, inParallel, misunderstood, placed } from "./smuggled.ts";
import { hidden, noted, refusedBehind, type SmugglingCase, smugglingCases } from "./smuggling-cases.ts";

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

beforeAll(async () => {
  await proxy.start();
  await forwardAll(proxy, port, origin.port);
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
    const wrong = await misunderstood(peer.port, kept, name);
    expect(wrong).toEqual([]);
  });
});

describe("what a client says behind an upgrade", () => {
  const upgrade =
    "GET /chat HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
  const behind = "GET /admin HTTP/1.1\r\nhost: internal\r\nx-forwarded-for: 10.0.0.1\r\n\r\n";

  test.each([
    ["refused with 403", "HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\n\r\n"],
    ["answered as any request", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"],
    ["refused with 426 and the protocol's name", "HTTP/1.1 426 No\r\nupgrade: websocket\r\ncontent-length: 0\r\n\r\n"],
  ])("waits for the answer, and is a request of its own where the upgrade is %s", async (_, answer) => {
    const answers: string[] = [];
    const server = rawBackend((socket, text) => {
      if (!text.endsWith("\r\n\r\n")) return;
      socket.data.text = "";
      // Long enough for what must not come.
      setTimeout(() => {
        answers.push(text + socket.data.text);
        socket.write(answers.length === 1 ? answer : "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      }, 150);
    });
    cleanups.push(() => server.stop());
    await proxy.control.update({ endpoints: [endpoints("one", server.port)] });
    const { text } = await converse(port, upgrade + behind + canary(0), 5_000);
    expect(text.match(/HTTP\/1.1 (\d+)/g)!.slice(1)).toEqual(["HTTP/1.1 200", "HTTP/1.1 200"]);
    expect(answers.map((one) => one.split("\r\n\r\n").length - 1)).toEqual([1, 1, 1]);
    // It went through everything that a request goes through.
    expect(answers[1]).toMatch(/^GET \/admin HTTP\/1.1\r\n/);
    expect(answers[1]).toContain("x-forwarded-for: 10.0.0.1, 127.0.0.1");
  });
});
