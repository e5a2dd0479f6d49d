// How connections find their chains, without sockets.

import { describe, expect, test } from "bun:test";
import { FakeClock } from "../../base/clock.ts";
import { chainRefusal } from "../../model/chain-condition.ts";
import type { ChainCondition, Listener } from "../../model/model.ts";
import { Deadlines } from "../deadlines.ts";
import type { ProxyRuntime } from "../runtime.ts";
import { type Arrived, agreedProtocol, certificateFor, chainFor, compileCondition } from "./chains.ts";
import { misdirection } from "./misdirected.ts";
import { openingTimeout } from "./opening.ts";
import { type Chain, Reception } from "./reception.ts";
import type { Accepted, ListenerWire, Seat } from "./served.ts";
import { protocolFor } from "./termination.ts";

const from = { kind: "Test", name: "test", field: "" };
const nowhere = { source: "192.0.2.1", sourcePort: 1, destination: "10.0.0.1", destinationPort: 443 };
const arrived = (more: Partial<Arrived> = {}): Arrived => ({
  source: "198.51.100.1",
  destination: { address: "10.0.0.1", port: 443 },
  protocols: [],
  ...more,
});
const sni = (...names: string[]): ChainCondition => ({ kind: "sni", names });

class FakeWire implements ListenerWire {
  sent = "";
  state = "open";
  write(data: Uint8Array, offset: number, length: number): number {
    this.sent += Buffer.from(data.subarray(offset, offset + length)).toString("hex");
    return length;
  }
  pause(): void {}
  resume(): void {}
  shutdown(): void {}
  end(): void {
    this.state = "ended";
  }
  terminate(): void {
    this.state = "cut off";
  }
}

function world(conditions: readonly ChainCondition[], more: Partial<Listener> = {}, most = 2) {
  const clock = new FakeClock();
  const connections = { open: 0, accepted: 0, refused: 0, most };
  const ended: string[] = [];
  const metrics = { ended: (reason: string) => ended.push(reason) };
  const runtime = { deadlines: new Deadlines(clock), connections, metrics } as unknown as ProxyRuntime;
  const reception = new Reception(runtime, { handshakes: 0, failures: 0, unknownNames: 0 });
  const served: { chain: number; accepted: Accepted; bytes: string }[] = [];
  const chains = conditions.map(
    (when, chain): Chain => ({
      ...compileCondition(when),
      termination: undefined,
      served: {
        size: 0,
        live: () => [],
        drain() {},
        terminate() {},
        accept(seat, _wire, accepted) {
          const entry = { chain, accepted, bytes: "" };
          served.push(entry);
          const nothing = () => {};
          const onData = (bytes: Buffer) => (entry.bytes += bytes.toString("latin1"));
          const others = { onDrain: nothing, onEnd: nothing, onClose: nothing };
          seat.connection = { onData, ...others, closeWhenIdle: nothing, terminate: nothing };
          return true;
        },
      },
    }),
  );
  const listener = {
    name: "l",
    from,
    scope: "s",
    address: "127.0.0.1",
    port: 1,
    transport: "tcp",
    chains: [],
  } as const;
  reception.set(chains, { ...listener, ...more });
  const connect = () => {
    const seat: Seat = { connection: undefined };
    const wire = new FakeWire();
    const taken = reception.receive(seat, wire, { address: "192.0.2.1", port: 7 }, undefined);
    return { wire, taken, say: (text: string) => seat.connection?.onData(Buffer.from(text, "latin1")) };
  };
  return { clock, connections, ended, reception, served, connect };
}

test("with one plain chain a connection is served before it says anything", () => {
  const { connect, served } = world([{ kind: "plain" }]);
  expect(connect().taken).toBe(true);
  expect(served).toMatchObject([{ accepted: { source: "192.0.2.1", sourcePort: 7 }, bytes: "" }]);
});

test("what was read to decide is served with the rest", () => {
  const { connect, served, connections } = world([{ kind: "tls" }, { kind: "plain" }]);
  const one = connect();
  one.say("GET / ");
  one.say("HTTP/1.1");
  expect(served).toMatchObject([{ chain: 1, bytes: "GET / HTTP/1.1" }]);
  expect(connections.open).toBe(0);
});

