import { expect, test } from "bun:test";
import { Body, BodyReader, Unread } from "./body.ts";

/** What a taker was given, and what it says to each piece. */
function taker(says: (text: string) => number = () => Body.more) {
  const pieces: string[] = [];
  return {
    pieces,
    bodyPiece(bytes: Buffer, start: number, end: number): number {
      pieces.push(bytes.latin1Slice(start, end));
      return says(pieces.at(-1)!);
    },
  };
}

function reading(length: number, ...came: readonly string[]) {
  const unread = new Unread();
  for (const piece of came) unread.add(Buffer.from(piece));
  const body = new BodyReader();
  body.begin(length);
  return { unread, body };
}

const left = ({ bytes, at }: Unread) => bytes?.toString("latin1", at);

test("a body of a length takes so much and leaves the rest", () => {
  const { unread, body } = reading(5, "hel");
  const to = taker();
  expect(body.read(unread, to)).toBe(Body.more);
  expect(left(unread)).toBe(undefined);
  unread.add(Buffer.from("loGET"));
  expect(body.read(unread, to)).toBe(Body.whole);
  expect([to.pieces.join("|"), left(unread), body.trailers]).toEqual(["hel|lo", "GET", undefined]);
});

test("a body in chunks ends with its last, and trailers are of that body only", () => {
  const { unread, body } = reading(-1, "3\r\nhel\r\n2\r\nlo\r\n0\r\nx-a: 1\r\n\r\nGET");
  const to = taker();
  expect(body.read(unread, to)).toBe(Body.whole);
  expect([to.pieces.join("|"), left(unread)]).toEqual(["hel|lo", "GET"]);
  expect(body.trailers?.entries()).toEqual([["x-a", "1"]]);
  body.begin(3);
  expect(body.read(unread, taker())).toBe(Body.whole);
  expect(body.trailers).toBe(undefined);
});

test("what is held back waits where it is, but for the end of a known length, which is told", () => {
  const held = () => Body.held;
  const chunks = reading(-1, "1\r\na\r\n1\r\nb\r\n0\r\n\r\n");
  const to = taker(held);
  expect(chunks.body.read(chunks.unread, to)).toBe(Body.held);
  expect(to.pieces).toEqual(["a"]);
  expect(chunks.body.read(chunks.unread, to)).toBe(Body.held);
  expect(chunks.body.read(chunks.unread, to)).toBe(Body.whole);
  expect(to.pieces).toEqual(["a", "b"]);
  const known = reading(2, "ab");
  expect(known.body.read(known.unread, taker(held))).toBe(Body.whole);
});

test("a body that nobody asks for any more does not end", () => {
  const known = reading(2, "ab");
  expect(
    known.body.read(
      known.unread,
      taker(() => Body.gone),
    ),
  ).toBe(Body.gone);
  const chunks = reading(-1, "1\r\na\r\n0\r\n\r\n");
  expect(
    chunks.body.read(
      chunks.unread,
      taker(() => Body.gone),
    ),
  ).toBe(Body.gone);
});

test("what is no chunk is malformed", () => {
  const { unread, body } = reading(-1, "z\r\n");
  expect(body.read(unread, taker())).toBe(Body.malformed);
});

test("the rest of a body is passed over when all of it is there, also while a piece of it is being taken, and is not told as whole", () => {
  const short = reading(4, "ab");
  expect(short.body.skip(short.unread)).toBe(false);
  const { unread, body } = reading(4, "ab");
  const to = taker(() => {
    unread.add(Buffer.from("cdGET"));
    expect(body.skip(unread)).toBe(true);
    return Body.more;
  });
  expect(body.read(unread, to)).toBe(Body.more);
  expect(left(unread)).toBe("GET");
  const chunks = reading(-1, "0\r\n\r\n");
  expect(chunks.body.skip(chunks.unread)).toBe(false);
});
