import { expect, test } from "bun:test";
import { uuidLength, writeUuid } from "./uuid.ts";

test("each is a random UUID of version 4, and another than those before", () => {
  const seen = new Set<string>();
  const target = Buffer.alloc(uuidLength);
  for (let count = 0; count < 1000; count++) {
    writeUuid(target);
    const text = target.toString("latin1");
    expect(text).toMatch(/^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/);
    seen.add(text);
  }
  expect(seen.size).toBe(1000);
});
