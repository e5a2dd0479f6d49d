// Downgrades: what a client says in HTTP/2, where any byte can stand anywhere, and what a backend of HTTP/1.1 is then sent. Each
// case is refused, or becomes exactly one request in the plain spelling, which real NGINX, HAProxy and Envoy read as one, too.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ask, downgrades } from "./downgrade-cases.ts";
import { HttpPeer, peerNames, peerProgram } from "./http-peers.ts";
import { converse, field, ReferenceOrigin, readMessages } from "./http-reference.ts";
import { forwardAll, freePort, ProxyUnderTest } from "./proxy-harness.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-downgrade-"));
const proxy = new ProxyUnderTest();
const port = freePort();
const origin = new ReferenceOrigin(true);

beforeAll(async () => {
  await proxy.start();
  await forwardAll(proxy, port, origin.port);
});

afterAll(async () => {
  await proxy.stop();
  origin.stop();
  rmSync(folder, { recursive: true, force: true });
});

const sentOn = new Map<string, string>();

describe("through our proxy", () => {
  test.each(downgrades.map((one) => [one.name, one] as const))("%s", async (name, one) => {
    const since = origin.mark();
    expect(await ask(port, one)).toBe(one.outcome);
    const recorded = since();
    for (const text of recorded) {
      const reading = readMessages(text, "request");
      expect(reading.broken).toBeUndefined();
      expect(reading.messages.length).toBeLessThanOrEqual(1);
      for (const message of reading.messages) {
        expect(message.start).not.toContain("/hidden");
        expect(message.fields.filter(([one]) => one === "host").length).toBe(1);
        for (const [one] of [...message.fields, ...message.trailers])
          expect(one).not.toMatch(/_encoding|^te$|^connection$/);
      }
      if (one.outcome === 200) {
        expect(reading.rest).toBe("");
        expect(reading.messages[0]!.body).toBe(one.data ?? "");
        sentOn.set(name, text);
      }
    }
    if (one.outcome === 200) expect(recorded.length).toBe(1);
  });
});

for (const name of peerNames) {
  if (!peerProgram(name)) console.log(`skipped: ${name} is not there; what our proxy sends on is not compared with it`);
}

test.each(peerNames.filter(peerProgram))("%s behind us sees one request in each", async (name) => {
  const behind = new ReferenceOrigin(false);
  const peer = await HttpPeer.start(name, behind.port, folder);
  try {
    expect(sentOn.size).toBeGreaterThan(10);
    for (const [one, text] of sentOn) {
      const asked = text.split(" ").slice(0, 2).join(" ");
      const end = "GET /canary HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n";
      const answer = await converse(peer.port, text + end, 20_000);
      const told = readMessages(answer.text, "response", true).messages.map((message) => field(message, "x-origin"));
      expect([one, ...told]).toEqual([one, asked, "GET /canary"]);
    }
  } finally {
    await peer.stop();
    behind.stop();
  }
});