test("who says too little is closed after its time, and counts as a connection until then", () => {
  const { connect, clock, connections, ended, served } = world([{ kind: "plain" }], { proxyProtocol: true });
  const slow = connect();
  slow.say("PROXY ");
  const other = connect();
  expect(connect().taken).toBe(false);
  expect(connections).toMatchObject({ open: 2, refused: 1 });
  clock.advance(openingTimeout / 2);
  other.say("PROXY TCP4 203.0.113.9 192.0.2.8 4711 80\r\nhello");
  clock.advance(openingTimeout / 2 + 20);
  expect(slow.wire.state).toBe("cut off");
  expect(other.wire.state).toBe("open");
  expect(ended).toEqual(["request_slow"]);
  expect(connections.open).toBe(0);
  expect(served).toMatchObject([
    {
      bytes: "hello",
      accepted: { source: "203.0.113.9", sourcePort: 4711, destination: { address: "192.0.2.8", port: 80 } },
    },
  ]);
});

test("a listener that goes closes those who have not said what they want", () => {
  const { connect, reception, connections } = world([{ kind: "tls" }]);
  const one = connect();
  reception.close();
  expect([one.wire.state, connections.open]).toEqual(["cut off", 0]);
});

test("plain text where only TLS is served, and what is no ClientHello, ends the connection", () => {
  const { connect, ended } = world([{ kind: "tls" }]);
  const plain = connect();
  plain.say("GET / HTTP/1.1\r\n");
  const bad = connect();
  bad.say("\x16\x03\x01\x00\x01\x02");
  // A TLS alert: fatal, decode_error.
  expect([plain.wire.state, bad.wire.state, bad.wire.sent]).toEqual(["cut off", "ended", "15030300020232"]);
  expect(ended).toEqual(["no_chain", "bad_hello"]);
});

