// Fuzzers of everything that reads bytes from strangers, each with a property that holds for any input: a parser stays within its
// input, says the same however the input is cut, and what it accepts a second parser reads the same way. About 2 s in CI; FUZZ_INPUTS=1000000
// bun test test/fuzz/parsers.test.ts for a long run.

import { expect, test } from "bun:test";
import { HeaderBlock } from "../../src/proxy/headers.ts";
import { Chunk, ChunkedDecoder } from "../../src/proxy/http1/chunked.ts";
import { more } from "../../src/proxy/http1/fields.ts";
import { Http1RequestHead, parseRequestHead } from "../../src/proxy/http1/request.ts";
import { Http1ResponseHead, parseResponseHead } from "../../src/proxy/http1/response.ts";
import { HpackDecoder } from "../../src/proxy/http2/hpack/decoder.ts";
import { FieldSection } from "../../src/proxy/http2/hpack/section.ts";
import { Peer } from "../../src/proxy/http2/peer.ts";
import { readClientHello } from "../../src/proxy/listener/client-hello.ts";
import { readProxyHeader, writeProxyHeader } from "../../src/proxy/listener/proxy-protocol.ts";
import { readMessages } from "../e2e/http-reference.ts";
import { smugglingCases } from "../e2e/smuggling-cases.ts";
import { clientHellos } from "./client-hellos.ts";
import { fuzz, type Random } from "./mutate.ts";

const bytesOf = (text: string) => Buffer.from(text, "latin1");
const requests = smugglingCases
  .filter(({ bytes }) => bytes.length < 4000)
  .map(({ bytes }) => bytesOf(bytes.replaceAll("@@@@", "c")));

/** A cut somewhere in the bytes. */
const prefix = (bytes: Buffer, random: Random) => bytes.subarray(0, random.below(bytes.length + 1));

test("heads of requests", async () => {
  await fuzz("request", 20_000, requests, (bytes, random) => {
    const head = new Http1RequestHead();
    const after = parseRequestHead(bytes, 0, head);
    if (after < 0) return;
    expect(after).toBeLessThanOrEqual(bytes.length);
    // Whatever is shorter than a head is the beginning of one.
    const cut = prefix(bytes.subarray(0, after), random);
    if (cut.length < after) expect(parseRequestHead(cut, 0, new Http1RequestHead())).toBe(more);
    if (head.minor === 0) return;
    // The second parser finds the same fields in the same bytes, and its own idea of the length.
    const text = bytes
      .toString("latin1", 0, after)
      .replace(/^(\r\n)+/, "")
      .replace(/ HTTP\/1\.\d\r\n/, " HTTP/1.1\r\n");
    const body = head.length > 0 ? "x".repeat(Math.min(head.length, 100_000)) : head.length < 0 ? "0\r\n\r\n" : "";
    if (head.length > 100_000) return;
    const { messages, rest, broken } = readMessages(text + body, "request");
    expect([messages.length, rest, broken]).toEqual([1, "", undefined]);
    expect(messages[0]!.fields.length).toBe(head.headers.count);
  });
});

test("heads of answers", async () => {
  const seeds = [
    "HTTP/1.1 200 OK\r\ncontent-length: 5\r\nset-cookie: a=b\r\n\r\n",
    "HTTP/1.0 404 Not Found\r\nconnection: close, x\r\nx: y\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n",
    "HTTP/1.1 103 Early Hints\r\nlink: <a>\r\n\r\n",
    "HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\ndate: x\r\n\r\n",
  ].map(bytesOf);
  await fuzz("response", 20_000, seeds, (bytes, random) => {
    const head = new Http1ResponseHead();
    const after = parseResponseHead(bytes, 0, false, head);
    if (after < 0) return;
    expect(after).toBeLessThanOrEqual(bytes.length);
    const cut = prefix(bytes.subarray(0, after), random);
    if (cut.length < after) expect(parseResponseHead(cut, 0, false, new Http1ResponseHead())).toBe(more);
    expect(head.status).toBeGreaterThanOrEqual(100);
    expect([head.chunked, head.untilClose, head.length >= 0].filter(Boolean).length).toBe(1);
  });
});

/** What a decoder makes of pieces. */
function decodeChunks(pieces: readonly Buffer[]): string {
  const decoder = new ChunkedDecoder();
  let body = "";
  for (const piece of pieces) {
    let at = 0;
    for (;;) {
      const event = decoder.next(piece, at);
      at = decoder.position;
      if (event === Chunk.data) {
        expect(decoder.stop).toBeLessThanOrEqual(piece.length);
        body += piece.latin1Slice(decoder.start, decoder.stop);
        continue;
      }
      if (event === Chunk.malformed) return `malformed`;
      if (event === Chunk.end) return `${body}|${decoder.trailers?.entries().join() ?? ""}|end`;
      break;
    }
  }
  return `${body}|more`;
}

