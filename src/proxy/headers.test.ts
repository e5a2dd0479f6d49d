import { expect, test } from "bun:test";
import fc from "fast-check";
import { changeHeaders } from "../model/header-change.ts";
import type { HeaderChange } from "../model/model.ts";
import { requestHeaders } from "./filters/header-change.ts";
import { HeaderBlock, Kind, kindSet } from "./headers.ts";
import { parseFields } from "./http1/fields.ts";
import { Outlet } from "./wire.ts";

/** A connection that keeps what it is given. */
class Sent extends Outlet {
  written = "";
  constructor() {
    super({
      write: (bytes, start, length) => {
        this.written += Buffer.from(bytes).latin1Slice(start, start + length);
        return length;
      },
      pause() {},
      resume() {},
      end() {},
      terminate() {},
    });
  }
  protected drained(): void {}
  expired(): void {}
}

function blockOf(fields: readonly (readonly [string, string])[]): HeaderBlock {
  const block = new HeaderBlock();
  const bytes = Buffer.from(`${fields.map(([name, value]) => `${name}: ${value}\r\n`).join("")}\r\n`, "latin1");
  expect(parseFields(bytes, 0, bytes.length, block)).toBe(bytes.length);
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
  const sent = new Sent();
  block.write(sent, kindSet(Kind.connection));
  sent.flush();
  expect(sent.written).toBe("X-A: 1\r\nx-b: 2\r\nx-d: 4\r\n");
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
        const { request } = requestHeaders.compile(
          { kind: "requestHeaders", from, change: one },
          {} as never,
          undefined,
        );
        request!({ headers: block } as never, {} as never);
      }
      expect(block.entries()).toEqual(wanted.map(([n, v]) => [n.toLowerCase(), v]));
    }),
  );
});

test("a value is compared in place, and as `get` has it where a field is repeated, dropped or added", () => {
  const block = new HeaderBlock();
  const cases: [string, string][] = [
    ["X-A: v2\r\n\r\n", "v2"],
    ["x-a: v2x\r\n\r\n", "v2"],
    ["x-a: v2\r\nx-a: v3\r\n\r\n", "v2,v3"],
    ["x-b: v2\r\n\r\n", "v2"],
    ["x-a: \r\n\r\n", ""],
  ];
  for (const [lines, wanted] of cases) {
    const bytes = Buffer.from(lines);
    block.clear();
    parseFields(bytes, 0, bytes.length, block);
    expect(block.is("x-a", wanted)).toBe(block.get("x-a") === wanted);
    expect(block.is("x-a", "other")).toBe(false);
    block.add("x-a", "v9");
    expect(block.is("x-a", wanted)).toBe(block.get("x-a") === wanted);
    expect(block.is("x-a", block.get("x-a")!)).toBe(true);
  }
});
