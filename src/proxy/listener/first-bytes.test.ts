// What is read from the first bytes of a connection: PROXY headers and ClientHellos, also cut, spread and wrong.

import { expect, test } from "bun:test";
import { Duplex } from "node:stream";
import { connect } from "node:tls";
import fc from "fast-check";
import { readClientHello } from "./client-hello.ts";
import { readProxyHeader, writeProxyHeader } from "./proxy-protocol.ts";

// -------------------------------------------------------------------------------------------------------- PROXY headers

const port = fc.integer({ min: 0, max: 65_535 });
const addresses = fc.oneof(
  fc.record({ source: fc.ipV4(), sourcePort: port, destination: fc.ipV4(), destinationPort: port }),
  fc.record({
    source: fc.constantFrom("::1", "2001:db8::7", "fe80::1:2"),
    sourcePort: port,
    destination: fc.constantFrom("::", "fd00::80"),
    destinationPort: port,
  }),
);

test("what is written is read, in both versions, byte by byte and with a request behind it", () => {
  fc.assert(
    fc.property(addresses, fc.constantFrom(1 as const, 2 as const), (told, version) => {
      const header = writeProxyHeader(version, told);
      for (let cut = 0; cut < header.length; cut++) expect(readProxyHeader(header.subarray(0, cut))).toBe("more");
      expect(readProxyHeader(Buffer.concat([header, Buffer.from("GET / HTTP/1.1\r\n")]))).toEqual({
        source: { address: told.source, port: told.sourcePort },
        destination: { address: told.destination, port: told.destinationPort },
        length: header.length,
      });
    }),
  );
});

test("addresses of two families tell nothing", () => {
  const told = { source: "10.0.0.1", sourcePort: 1, destination: "::1", destinationPort: 2 };
  expect(writeProxyHeader(1, told).toString()).toBe("PROXY UNKNOWN\r\n");
  for (const version of [1, 2] as const) {
    expect(readProxyHeader(writeProxyHeader(version, told))).toMatchObject({ source: undefined });
  }
});

test.each([
  "GET / HTTP/1.1\r\n\r\n",
  "PROXY TCP4 10.0.0.1 10.0.0.2 80\r\n",
  "PROXY TCP4 10.0.0.1 10.0.0.2 80 65536\r\n",
  "PROXY TCP4 10.0.0.1 10.0.0.2 080 80\r\n",
  "PROXY TCP4 ::1 ::1 80 80\r\n",
  "PROXY TCP6 10.0.0.1 10.0.0.2 80 80\r\n",
  "PROXY TCP4 10.0.0.1 10.0.0.2 80 80 \r\n",
  "PROXY TCP5 10.0.0.1 10.0.0.2 80 80\r\n",
  "PROXY UNKNOWNX\r\n",
  "PROXYTCP4 10.0.0.1 10.0.0.2 80 80\r\n",
  "PUT /",
  `PROXY UNKNOWN ${"x".repeat(120)}\r\n`,
  `PROXY UNKNOWN ${"x".repeat(120)}`,
  "\r\n\r\nGET /",
])("%j is no PROXY header", (text) => {
  expect(readProxyHeader(Buffer.from(text))).toBe("malformed");
});

test("a version 2 header with TLVs is as long as it says; another version, command or too short a block is refused", () => {
  const told = { source: "10.0.0.1", sourcePort: 1, destination: "10.0.0.2", destinationPort: 2 };
  const header = Buffer.concat([writeProxyHeader(2, told), Buffer.from([4, 0, 1, 9])]);
  header[15]! += 4;
  expect(readProxyHeader(header)).toMatchObject({ source: { address: "10.0.0.1", port: 1 }, length: header.length });
  const changed = (at: number, value: number) => {
    const copy = Buffer.from(header);
    copy[at] = value;
    return readProxyHeader(copy);
  };
  expect([changed(12, 0x11), changed(12, 0x22), changed(13, 0x41), changed(15, 11), changed(14, 0xff)]).toEqual(
    new Array(5).fill("malformed"),
  );
  expect(changed(12, 0x20)).toMatchObject({ source: undefined, length: header.length });
  expect(changed(13, 0x31)).toMatchObject({ source: undefined, length: header.length });
});

