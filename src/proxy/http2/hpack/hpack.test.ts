import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { HeaderBlock, kindSet } from "../../headers.ts";
import { HpackDecoder } from "./decoder.ts";
import { HpackEncoder } from "./encoder.ts";
import { decodedBound, huffmanDecode, huffmanEncode, huffmanLength } from "./huffman.ts";
import { FieldSection, maxListBytes } from "./section.ts";
import { staticEntries } from "./static-table.ts";

const hex = (text: string) => Buffer.from(text.replaceAll(/\s/g, ""), "hex");

/** Decodes a block; pseudo-header fields first, then the others. */
function decode(decoder: HpackDecoder, block: Uint8Array): [string, string][] | string {
  const section = new FieldSection();
  section.begin(new HeaderBlock());
  const problem = decoder.decode(block, 0, block.length, section);
  section.finish();
  if (problem !== undefined) return problem;
  const pseudo = (["status", "method", "scheme", "path", "authority", "protocol"] as const).flatMap((name) =>
    section[name] === "" ? [] : [[`:${name}`, section[name]] as [string, string]],
  );
  return [...pseudo, ...section.headers.entries()];
}

/** The fields of one request or answer, encoded and decoded by the other side. */
function sectionOf(block: Uint8Array, decoder = new HpackDecoder()): FieldSection {
  const section = new FieldSection();
  section.begin(new HeaderBlock());
  expect(decoder.decode(block, 0, block.length, section)).toBeUndefined();
  section.finish();
  return section;
}

describe("examples of RFC 7541, Appendix C", () => {
  const get = (path: string, scheme: string, authority = "www.example.com"): [string, string][] => [
    [":method", "GET"],
    [":scheme", scheme],
    [":path", path],
    [":authority", authority],
  ];

  test("C.2: representations", () => {
    expect(decode(new HpackDecoder(), hex("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572"))).toEqual(
      [["custom-key", "custom-header"]],
    );
    expect(decode(new HpackDecoder(), hex("040c 2f73 616d 706c 652f 7061 7468"))).toEqual([[":path", "/sample/path"]]);
    expect(decode(new HpackDecoder(), hex("1008 7061 7373 776f 7264 0673 6563 7265 74"))).toEqual([
      ["password", "secret"],
    ]);
    expect(decode(new HpackDecoder(), hex("82"))).toEqual([[":method", "GET"]]);
  });

  test("C.3 and C.4: requests on one connection, without and with Huffman", () => {
    for (const [first, second, third] of [
      [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
      ],
      [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
      ],
    ] as const) {
      const decoder = new HpackDecoder();
      expect(decode(decoder, hex(first))).toEqual(get("/", "http"));
      expect(decode(decoder, hex(second))).toEqual([...get("/", "http"), ["cache-control", "no-cache"]]);
      expect(decode(decoder, hex(third))).toEqual([...get("/index.html", "https"), ["custom-key", "custom-value"]]);
    }
  });

  test("C.5 and C.6: answers on one connection with a table of 256 bytes, which pushes entries out", () => {
    const fields = (status: string, date: string): [string, string][] => [
      [":status", status],
      ["cache-control", "private"],
      ["date", date],
      ["location", "https://www.example.com"],
    ];
    const cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    for (const [first, second, third] of [
      [
        `4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133
         2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70 6c65 2e63 6f6d`,
        "4803 3330 37c1 c0bf",
        `88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0 5a04
         677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851 5745 4f49
         553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31`,
      ],
      [
        `4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e
         919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3`,
        "4883 640e ffc1 c0bf",
        `88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7
         821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed
         4ee5 b106 3d50 07`,
      ],
    ] as const) {
      const decoder = new HpackDecoder();
      expect(decode(decoder, Buffer.concat([hex("3fe101"), hex(first)]))).toEqual(
        fields("302", "Mon, 21 Oct 2013 20:13:21 GMT"),
      );
      expect(decode(decoder, hex(second))).toEqual(fields("307", "Mon, 21 Oct 2013 20:13:21 GMT"));
      expect(decode(decoder, hex(third))).toEqual([
        ...fields("200", "Mon, 21 Oct 2013 20:13:22 GMT"),
        ["content-encoding", "gzip"],
        ["set-cookie", cookie],
      ]);
    }
  });

  test("the static table has 61 entries, the last WWW-Authenticate", () => {
    expect(staticEntries.length).toBe(62);
    expect(Buffer.from(staticEntries[61]!.line).toString()).toBe("www-authenticate: \r\n");
    expect(Buffer.from(staticEntries[32]!.line).toString()).toBe("cookie: \r\n");
  });
});

