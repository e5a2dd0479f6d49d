// Large answers of the admin interface: what is read is the JSON that was meant, made no faster than it is read.

import { expect, test } from "bun:test";
import { inPieces, listOfPieces, listPieces, objectPieces } from "./in-pieces.ts";

test("lists and objects are the JSON that they would be at once", async () => {
  const lists = [["a", listPieces([])] as const, ["b", listPieces([1, { c: "d" }])] as const];
  expect(await inPieces(objectPieces({ version: 3 }, lists)).json()).toEqual({ version: 3, a: [], b: [1, { c: "d" }] });
  expect(await inPieces(objectPieces({}, [["a", listPieces([1])]])).json()).toEqual({ a: [1] });
  expect(await inPieces(objectPieces({ x: null }, [])).json()).toEqual({ x: null });
  const nested = listOfPieces([[1, 2], []], (list) => objectPieces({ a: 1 }, [["b", listPieces(list)]]));
  expect(await inPieces(nested).json()).toEqual([
    { a: 1, b: [1, 2] },
    { a: 1, b: [] },
  ]);
});

test("what nobody reads is not made", async () => {
  let made = 0;
  const endless = function* () {
    for (;;) {
      made++;
      yield "x".repeat(1024);
    }
  };
  const reader = inPieces(endless()).body!.getReader();
  await reader.read();
  const soon = made;
  for (let turns = 0; turns < 20; turns++) await new Promise((resolve) => void setImmediate(resolve));
  // What was read, and what waits to be read.
  expect(made).toBeLessThanOrEqual(soon + 3 * 64);
  await reader.cancel();
});
