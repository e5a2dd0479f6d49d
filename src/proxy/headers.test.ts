import { expect, test } from "bun:test";
import fc from "fast-check";
import { changeHeaders } from "../model/header-change.ts";
import type { HeaderChange } from "../model/model.ts";
import { requestHeaders } from "./filters/header-change.ts";
import { HeaderBlock, kindSet } from "./headers.ts";
import { parseFields } from "./http1/fields.ts";

function blockOf(fields: readonly (readonly [string, string])[]): HeaderBlock {
  const block = new HeaderBlock();
  const text = `${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`;
  const bytes = Buffer.from(text, "latin1");
  expect(parseFields(bytes, 0, bytes.length, 0, block)).toBe(text.length);
  block.text = text;
  return block;
}

test("names are found in any case and values of one name are joined", () => {
  const block = blockOf([
    ["X-A", "1"],
    ["x-b", "2"],
    ["x-a", "3"],
  ]);
  expect(block.get("x-a")).toBe("1,3");
  expect(block.get("x-c")).toBeUndefined();
});

test("what is dropped is not written, what is added is", () => {
  const block = blockOf([
    ["X-A", "1"],
    ["Connection", "close"],
    ["x-b", "2"],
    ["x-c", "3"],
  ]);
  block.remove("x-c");
  block.add("x-d", "4");
  expect(block.lines(kindSet(3))).toBe("X-A: 1\r\nx-b: 2\r\nx-d: 4\r\n");
});

test("header filters mean what the model says", () => {
  const name = fc.constantFrom("x-a", "x-b", "x-c");
  const value = fc.constantFrom("1", "2", "3");
  const field = fc.record({ name, value });
  const change: fc.Arbitrary<HeaderChange> = fc.record({
    set: fc.array(field, { maxLength: 2 }),
    add: fc.array(field, { maxLength: 2 }),
    remove: fc.array(name, { maxLength: 1 }),
  });
  const given = fc.array(fc.tuple(fc.constantFrom("X-A", "x-a", "x-B", "x-z"), value), { maxLength: 5 });
  fc.assert(
    fc.property(given, fc.array(change, { maxLength: 2 }), (fields, changes) => {
      const block = blockOf(fields);
      let wanted: readonly (readonly [string, string])[] = fields;
      for (const one of changes) {
        wanted = changeHeaders(wanted, one);
        const from = { kind: "Test", name: "test", field: "" };
        const { request } = requestHeaders.compile({ kind: "requestHeaders", from, change: one }, undefined);
        request!({ headers: block } as never, { path: "/" });
      }
      expect(block.entries()).toEqual(wanted.map(([n, v]) => [n.toLowerCase(), v]));
    }),
  );
});
