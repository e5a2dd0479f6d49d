import { expect, test } from "bun:test";
import { suggestedName } from "./running.ts";

test("a proxy by files is called after its first file or folder", () => {
  const names = ["conf/shop.yaml", "/etc/edge.d", "a b.json", "-", "..", "x/.hidden.yml", "y".repeat(60)];
  expect(names.map(suggestedName)).toEqual([...["shop", "edge", "a-b", "static", "static", "hidden", "y".repeat(40)]]);
});