describe("a chain", () => {
  test("is the first whose condition holds for the server name", () => {
    const chains = [sni("a.example"), sni("*.example"), { kind: "tls" } as const].map(compileCondition);
    const index = (name: string | undefined) => chains.indexOf(chainFor(chains, true, name, arrived())!);
    expect([index("A.example"), index("b.example"), index("x.b.example")]).toEqual([0, 1, 1]);
    expect([index("example"), index(undefined)]).toEqual([2, 2]);
    expect(chainFor([compileCondition(sni("*"))], true, undefined, arrived())).toBeUndefined();
    expect(chainFor([compileCondition({ kind: "plain" })], true, "a.example", arrived())).toBeUndefined();
  });

  test("is the first that takes where a connection comes from, goes to, and what it offers", () => {
    const chains = [
      { kind: "plain", destination: ["10.0.0.0/8", "2001:db8::/32"], destinationPorts: [80, 8080] },
      { kind: "plain", source: ["192.0.2.0/24"] },
      { kind: "tls", protocols: ["istio", "istio-h2"], destinationPorts: [443] },
      { kind: "tls" },
    ] as const satisfies readonly ChainCondition[];
    const compiled = chains.map(compileCondition);
    const index = (secure: boolean, more: Partial<Arrived>, address = "10.1.1.1", port = 80) =>
      compiled.indexOf(chainFor(compiled, secure, undefined, arrived({ destination: { address, port }, ...more }))!);
    expect([index(false, {}), index(false, {}, "10.1.1.1", 81), index(false, {}, "2001:db8::1", 8080)]).toEqual([
      0, -1, 0,
    ]);
    expect([index(false, {}, "11.0.0.1"), index(false, { source: "192.0.2.9" }, "11.0.0.1")]).toEqual([-1, 1]);
    // As a socket for both families names it.
    expect(index(false, { source: "::ffff:192.0.2.9" }, "::ffff:11.0.0.1")).toBe(1);
    const offering = { protocols: ["http/1.1", "istio"] };
    expect([index(true, offering, "x", 443), index(true, offering, "x", 444), index(true, {}, "x", 443)]).toEqual([
      2, 3, 3,
    ]);
  });

  test("takes what decide says that it takes", () => {
    const conditions: ChainCondition[] = [];
    for (const kind of ["plain", "tls", "sni"] as const) {
      for (const destination of [undefined, ["10.0.0.0/9"]])
        for (const destinationPorts of [undefined, [443]])
          for (const source of [undefined, ["192.0.2.0/24"]])
            for (const protocols of kind === "plain" ? [undefined] : [undefined, ["h2"]]) {
              const all = { destination, destinationPorts, source, protocols };
              const more = Object.fromEntries(Object.entries(all).filter(([, value]) => value));
              conditions.push(kind === "sni" ? { kind, names: ["a.example"], ...more } : { kind, ...more });
            }
    }
    let taken = 0;
    for (const when of conditions)
      for (const address of ["10.0.0.1", "10.200.0.1"])
        for (const port of [443, 80])
          for (const source of ["192.0.2.1", "198.51.100.1"])
            for (const tls of [undefined, { protocols: ["h2"] }, { serverName: "a.example" }]) {
              const destination = { address, port };
              const connection = arrived({ source, destination, protocols: tls?.protocols ?? [] });
              const takes = chainFor([compileCondition(when)], tls !== undefined, tls?.serverName, connection);
              expect(takes !== undefined).toBe(chainRefusal(when, { tls, source, destination }) === undefined);
              if (takes) taken++;
            }
    expect(taken).toBeGreaterThan(100);
  });

  test("shows the certificate of the name, of its wildcard, else the first", () => {
    const certificates = [{ names: ["x"] }, { names: ["*.example"] }, { names: ["a.example"] }];
    const index = (name: string | undefined) => certificates.indexOf(certificateFor(certificates, name)!);
    expect(["a.example", "b.example", "a.b.example", undefined].map(index)).toEqual([2, 1, 0, 0]);
  });

  test("agrees on the first protocol of its list that is spoken, or on any where the inside is passed on", () => {
    expect(agreedProtocol([], ["http/1.1", "h2"])).toBe("h2");
    expect(agreedProtocol(["http/1.1", "h2"], ["h2", "http/1.1"])).toBe("http/1.1");
    expect(agreedProtocol(["h3", "h2"], ["h3"])).toBeUndefined();
    const opaque = { certificates: [], clients: undefined, opaque: true };
    expect(protocolFor({ ...opaque, alpn: ["imap"] }, ["pop3", "imap"])).toBe("imap");
    expect(protocolFor({ ...opaque, alpn: ["imap"] }, ["pop3"])).toBe("refused");
    expect(protocolFor({ ...opaque, alpn: [] }, ["pop3"])).toBeUndefined();
    expect(protocolFor({ ...opaque, alpn: ["imap"] }, [])).toBeUndefined();
  });
});

describe("a request is misdirected", () => {
  const chains = [
    { ...compileCondition(sni("a.example")), alike: "1" },
    { ...compileCondition(sni("*.example")), alike: "2" },
    { ...compileCondition(sni("c.org")), alike: "1" },
    { ...compileCondition({ kind: "plain" }), alike: "3" },
  ];

  test("when its host is another chain's that differs in routes or clients", () => {
    const on = misdirection(chains, chains[0]!)!;
    const hosts = ["a.example", "b.example", "B.Example:443", "c.org", "nobody.org", "", "a.example"];
    expect(hosts.map((host) => on(host, nowhere))).toEqual([false, true, true, false, false, false, false]);
  });

  test("only by chains that would take its connection", () => {
    const there = { ...compileCondition({ ...sni("b.example"), destinationPorts: [443] }), alike: "2" };
    const on = misdirection([chains[0]!, there], chains[0]!)!;
    const to = (destinationPort: number) => on("b.example", { ...nowhere, destinationPort });
    expect([to(443), to(444), to(443)]).toEqual([true, false, true]);
  });

  test("never on a plain chain, and never where all are alike", () => {
    expect(misdirection(chains, chains[3]!)).toBeUndefined();
    expect(misdirection([chains[0]!, chains[2]!], chains[0]!)).toBeUndefined();
  });
});
