import { expect, test } from "bun:test";
import { OwnEnds } from "./own-ends.ts";

const to = (address: string, port: number) => () => ({ address, port });

test("a client is the proxy itself when it speaks from one of its ends, to where that leads", () => {
  const ends = new OwnEnds();
  const end = ends.add("127.0.0.1", 40_000, { address: "127.0.0.1", port: 80 });
  expect(ends.has("127.0.0.1", 40_000, to("127.0.0.1", 80))).toBeTrue();
  expect(ends.has("::ffff:127.0.0.1", 40_000, to("::ffff:127.0.0.1", 80))).toBeTrue();
  expect(ends.has("127.0.0.2", 40_000, to("127.0.0.1", 80))).toBeFalse();
  ends.delete(end);
  expect(ends.has("127.0.0.1", 40_000, to("127.0.0.1", 80))).toBeFalse();
});

test("a client of the same machine may have the same port towards another place, and so may another end", () => {
  const ends = new OwnEnds();
  const one = ends.add("127.0.0.1", 40_000, { address: "127.0.0.1", port: 80 });
  expect(ends.has("127.0.0.1", 40_000, to("127.0.0.1", 8080))).toBeFalse();
  const other = ends.add("127.0.0.1", 40_000, { address: "127.0.0.1", port: 8080 });
  expect(ends.has("127.0.0.1", 40_000, to("127.0.0.1", 8080))).toBeTrue();
  ends.delete(one);
  ends.delete(one);
  expect(ends.has("127.0.0.1", 40_000, to("127.0.0.1", 80))).toBeFalse();
  expect(ends.has("127.0.0.1", 40_000, to("127.0.0.1", 8080))).toBeTrue();
  ends.delete(other);
  expect(ends.has("127.0.0.1", 40_000)).toBeFalse();
});

test("a port of datagrams is nobody else's", () => {
  const ends = new OwnEnds();
  ends.add("127.0.0.1", 40_000);
  expect(ends.has("127.0.0.1", 40_000)).toBeTrue();
  expect(ends.has("127.0.0.1", 40_001)).toBeFalse();
});
