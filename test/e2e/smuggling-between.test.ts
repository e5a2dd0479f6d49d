// Smuggling where HTTP/2 is spoken between us and another proxy: the cases of HTTP/1.1 through real NGINX (grpc_pass), HAProxy and Envoy
// that speak HTTP/2 to us, and through us to each of them in HTTP/2; and the downgrades of clients of HTTP/2 through us and then
// one of them. Whatever is said, the origin is asked what the client was understood to ask, and nothing else.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ask, downgrades } from "./downgrade-cases.ts";
import { HttpPeer, peerNames, peerProgram, type Spoken } from "./http-peers.ts";
import { ReferenceOrigin } from "./http-reference.ts";
import { forwardAll, freePort, ProxyUnderTest } from "./proxy-harness.ts";
import { misunderstood } from "./smuggled.ts";
import { lenient, noted, smugglingCases } from "./smuggling-cases.ts";

/** What they take, or make of it, when what is behind them speaks HTTP/2, beside what they take anyway. */
const lenientToHttp2: typeof lenient = [
  {
    reason:
      "its lines of HTTP/2 have no place for what was wrong: a body is framed anew, a scheme and a host are its own",
    peers: ["haproxy"],
    cases: ["Transfer-Encoding in HTTP/1.0", "another scheme", "the absolute form without a host"],
  },
  { reason: "over HTTP/2 we take more fields", peers: ["nginx"], cases: ["101 fields"] },
];

/** NGINX ends a whole connection of HTTP/2, with all streams on it, at a trailer section of one. */
const hasTrailers = new Set(["trailers"]);

/** An upgrade that is refused is a 502 for who asked for it by an extended CONNECT, so that its client is told of nothing. */
const refusedUpgrade = "an upgrade that the backend does not take, and a request behind it";

const peers = peerNames.filter((name) => {
  if (peerProgram(name)) return true;
  console.log(`skipped: ${name} is not there; HTTP/2 between it and our proxy is not tried`);
  return false;
});

const folder = mkdtempSync(join(tmpdir(), "fl-t-between-"));
const proxy = new ProxyUnderTest();
const port = freePort();
const cleanups: (() => unknown)[] = [];

beforeAll(async () => {
  await proxy.start();
});

afterAll(async () => {
  for (const cleanup of cleanups) await cleanup();
  await proxy.stop();
  rmSync(folder, { recursive: true, force: true });
});

function origin(): ReferenceOrigin {
  const made = new ReferenceOrigin(false);
  cleanups.push(() => made.stop());
  return made;
}

async function start(name: (typeof peers)[number], to: number, spoken: Spoken): Promise<HttpPeer> {
  const peer = await HttpPeer.start(name, to, folder, spoken);
  cleanups.push(() => peer.stop());
  return peer;
}

describe.each(peers)("%s", (name) => {
  test("in front of us, speaking HTTP/2 to us", async () => {
    const kept = origin();
    await forwardAll(proxy, port, kept.port);
    const peer = await start(name, port, { front: "http1", back: "h2c" });
    const excused = (one: string) => noted(lenient, name, one) || noted(lenientToHttp2, name, one);
    const cases = smugglingCases.filter((one) => one.name !== refusedUpgrade);
    expect(await misunderstood(peer.port, kept, name, cases, excused)).toEqual([]);
    expect(kept.seen.length).toBeGreaterThan(50);
  }, 60_000);

  test("behind us, spoken to in HTTP/2, for clients of HTTP/1.1 and of HTTP/2", async () => {
    const kept = origin();
    const peer = await start(name, kept.port, { front: "h2c", back: "http1" });
    await forwardAll(proxy, port, peer.port, { protocol: "h2c" });
    const cases = smugglingCases.filter((one) => name !== "nginx" || !hasTrailers.has(one.name));
    expect(await misunderstood(port, kept, name, cases)).toEqual([]);
    expect(kept.seen.length).toBeGreaterThan(50);
    const wrong: string[] = [];
    for (const one of downgrades) {
      const before = kept.seen.length;
      const outcome = await ask(port, one);
      const asked = kept.seen.slice(before);
      const path = one.fields.find(([field]) => field === ":path")?.[1];
      // It may be stricter than we are; what breaks off behind its head may have been asked, and nothing is asked twice.
      const right = outcome === 200 ? one.outcome === 200 && asked.length === 1 : asked.length <= 1;
      if (!right || asked.some((what) => what.split(" ")[1] !== path || what.includes("hidden")))
        wrong.push(`${one.name}: ${outcome}, asked ${asked.join()}`);
    }
    expect(wrong).toEqual([]);
  }, 60_000);
});