describe("errors of the connection", () => {
  const wrong: [string, string][] = [
    ["index 0", "80"],
    ["an index behind both tables", "be"],
    ["a name's index behind both tables", "7f00"],
    ["an integer that goes on for ever", "ffffffffffffffffffffff01"],
    ["an integer that is cut off", "ff"],
    ["a string that is cut off", "400561"],
    ["a value that is missing", "400161"],
    ["a table above the limit", "3fe21f"],
    ["a size update behind a field", "8220"],
    ["EOS in a string", "4001 6184 ffff fffc"],
    ["padding of eight bits", "4001 6182 1fff"],
    ["padding that is not ones", "4001 6181 18"],
  ];
  for (const [what, block] of wrong) {
    test(what, () => expect(typeof decode(new HpackDecoder(), hex(block))).toBe("string"));
  }
});

test("a table of size 0 forgets everything, and an entry larger than the table empties it", () => {
  const decoder = new HpackDecoder();
  decode(decoder, hex("400161 0162"));
  expect(decode(decoder, hex("be"))).toEqual([["a", "b"]]);
  expect(decode(decoder, hex("20 3fe11f"))).toEqual([]);
  expect(typeof decode(decoder, hex("be"))).toBe("string");
});

describe("sections", () => {
  const literal = (name: string, value: string) =>
    Buffer.concat([
      Buffer.from([0, name.length]),
      Buffer.from(name, "latin1"),
      Buffer.from([value.length]),
      Buffer.from(value, "latin1"),
    ]);

  test("names and values that HTTP/1 would read differently are malformed", () => {
    const values = ["a\r\nb: c", "a\nb", "a\0b", " a", "a ", "\ta", "a\x7f"];
    for (const value of values) expect(sectionOf(literal("x", value)).malformed).toBe(true);
    for (const name of ["X", "a b", "a:b", "", "a\r\n", ":unknown", "a\x80"])
      expect(sectionOf(literal(name, "v")).malformed).toBe(true);
    for (const path of ["/a b", "/a\tb", "/é", "/a#b", ""])
      expect(sectionOf(literal(":path", path)).malformed).toBe(true);
    for (const method of ["GET /x", "", "G\r\n"]) expect(sectionOf(literal(":method", method)).malformed).toBe(true);
    expect(sectionOf(literal("x_y", "a\tb é")).malformed).toBe(false);
  });

  test("a malformed field stays malformed when it comes out of the table", () => {
    const decoder = new HpackDecoder();
    expect(sectionOf(Buffer.concat([hex("40"), literal("x", "a\r\nb").subarray(1)]), decoder).malformed).toBe(true);
    expect(sectionOf(hex("be"), decoder).malformed).toBe(true);
    // Its name alone is well.
    expect(sectionOf(hex("7e 0161"), decoder).malformed).toBe(false);
  });

  test("pseudo-header fields come first and once", () => {
    expect(sectionOf(hex("8282")).malformed).toBe(true);
    expect(sectionOf(Buffer.concat([literal("x", "y"), hex("82")])).malformed).toBe(true);
  });

  test("cookies are joined into one, behind the other fields", () => {
    const block = [literal("cookie", "a=1"), literal("x", "y"), literal("cookie", "b=2"), literal("cookie", "c=3")];
    expect(sectionOf(Buffer.concat(block)).headers.entries()).toEqual([
      ["x", "y"],
      ["cookie", "a=1; b=2; c=3"],
    ]);
    expect(sectionOf(literal("cookie", "a=1")).headers.entries()).toEqual([["cookie", "a=1"]]);
  });

  test("more than the limit is counted and not kept, and a bomb is called one", () => {
    const entry = Buffer.concat([hex("40 01 61 7f a1 1e"), Buffer.alloc(4000, "v")]);
    const decoder = new HpackDecoder();
    const large = sectionOf(Buffer.concat([entry, Buffer.alloc(17, 0xbe)]), decoder);
    expect(large).toMatchObject({ tooLarge: true, bomb: false });
    expect(large.headers.end - large.headers.spans[0]!).toBeLessThan(maxListBytes + 100);
    expect(sectionOf(Buffer.alloc(100, 0xbe), decoder)).toMatchObject({ tooLarge: true, bomb: true });
    expect(sectionOf(hex("be"), decoder)).toMatchObject({ tooLarge: false, bomb: false });
    expect(sectionOf(Buffer.concat(Array.from({ length: 300 }, () => literal("a", "b")))).tooLarge).toBe(true);
  });

  test("a field that must not be indexed is remembered as such", () => {
    const section = sectionOf(Buffer.concat([literal("a", "b"), hex("10 01 63 01 64")]));
    expect(section.headers.sensitive).toBe(2);
  });
});

