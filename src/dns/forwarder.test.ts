import { describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { decode, encode, type StringAnswer } from "dns-packet";
import { FakeClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { defaultConfig } from "./config.ts";
import { createForwarder, type ForwarderOptions, routedForwarder } from "./forwarder.ts";
import { parseQuery, type Query } from "./message.ts";
import type { ZoneView } from "./names.ts";
import { handleMessage } from "./server.ts";
import type { Exchange } from "./upstream.ts";
import { hostResolvers, nameserversOf, parseUpstream } from "./upstreams.ts";

const query = (name: string, id = 7): Query => {
  const parsed = parseQuery(encode({ type: "query", id, flags: 0x0100, questions: [{ name, type: "A" }] }));
  if (parsed.kind !== "query") throw new Error(parsed.kind);
  return parsed.query;
};

/** An upstream that knows every name, and counts. */
function upstream(answers = 1, more: { ttl?: number; rcode?: number; tc?: boolean } = {}) {
  const asked: string[] = [];
  const exchange: Exchange = async (server, message) => {
    const request = decode(Buffer.from(message));
    asked.push(`${server.address} ${request.questions?.[0]?.name}`);
    const data = Array.from(
      { length: answers },
      (_, n): StringAnswer => ({
        name: request.questions![0]!.name,
        type: "A",
        ttl: more.ttl ?? 20,
        data: `192.0.2.${n % 250}`,
      }),
    );
    const flags = 0x0180 | (more.tc ? 0x0200 : 0) | (more.rcode ?? 0);
    return encode({
      type: "response",
      id: request.id!,
      flags,
      questions: request.questions!,
      answers: more.tc ? [] : data,
    });
  };
  return { asked, exchange };
}
const never: Exchange = () => Promise.reject(new Error("no answer in time"));
const forwarder = (options: Partial<ForwarderOptions>) =>
  createForwarder({ upstreams: ["192.0.2.53"], clock: new FakeClock(), tcp: never, ...options });
const read = (bytes: Uint8Array | undefined) => bytes && decode(Buffer.from(bytes));

describe("the forwarder", () => {
  test("passes an answer on with the asker's id and case, and remembers it while its TTL lasts", async () => {
    const clock = new FakeClock();
    const { asked, exchange } = upstream();
    const forward = forwarder({ clock, udp: exchange });
    expect(read(await forward.ask(query("www.example.com"), "udp"))).toMatchObject({ id: 7, answers: [{ ttl: 20 }] });
    clock.advance(5_000);
    const second = read(await forward.ask(query("WWW.example.com", 8), "udp"));
    expect(second).toMatchObject({ id: 8, questions: [{ name: "WWW.example.com" }], answers: [{ ttl: 15 }] });
    expect(asked).toHaveLength(1);
    clock.advance(20_000);
    await forward.ask(query("www.example.com"), "udp");
    expect(asked).toHaveLength(2);
  });

  test("asks the next server when one does not answer or cannot", async () => {
    const failing = upstream(0, { rcode: 2 });
    const good = upstream();
    const udp: Exchange = (server, ...rest) =>
      server.address.endsWith("1")
        ? never(server, ...rest)
        : server.address.endsWith("2")
          ? failing.exchange(server, ...rest)
          : good.exchange(server, ...rest);
    const forward = forwarder({ upstreams: ["192.0.2.1", "192.0.2.2", "192.0.2.3"], udp });
    expect(read(await forward.ask(query("a.example"), "udp"))?.answers).toHaveLength(1);
    expect(good.asked).toEqual(["192.0.2.3 a.example"]);
  });

  test("takes no answer to another question, and none at all when nobody knows", async () => {
    const lie: Exchange = async (_server, message) =>
      encode({
        type: "response",
        id: decode(Buffer.from(message)).id!,
        questions: [{ name: "evil.example", type: "A" }],
        answers: [],
      });
    expect(await forwarder({ udp: lie }).ask(query("a.example"), "udp")).toBeUndefined();
    expect(await forwarder({ udp: never }).ask(query("a.example"), "udp")).toBeUndefined();
  });

  test("fetches over TCP what was cut, and cuts it again for an asker over UDP", async () => {
    const whole = upstream(100);
    const forward = forwarder({ udp: upstream(0, { tc: true }).exchange, tcp: whole.exchange });
    const overUdp = await forward.ask(query("many.example"), "udp");
    expect(overUdp!.length).toBeLessThanOrEqual(512);
    expect(read(overUdp)?.flag_tc).toBe(true);
    expect(read(await forward.ask(query("many.example"), "tcp"))?.answers).toHaveLength(100);
    expect(whole.asked).toHaveLength(1);
  });

  test("keeps no more answers and has no more questions under way than it may", async () => {
    const { asked, exchange } = upstream();
    const cache = { ...defaultConfig.cache, success: { capacity: 2, ttl: 30 } };
    const forward = forwarder({ udp: exchange, cache });
    for (const name of ["a", "b", "c", "a"]) await forward.ask(query(`${name}.example`), "udp");
    expect(asked).toHaveLength(4);
    expect(forward.sizes()).toEqual({ success: 2, denial: 0 });
    const busy = forwarder({ udp: () => new Promise(() => {}), maxInFlight: 1 });
    void busy.ask(query("a.example"), "udp");
    expect(await busy.ask(query("b.example"), "udp")).toBeUndefined();
  });

  test("asks once for all who ask the same at the same time", async () => {
    const { asked, exchange } = upstream();
    const forward = forwarder({ udp: exchange });
    const all = await Promise.all([1, 2, 3].map((id) => forward.ask(query("www.example.com", id), "udp")));
    expect(all.map((one) => read(one)?.id)).toEqual([1, 2, 3]);
    expect(asked).toHaveLength(1);
  });

  test("remembers a denial as long as its SOA says", async () => {
    const clock = new FakeClock();
    const soa = { mname: "a", rname: "b", serial: 1, refresh: 1, retry: 1, expire: 1, minimum: 9 };
    let asked = 0;
    const udp: Exchange = async (_server, message) => {
      asked++;
      const { id, questions } = decode(Buffer.from(message));
      const authorities = [{ name: "example", type: "SOA", ttl: 60, data: soa }] as const;
      return encode({ type: "response", id: id!, flags: 0x0183, questions: questions!, authorities: [...authorities] });
    };
    const forward = forwarder({ clock, udp });
    expect(read(await forward.ask(query("nope.example"), "udp"))).toMatchObject({ rcode: "NXDOMAIN" });
    clock.advance(8_000);
    expect(read(await forward.ask(query("nope.example"), "udp"))?.authorities).toMatchObject([{ ttl: 52 }]);
    expect(asked).toBe(1);
    clock.advance(2_000);
    await forward.ask(query("nope.example"), "udp");
    expect(asked).toBe(2);
  });

  test("fetches what is asked often before it expires", async () => {
    const clock = new FakeClock();
    const { asked, exchange } = upstream();
    const forward = forwarder({ clock, udp: exchange });
    for (let at = 0; at < 12; at++) await forward.ask(query("www.example.com"), "udp");
    expect(asked).toHaveLength(1);
    clock.advance(18_500);
    await forward.ask(query("www.example.com"), "udp");
    expect(asked).toHaveLength(2);
    clock.advance(3_000);
    await forward.ask(query("www.example.com"), "udp");
    expect(asked).toHaveLength(2);
  });

  test("asks a server that failed a moment ago last", async () => {
    const good = upstream();
    let failures = 0;
    const udp: Exchange = (server, ...rest) => {
      if (!server.address.endsWith("1")) return good.exchange(server, ...rest);
      failures++;
      return never(server, ...rest);
    };
    const clock = new FakeClock();
    const forward = forwarder({ clock, upstreams: ["192.0.2.1", "192.0.2.2"], udp });
    await forward.ask(query("a.example"), "udp");
    await forward.ask(query("b.example"), "udp");
    expect(failures).toBe(1);
    clock.advance(6_000);
    await forward.ask(query("c.example"), "udp");
    expect(failures).toBe(2);
  });

  test("sends each stub domain's names to its own servers, the longest domain first", async () => {
    const to = (name: string) => {
      const { asked, exchange } = upstream();
      return { asked, forwarder: forwarder({ upstreams: [`192.0.2.${name.length}`], udp: exchange }) };
    };
    const [corp, deep, rest] = [to("a"), to("bb"), to("ccc")];
    const routed = routedForwarder(
      [
        { domain: "corp.example", forwarder: corp.forwarder },
        { domain: "deep.corp.example", forwarder: deep.forwarder },
      ],
      rest.forwarder,
    );
    for (const name of ["x.Corp.example", "corp.example", "y.deep.corp.example", "notcorp.example"])
      await routed.ask(query(name), "udp");
    expect([corp, deep, rest].map(({ asked }) => asked.length)).toEqual([2, 1, 1]);
    expect(routedForwarder([{ domain: "corp.example", forwarder: corp.forwarder }], undefined).handles("a.b")).toBe(
      false,
    );
  });

  test("passes on no EDNS of its own", async () => {
    const udp: Exchange = async (_server, message) => {
      const { id, questions, additionals } = decode(Buffer.from(message));
      const answers = [{ name: questions![0]!.name, type: "A", ttl: 9, data: "192.0.2.1" }] as const;
      return encode({
        type: "response",
        id: id!,
        flags: 0x0180,
        questions: questions!,
        answers: [...answers],
        additionals: additionals!,
      });
    };
    const forward = forwarder({ udp });
    expect(read(await forward.ask(query("a.example"), "udp"))?.additionals).toEqual([]);
    const edns = { ...query("a.example"), edns: { payload: 1232 } };
    expect(read(await forward.ask(edns, "udp"))?.additionals).toMatchObject([{ type: "OPT" }]);
  });

  test("reads the host's servers, but for those that are itself, and again when they change", () => {
    const path = `${process.env["TMPDIR"] ?? "/tmp"}/fl-t-resolv-${process.pid}`;
    let now = 0;
    writeFileSync(path, "# ours\nsearch a b\nnameserver 10.96.0.10\nnameserver 192.0.2.1\nnameserver nonsense\n");
    const servers = hostResolvers(["10.96.0.10"], { path, now: () => now });
    expect(servers()).toEqual([{ address: "192.0.2.1", port: 53 }]);
    rmSync(path);
    expect(servers()).toHaveLength(1);
    now += 10_000;
    expect(servers()).toEqual([]);
    expect(nameserversOf("nameserver ::1\nnameserver 1.1.1.1 # x\n")).toHaveLength(2);
  });

  test("takes addresses of servers with and without a port, and nothing else", () => {
    expect(parseUpstream("192.0.2.1")).toEqual({ address: "192.0.2.1", port: 53 });
    expect(parseUpstream("192.0.2.1:5353")).toEqual({ address: "192.0.2.1", port: 5353 });
    expect(parseUpstream("[2001:db8::1]:5353")).toEqual({ address: "2001:db8::1", port: 5353 });
    expect(parseUpstream("2001:db8::1")).toEqual({ address: "2001:db8::1", port: 53 });
    expect(() => parseUpstream("dns.example:53")).toThrow("not an address");
  });
});

describe("the server", () => {
  const external = {
    key: "",
    namespace: "shop",
    name: "web",
    kind: "external",
    addresses: [],
    ports: [],
    endpoints: [],
  } as const;
  const names: ZoneView = {
    zone: "cluster.local",
    nameservers: [],
    synced: true,
    serial: 1,
    hasNamespace: () => true,
    service: (_namespace, name) => (name === "web" ? { ...external, externalName: "www.example.com" } : undefined),
    servicesAt: () => [],
  };
  const ask = (name: string, options: Parameters<typeof handleMessage>[2]) =>
    new Promise<ReturnType<typeof decode>>((resolve) => {
      const bytes = encode({ type: "query", id: 7, questions: [{ name, type: "A" }] });
      handleMessage(bytes, "udp", options, (reply) => resolve(decode(Buffer.from(reply))));
    });

  test("refuses names of others when there is nobody to ask, and fails when nobody answers", async () => {
    expect(await ask("www.example.com", { names, log: silentLogger })).toMatchObject({
      rcode: "REFUSED",
      flag_ra: false,
    });
    const options = { names, log: silentLogger, forwarder: forwarder({ udp: never }) };
    expect(await ask("www.example.com", options)).toMatchObject({ rcode: "SERVFAIL" });
    expect(await ask("nope.shop.svc.cluster.local", options)).toMatchObject({ rcode: "NXDOMAIN", flag_ra: true });
  });

  test("follows an external name outside", async () => {
    const options = { names, log: silentLogger, forwarder: forwarder({ udp: upstream().exchange }) };
    const reply = await ask("web.shop.svc.cluster.local", options);
    expect(reply.answers).toMatchObject([
      { type: "CNAME", data: "www.example.com" },
      { name: "www.example.com", type: "A", data: "192.0.2.0" },
    ]);
  });
});