test("chunks", async () => {
  const seeds = requests
    .map((bytes) => bytes.subarray(bytes.indexOf("\r\n\r\n") + 4))
    .filter((bytes) => bytes.length > 4);
  await fuzz("chunks", 20_000, seeds, (bytes, random) => {
    const whole = decodeChunks([bytes]);
    const cut = random.below(bytes.length + 1);
    expect(decodeChunks([bytes.subarray(0, cut), bytes.subarray(cut)])).toBe(whole);
    if (!whole.endsWith("|end")) return;
    expect(decodeChunks(Array.from(bytes, (_, index) => bytes.subarray(index, index + 1)))).toBe(whole);
  });
});

test("HPACK", async () => {
  const peer = new Peer();
  const blocks: readonly Readonly<Record<string, string>>[] = [
    { ":method": "GET", ":path": "/a?b", ":authority": "example.com", cookie: "a=b", "x-long": "y".repeat(300) },
    { ":status": "200", "content-type": "text/plain", "set-cookie": "c=d", "x-a": "\xff\x80" },
    { ":method": "POST", "content-length": "5", "x-a": "", te: "trailers" },
  ];
  const seeds = blocks.flatMap((fields) => [peer.block(fields), peer.block(fields)]);
  const decoder = new HpackDecoder();
  await fuzz("hpack", 20_000, [...seeds, Buffer.from([0x3f, 0xe1, 0x1f, 0x82, 0xbe])], (bytes) => {
    // One decoder for all: its table is what earlier blocks have left, good or bad.
    for (const one of [decoder, new HpackDecoder()]) {
      const section = new FieldSection();
      section.begin(new HeaderBlock());
      if (one.decode(bytes, 0, bytes.length, section) !== undefined) continue;
      section.finish();
      // 5 bits a symbol at least: nothing grows by more than the table allows.
      expect(section.headers.count).toBeLessThanOrEqual(bytes.length);
      if (section.malformed || section.tooLarge) continue;
      for (const [name, value] of section.headers.entries()) {
        expect(name).toMatch(/^[!#$%&'*+.^_`|~0-9a-z-]+$/);
        expect(value).not.toMatch(/[\0\r\n]/);
      }
    }
  });
});

test("the ClientHello", async () => {
  await fuzz("client-hello", 20_000, await clientHellos(), (bytes, random) => {
    const whole = readClientHello(bytes);
    const cut = readClientHello(prefix(bytes, random));
    // More bytes turn `more` into something, and nothing else into anything.
    if (cut !== "more") expect<unknown>(cut).toEqual(whole);
    if (typeof whole === "object" && whole.serverName !== undefined) expect(whole.serverName).toMatch(/^[a-z0-9_.-]+$/);
  });
});

test("the PROXY header", async () => {
  const addresses = { source: "10.0.0.1", sourcePort: 1234, destination: "10.0.0.2", destinationPort: 80 };
  const six = { source: "2001:db8::1", sourcePort: 1, destination: "2001:db8::2", destinationPort: 65_535 };
  const seeds = ([1, 2] as const).flatMap((version) => [
    writeProxyHeader(version, addresses),
    writeProxyHeader(version, six),
  ]);
  seeds.push(bytesOf("PROXY UNKNOWN\r\n"), writeProxyHeader(2, { ...addresses, destination: "::1" }));
  await fuzz("proxy-header", 20_000, seeds, (bytes, random) => {
    const whole = readProxyHeader(bytes);
    const cut = readProxyHeader(prefix(bytes, random));
    if (cut !== "more") expect<unknown>(cut).toEqual(whole);
    if (typeof whole === "string") return;
    expect(whole.length).toBeLessThanOrEqual(bytes.length);
    if (!whole.source || !whole.destination) return;
    // What was understood can be said again, and is understood the same.
    const again = writeProxyHeader(2, {
      source: whole.source.address,
      sourcePort: whole.source.port,
      destination: whole.destination.address,
      destinationPort: whole.destination.port,
    });
    const back = readProxyHeader(again);
    if (typeof back === "string") throw new Error("it cannot be written again");
    expect(writeProxyHeader(2, { ...spread(back) })).toEqual(again);
  });
});

function spread({ source, destination }: Exclude<ReturnType<typeof readProxyHeader>, string>) {
  return {
    source: source!.address,
    sourcePort: source!.port,
    destination: destination!.address,
    destinationPort: destination!.port,
  };
}