describe("Huffman", () => {
  test("every text comes back", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => {
        const encoded = new Uint8Array(bytes.length * 4 + 8);
        const end = huffmanEncode(bytes, 0, bytes.length, encoded, 3);
        expect(end - 3).toBe(huffmanLength(bytes, 0, bytes.length));
        const decoded = new Uint8Array(decodedBound(end - 3));
        const length = huffmanDecode(encoded, 3, end, decoded, 0);
        expect(decoded.subarray(0, length)).toEqual(bytes);
      }),
      { numRuns: 500 },
    );
  });

  test("any bytes decode within the bound, or not at all", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), (bytes) => {
        const decoded = new Uint8Array(decodedBound(bytes.length) + 1);
        expect(huffmanDecode(bytes, 0, bytes.length, decoded, 0)).toBeLessThanOrEqual(decodedBound(bytes.length));
      }),
    );
  });
});

const none = kindSet();
const name = fc.stringMatching(/^[a-z0-9-]{1,20}$/);
const value = fc.stringMatching(/^([!-~\xa0-\xff]([ -~\xa0-\xff]{0,60}[!-~\xa0-\xff])?)?$/);

test("what one side encodes the other decodes, through any sequence of blocks and table sizes", () => {
  const field = fc.tuple(fc.oneof(fc.constantFrom("date", "server", "authorization", "x-a"), name), value);
  const block = fc.record({ fields: fc.array(field, { maxLength: 8 }), limit: fc.option(fc.nat(5000)) });
  fc.assert(
    fc.property(fc.array(block, { maxLength: 30 }), (blocks) => {
      const encoder = new HpackEncoder();
      const decoder = new HpackDecoder();
      for (const { fields, limit } of blocks) {
        if (limit !== null) encoder.setLimit(limit);
        // Twice, so that fields enter the table and come out of it.
        for (let turn = 0; turn < 3; turn++) {
          encoder.begin();
          for (const [name, value] of fields) encoder.text(name, value);
          expect(decode(decoder, encoder.block.subarray(0, encoder.length))).toEqual(fields);
        }
      }
    }),
    { numRuns: 200 },
  );
});

test("a field that repeats shrinks to one byte; secrets never do", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  const size = (name: string, value: string) => {
    encoder.begin();
    encoder.text(name, value);
    decode(decoder, encoder.block.subarray(0, encoder.length));
    return encoder.length;
  };
  const sizes = (name: string) => [1, 2, 3].map(() => size(name, "some value that is a little longer"));
  expect(sizes("x-version")[2]).toBe(1);
  expect(sizes("authorization")[2]).toBeGreaterThan(20);
  expect(sizes("set-cookie")[2]).toBeGreaterThan(20);
});

test("a block of HTTP/1 fields is encoded in lower case, with what was added behind", () => {
  const headers = new HeaderBlock();
  headers.source = Buffer.from("Content-Type: text/plain\r\nX-B: c\r\n");
  headers.push(0, 12, 14, 24, 0);
  headers.push(26, 29, 31, 32, 0);
  headers.end = 34;
  headers.add("added", "1");
  headers.finishWithId("x-forwarded-for: 10.0.0.1\r\nx-request-id: ");
  const encoder = new HpackEncoder();
  encoder.begin();
  encoder.status(200);
  encoder.fields(headers, none);
  expect(decode(new HpackDecoder(), encoder.block.subarray(0, encoder.length))).toEqual([
    [":status", "200"],
    ["content-type", "text/plain"],
    ["x-b", "c"],
    ["added", "1"],
    ["x-forwarded-for", "10.0.0.1"],
    ["x-request-id", headers.tailEnd],
  ]);
  expect(headers.tailEnd).toHaveLength(36);
});

test("any bytes decode to something or are refused", () => {
  const decoders = [new HpackDecoder()];
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 200 }), (bytes) => {
      const problem = decode(decoders[0]!, bytes);
      if (typeof problem === "string") decoders[0] = new HpackDecoder();
    }),
    { numRuns: Number(process.env["FUZZ_RUNS"] ?? 3000) },
  );
});
