import { describe, expect, test } from "bun:test";
import { decode, encode, type Packet } from "dns-packet";
import fc from "fast-check";
import { silentLogger } from "../base/log.ts";
import { encodeReply, parseQuery, type Query, udpLimit } from "./message.ts";
import type { ZoneView } from "./names.ts";
import type { DnsRecord, Reply } from "./records.ts";
import { handleMessage } from "./server.ts";

const packet = (more: Partial<Packet> = {}) =>
  encode({
    type: "query",
    id: 7,
    flags: 0x0100,
    questions: [{ name: "a.shop.svc.cluster.local", type: "A" }],
    ...more,
  });
const opt = (udpPayloadSize: number, ednsVersion = 0) =>
  ({
    name: ".",
    type: "OPT",
    udpPayloadSize,
    ednsVersion,
    extendedRcode: 0,
    flags: 0,
    flag_do: false,
    options: [],
  }) as never;

const parsed = (bytes: Uint8Array): Query => {
  const result = parseQuery(bytes);
  if (result.kind !== "query") throw new Error(result.kind);
  return result.query;
};
const refusal = (bytes: Uint8Array) => {
  const result = parseQuery(bytes);
  return result.kind === "refused" ? result.reply[3]! & 15 : result.kind;
};

const records = (count: number, name = "a.shop.svc.cluster.local"): DnsRecord[] =>
  Array.from({ length: count }, (_, n) => ({ name, type: "A", ttl: 5, data: `10.244.${n >> 8}.${n & 255}` }));
const reply = (answers: readonly DnsRecord[], more: Partial<Reply> = {}): Reply => ({
  rcode: "NOERROR",
  authoritative: true,
  answers,
  authorities: [],
  additionals: [],
  ...more,
});

const view: ZoneView = {
  zone: "cluster.local",
  nameservers: [],
  synced: true,
  serial: 1,
  hasNamespace: () => true,
  service: () => undefined,
  servicesAt: () => [],
};

describe("a query", () => {
  test("is read with its question, its wish for recursion and its size", () => {
    expect(parsed(packet({ additionals: [opt(4096)] }))).toMatchObject({
      id: 7,
      question: { name: "a.shop.svc.cluster.local", type: "A" },
      recursionDesired: true,
      edns: { payload: 4096 },
    });
    expect(udpLimit(parsed(packet()))).toBe(512);
    expect(udpLimit(parsed(packet({ additionals: [opt(4096)] })))).toBe(1232);
    expect(udpLimit(parsed(packet({ additionals: [opt(100)] })))).toBe(512);
  });

  test("that is no query, or no message, is not answered", () => {
    expect(parseQuery(packet({ type: "response" })).kind).toBe("ignored");
    expect(parseQuery(new Uint8Array(5)).kind).toBe("ignored");
  });

  test("that cannot be read, or asks for what is not done here, is refused with the right code", () => {
    expect(refusal(packet().subarray(0, 20))).toBe(1);
    expect(refusal(packet({ questions: [] }))).toBe(1);
    expect(refusal(packet({ questions: [1, 2].map(() => ({ name: "a", type: "A" as const })) }))).toBe(1);
    expect(refusal(packet({ flags: 4 << 11 }))).toBe(4);
    expect(refusal(packet({ questions: [{ name: "cluster.local", type: "AXFR" }] }))).toBe(5);
    expect(refusal(packet({ questions: [{ name: "version.bind", type: "TXT", class: "CH" }] }))).toBe(5);
    const pointer = Buffer.from(packet());
    pointer[12] = 0xc0;
    expect(refusal(pointer)).toBe(1);
  });

  test("of another EDNS version is told so", () => {
    const result = parseQuery(packet({ additionals: [opt(1232, 1)] }));
    const answer = result.kind === "refused" ? decode(Buffer.from(result.reply)) : undefined;
    expect(answer?.additionals?.[0]).toMatchObject({ type: "OPT", extendedRcode: 1, ednsVersion: 0 });
  });

  test("of any bytes never breaks the server, and what is answered has the query's id", () => {
    const noise = fc.uint8Array({ maxLength: 80 });
    const damaged = fc
      .tuple(
        fc.constantFrom(packet(), packet({ additionals: [opt(1232)] })),
        fc.array(fc.tuple(fc.nat(60), fc.nat(255)), { maxLength: 6 }),
      )
      .map(([bytes, changes]) => {
        const copy = new Uint8Array(bytes);
        for (const [at, value] of changes) if (at < copy.length) copy[at] = value;
        return copy;
      });
    fc.assert(
      fc.property(fc.oneof(noise, damaged), fc.constantFrom<"udp" | "tcp">("udp", "tcp"), (bytes, over) => {
        const answers: Uint8Array[] = [];
        handleMessage(bytes, over, { names: view, log: silentLogger }, (one) => answers.push(one));
        expect(answers.length).toBeLessThanOrEqual(1);
        for (const one of answers) {
          expect([one[0], one[1]]).toEqual([bytes[0]!, bytes[1]!]);
          expect(one[2]! & 0x80).toBe(0x80);
        }
      }),
      { numRuns: 2_000 },
    );
  });
});