// --------------------------------------------------------------------------------------------------------- ClientHellos

/** The first bytes that a real TLS client sends. */
async function realHello(servername: string | undefined, ALPNProtocols: string[]): Promise<Buffer> {
  const { promise, resolve } = Promise.withResolvers<Buffer>();
  const socket = new Duplex({
    read() {},
    write(bytes: Buffer, _, done) {
      resolve(bytes);
      done();
    },
  });
  const client = connect({ socket, ALPNProtocols, ...(servername === undefined ? {} : { servername }) });
  client.on("error", () => {});
  const bytes = await promise;
  client.destroy();
  return bytes;
}

test("a real client's server name and protocols are read; with a byte less it is not whole", async () => {
  const hello = await realHello("Shop.Example.COM", ["h2", "http/1.1"]);
  expect(readClientHello(hello)).toEqual({ serverName: "shop.example.com", protocols: ["h2", "http/1.1"] });
  for (let cut = 0; cut < hello.length; cut++) expect(readClientHello(hello.subarray(0, cut))).toBe("more");
  expect(readClientHello(Buffer.concat([hello, Buffer.from("more")]))).toMatchObject({ protocols: ["h2", "http/1.1"] });
});

test("one that is spread over records is put together", async () => {
  const hello = await realHello("a.example", []);
  const body = hello.subarray(5, 5 + hello.readUInt16BE(3));
  const record = (part: Buffer) => Buffer.concat([Buffer.from([22, 3, 1, part.length >> 8, part.length & 255]), part]);
  for (const at of [1, 3, 4, 40, body.length - 1]) {
    const spread = Buffer.concat([record(body.subarray(0, at)), record(body.subarray(at))]);
    expect(readClientHello(spread)).toEqual({ serverName: "a.example", protocols: [] });
  }
});

test("other first bytes are plain, and TLS that is no ClientHello is malformed", () => {
  for (const text of ["GET / HTTP/1.1\r\n", "PRI * HTTP/2.0", "\0"]) {
    expect(readClientHello(Buffer.from(text))).toBe("plain");
  }
  for (const bytes of [
    [22, 2, 1, 0, 1, 1],
    [22, 3, 1, 0, 0, 1],
    [22, 3, 1, 0, 4, 2, 0, 0, 0],
    [22, 3, 1, 0, 4, 1, 255, 0, 0],
    [22, 3, 9],
  ]) {
    expect(readClientHello(Buffer.from(bytes))).toBe("malformed");
  }
});

test("whatever bytes come, both readers answer", async () => {
  const hello = await realHello("a.example", ["h2"]);
  const header = writeProxyHeader(2, {
    source: "10.0.0.1",
    sourcePort: 1,
    destination: "10.0.0.2",
    destinationPort: 2,
  });
  const mutated = fc
    .tuple(fc.constantFrom(hello, header), fc.array(fc.tuple(fc.nat(), fc.nat(255)), { maxLength: 6 }), fc.nat())
    .map(([from, changes, cut]) => {
      const copy = Buffer.from(from);
      for (const [at, value] of changes) copy[at % copy.length] = value;
      return copy.subarray(0, cut % (copy.length + 1));
    });
  const any = fc.oneof(
    mutated,
    fc.uint8Array({ maxLength: 300 }).map((bytes) => Buffer.from(bytes)),
  );
  fc.assert(
    fc.property(any, (bytes) => {
      const read = readClientHello(bytes);
      const told = readProxyHeader(bytes);
      if (typeof told === "object") expect(told.length).toBeLessThanOrEqual(bytes.length);
      return typeof read === "object" || ["more", "plain", "malformed"].includes(read);
    }),
    { numRuns: 5000 },
  );
});
