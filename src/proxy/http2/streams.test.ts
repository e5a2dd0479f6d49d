import { expect, test } from "bun:test";
import type { Http2Stream } from "./stream.ts";
import { Streams } from "./streams.ts";

const stream = (id: number) => ({ id }) as Http2Stream;

test("streams are found by number while they are open, whatever order they end in", () => {
  const streams = new Streams();
  const open = new Set<number>();
  let random = 7;
  for (let id = 1; id < 2_000; id += 2) {
    streams.add(stream(id));
    open.add(id);
    random = (random * 1_103_515_245 + 12_345) & 0x7fffffff;
    if (open.size > 100 || random % 3 === 0) {
      const gone = [...open][random % open.size]!;
      streams.delete(gone);
      open.delete(gone);
    }
    expect(streams.size).toBe(open.size);
    for (const one of [id, id - 2, id - 200, id + 2, random % id, 0])
      expect(streams.get(one)?.id).toBe(open.has(one) ? one : undefined);
  }
  expect(streams.all().map(({ id }) => id)).toEqual([...open]);
  expect(streams.clear()).toHaveLength(open.size);
  expect(streams.size).toBe(0);
});

test("what is not there is deleted without harm", () => {
  const streams = new Streams();
  streams.delete(0);
  streams.add(stream(3));
  streams.delete(1);
  streams.delete(5);
  expect(streams.all().map(({ id }) => id)).toEqual([3]);
});