describe("a reply", () => {
  const small = parsed(packet());
  const large = parsed(packet({ additionals: [opt(1232)] }));

  test("repeats the question as it came, and points at its name", () => {
    const odd = parsed(packet({ questions: [{ name: "A.Shop.svc.cluster.local", type: "A" }] }));
    const bytes = encodeReply(odd, reply(records(1)), 512);
    const message = decode(Buffer.from(bytes));
    expect(message.questions?.[0]?.name).toBe("A.Shop.svc.cluster.local");
    expect(message.answers?.[0]).toMatchObject({
      name: "A.Shop.svc.cluster.local",
      type: "A",
      ttl: 5,
      data: "10.244.0.0",
    });
    expect(bytes.length).toBe(odd.questionBytes.length + 12 + 16);
  });

  test("that does not fit is cut at a record, with TC set", () => {
    const message = decode(Buffer.from(encodeReply(small, reply(records(100)), 512)));
    expect(message.flag_tc).toBe(true);
    expect(message.answers?.length).toBe(29);
    expect(decode(Buffer.from(encodeReply(small, reply(records(100)), 65_535))).flag_tc).toBe(false);
  });

  test("leaves additional records out without TC", () => {
    const message = decode(
      Buffer.from(encodeReply(small, reply(records(2), { additionals: records(60, "b.cluster.local") }), 512)),
    );
    expect(message.flag_tc).toBe(false);
    expect(message.answers).toHaveLength(2);
    expect(message.additionals!.length).toBeLessThan(60);
  });

  test("speaks EDNS only with those who do", () => {
    expect(decode(Buffer.from(encodeReply(small, reply([]), 512))).additionals).toEqual([]);
    expect(decode(Buffer.from(encodeReply(large, reply([]), 512))).additionals?.[0]).toMatchObject({
      type: "OPT",
      udpPayloadSize: 1232,
    });
  });

  test("of any records is a message within its bound", () => {
    const record = fc.oneof(
      fc.record({
        name: fc.constant("a.shop.svc.cluster.local"),
        type: fc.constant("A" as const),
        ttl: fc.constant(5),
        data: fc.ipV4(),
      }),
      fc.record({
        name: fc.constant("x.y"),
        type: fc.constant("CNAME" as const),
        ttl: fc.constant(5),
        data: fc.constant("b.example.com"),
      }),
      fc.record({
        name: fc.constant("x.y"),
        type: fc.constant("TXT" as const),
        ttl: fc.constant(5),
        data: fc.string({ maxLength: 50 }),
      }),
    );
    fc.assert(
      fc.property(
        fc.array(record, { maxLength: 40 }),
        fc.integer({ min: 512, max: 1232 }),
        fc.boolean(),
        (answers, limit, edns) => {
          const bytes = encodeReply(edns ? large : small, reply(answers), limit);
          expect(bytes.length).toBeLessThanOrEqual(limit);
          const message = decode(Buffer.from(bytes));
          expect(message.flag_tc).toBe(message.answers!.length < answers.length);
        },
      ),
      { numRuns: 200 },
    );
  });
});
