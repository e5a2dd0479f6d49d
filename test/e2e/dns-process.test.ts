// The DNS process by itself: what it answers before, while and after there is a control process. The test is the control
// process; sockets are on the host's loopback.

import { afterAll, describe, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { decode, encode } from "dns-packet";
import { silentLogger } from "../../src/base/log.ts";
import { defaultConfig } from "../../src/dns/config.ts";
import { dnsArgv } from "../../src/dns/process.ts";
import type { ZoneFeed } from "../../src/dns/zone-changes.ts";
import { serveZone } from "../../src/dns/zone-server.ts";
import { eventually, isRoot, root } from "./stack.ts";

const folder = mkdtempSync(join(tmpdir(), "fl-t-dnsp-"));
const control = join(folder, "dns.sock");
const snapshot = join(folder, "zone");
const ends: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })];
afterAll(() => {
  for (const end of ends.reverse()) end();
});

const feed: ZoneFeed = {
  *snapshot() {
    yield { namespaces: ["shop"] };
    const cart = {
      key: "shop/cart",
      namespace: "shop",
      name: "cart",
      kind: "address",
      externalName: undefined,
    } as const;
    yield { services: [{ ...cart, addresses: ["10.96.0.5"], ports: [], endpoints: [] }] };
  },
  subscribe: () => ({ dispose() {} }),
  dispose() {},
};

async function freePort(): Promise<number> {
  const socket = createSocket("udp4");
  await new Promise<void>((resolve) => socket.bind(0, "127.0.0.1", resolve));
  const { port } = socket.address();
  socket.close();
  return port;
}

function start(port: number, program = "one"): Bun.Subprocess {
  const child = Bun.spawn(
    [
      process.execPath,
      join(root, "src/cluster/dns-main.ts"),
      ...dnsArgv({
        ...{ control, snapshot, addresses: ["127.0.0.1"], port, metricsPort: 0, clients: ["127.0.0.0/8"] },
        program,
        ownAddresses: [],
        netns: undefined,
      }),
    ],
    { stdout: "ignore", stderr: Bun.file(join(folder, "log")), detached: true },
  );
  ends.push(() => child.kill("SIGKILL"));
  return child;
}

/** The rcode and the first address; `nothing` when there is no answer. */
async function ask(port: number, name: string, patience = 300): Promise<string> {
  const answer = Promise.withResolvers<string>();
  const socket = await Bun.udpSocket({
    connect: { hostname: "127.0.0.1", port },
    socket: {
      data(_, data) {
        const { answers = [], ...rest } = decode(data) as any;
        answer.resolve([rest.rcode, ...answers.map((one: any) => one.data)].join(" "));
      },
      error() {},
    },
  });
  const timer = setTimeout(() => answer.resolve("nothing"), patience);
  socket.send(encode({ type: "query", id: 7, flags: 0x0100, questions: [{ name, type: "A" }] }));
  const text = await answer.promise;
  clearTimeout(timer);
  socket.close();
  return text;
}

describe("the DNS process", () => {
  const cart = "cart.shop.svc.cluster.local";
  const answers = (port: number, wanted: string) =>
    eventually(
      () => ask(port, cart),
      (text) => text === wanted,
      20_000,
    );

  test("comes back with its last names while there is no control process, and has none before the first", async () => {
    const port = await freePort();
    const first = start(port);
    expect(await answers(port, "SERVFAIL")).toBe("SERVFAIL");
    const server = serveZone({
      path: control,
      feed,
      config: { ...defaultConfig, ttl: 9 },
      program: "one",
      log: silentLogger,
    });
    expect(await answers(port, "NOERROR 10.96.0.5")).toBe("NOERROR 10.96.0.5");
    await eventually(
      async () => Bun.file(snapshot).size,
      (size) => size > 0,
      20_000,
    );
    server.dispose();
    first.kill("SIGKILL");
    await first.exited;
    const second = start(port);
    expect(await answers(port, "NOERROR 10.96.0.5")).toBe("NOERROR 10.96.0.5");
    expect(await ask(port, "nope.shop.svc.cluster.local")).toBe("NXDOMAIN");
    expect(readFileSync(snapshot, "utf8")).toContain('"ttl":9');
    second.kill();
    expect(await second.exited).toBe(0);
  }, 60_000);

  test("of a newer program takes over without a question lost", async () => {
    const port = await freePort();
    const server = serveZone({ path: control, feed, config: defaultConfig, program: "two", log: silentLogger });
    ends.push(() => server.dispose());
    const old = start(port, "one");
    expect(await answers(port, "NOERROR 10.96.0.5")).toBe("NOERROR 10.96.0.5");
    expect((await server.connected()).program).toBe("one");
    const seen = new Map<string, number>();
    let over = false;
    const asking = Promise.all(
      Array.from({ length: 4 }, async () => {
        while (!over) {
          const text = await ask(port, cart, 3_000);
          seen.set(text, (seen.get(text) ?? 0) + 1);
        }
      }),
    );
    const next = start(port, "two");
    await server.upToDate();
    expect(server.listening()).toMatchObject({ pid: next.pid, program: "two" });
    old.kill();
    expect(await old.exited).toBe(0);
    await Bun.sleep(300);
    over = true;
    await asking;
    expect([...seen.keys()]).toEqual(["NOERROR 10.96.0.5"]);
    expect(server.listening()?.pid).toBe(next.pid);
    next.kill();
    await next.exited;
  }, 60_000);

  test.skipIf(!isRoot || !existsSync("/proc/self/autogroup"))(
    "goes before other sessions of the machine",
    async () => {
      const port = await freePort();
      const child = start(port);
      await eventually(
        () => ask(port, cart),
        (text) => text !== "nothing",
        20_000,
      );
      expect(readFileSync(`/proc/${child.pid}/autogroup`, "utf8")).toMatch(/nice -10\n/);
      child.kill();
      await child.exited;
    },
    60_000,
  );
});
