import { expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../../base/clock.ts";
import { Deadlines } from "../deadlines.ts";
import { HeaderBlock } from "../headers.ts";
import { Http1RequestHead, parseRequestHead } from "../http1/request.ts";
import { Http1Upstream } from "../http1/upstream.ts";
import { beginTurn, endTurn } from "../wire.ts";
import { Http2RequestHead, readRequest } from "./head.ts";
import { HpackDecoder } from "./hpack/decoder.ts";
import { FieldSection } from "./hpack/section.ts";

/** A field block of literals, whatever is in them. */
function block(fields: readonly (readonly [string, string])[]): Buffer {
  const string = (text: string) => Buffer.concat([Buffer.from([text.length]), Buffer.from(text, "latin1")]);
  return Buffer.concat(fields.flatMap(([name, value]) => [Buffer.from([0]), string(name), string(value)]));
}

/** What a backend of HTTP/1 is sent for a request of HTTP/2; undefined when it is refused. */
function asHttp1(fields: readonly (readonly [string, string])[], endStream: boolean): string | undefined {
  const section = new FieldSection();
  const headers = new HeaderBlock();
  section.begin(headers);
  const bytes = block(fields);
  expect(new HpackDecoder().decode(bytes, 0, bytes.length, section)).toBeUndefined();
  section.finish();
  const head = new Http2RequestHead(headers, "https", "192.0.2.1");
  if (readRequest(section, endStream, head) !== undefined) return undefined;
  let sent = "";
  const wire = {
    write(data: Uint8Array, offset: number, length: number) {
      sent += Buffer.from(data).latin1Slice(offset, offset + length);
      return length;
    },
    pause() {},
    resume() {},
    end() {},
    terminate() {},
  };
  const owner = { timeouts: { idle: 1000 }, free() {}, gone() {} };
  beginTurn();
  new Http1Upstream(wire, owner, new Deadlines(new FakeClock())).send(head);
  endTurn();
  return sent;
}

const text = fc.oneof(
  fc.string({ unit: fc.constantFrom(..."\r\n\0 \t:;,ab1-_%/?#é\x7f\x80AZ"), maxLength: 12 }),
  fc.constantFrom("chunked", "close", "0", "5", "trailers", "x\r\ny: z", "a\r\n\r\nGET / HTTP/1.1\r\nhost: b"),
);
const name = fc.oneof(
  text,
  fc.constantFrom("host", "content-length", "transfer-encoding", "connection", "te", "cookie", "expect", "x", ":path"),
);

test("whatever a client sends, HTTP/1 behind reads one request with the fields that were sent, or none", () => {
  let taken = 0;
  fc.assert(
    fc.property(
      fc.constantFrom("GET", "POST", "OPTIONS", "CONNECT", "G T", "get"),
      fc.oneof(fc.constant("/"), fc.constantFrom("*", "/a?b", "http://x/", "/a b"), text),
      fc.oneof(fc.constant("example.com"), text),
      fc.array(fc.tuple(name, text), { maxLength: 5 }),
      fc.boolean(),
      (method, path, authority, fields, endStream) => {
        const all: [string, string][] = [
          [":method", method],
          [":scheme", "https"],
          [":authority", authority],
          [":path", path],
          ...fields,
        ];
        const sent = asHttp1(all, endStream);
        if (sent === undefined) return;
        taken++;
        const bytes = Buffer.from(sent, "latin1");
        const head = new Http1RequestHead();
        expect(parseRequestHead(bytes, 0, head)).toBe(bytes.length);
        expect(head.method).toBe(method);
        expect(head.query === undefined ? head.path : `${head.path}?${head.query}`).toBe(path);
        const ours = new Set(["host", "content-length", "transfer-encoding", "te", "cookie"]);
        const plain = (list: readonly (readonly [string, string])[]) => list.filter(([name]) => !ours.has(name));
        expect(plain(head.headers.entries())).toEqual(plain(fields));
        // Where it ends is said once, and in one way.
        const length = fields.find(([name]) => name === "content-length")?.[1];
        if (length !== undefined) expect(head.length).toBe(Number(length));
        else expect(head.length).toBe(endStream ? 0 : -1);
      },
    ),
    { numRuns: Number(process.env["FUZZ_RUNS"] ?? 3000) },
  );
  expect(taken).toBeGreaterThan(100);
});

test("cookies and the authority are what HTTP/1 expects", () => {
  const sent = asHttp1(
    [
      [":method", "GET"],
      [":scheme", "https"],
      [":authority", "example.com"],
      [":path", "/"],
      ["cookie", "a=1"],
      ["x-a", "b"],
      ["cookie", "b=2"],
    ],
    true,
  );
  expect(sent).toBe("GET / HTTP/1.1\r\nhost: example.com\r\nx-a: b\r\ncookie: a=1; b=2\r\n\r\n");
});
