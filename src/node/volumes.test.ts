import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { writeVolume } from "./volumes.ts";

const file = (path: string, text: string, mode = 0o644) => ({ path, content: Buffer.from(text), mode });

test("a volume is written whole, and written anew as one step", () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-volume-"));
  writeVolume(folder, [file("a", "1"), file("dir/b", "2", 0o400)]);
  expect(readFileSync(join(folder, "dir/b"), "utf8")).toBe("2");
  expect(statSync(join(folder, "dir/b")).mode & 0o777).toBe(0o400);

  writeVolume(folder, [file("a", "3"), file("c", "4")]);
  expect([readFileSync(join(folder, "a"), "utf8"), readFileSync(join(folder, "c"), "utf8")]).toEqual(["3", "4"]);
  expect(existsSync(join(folder, "dir"))).toBe(false);
  // One version, its link, and one link a file: nothing of the version before.
  expect(
    readdirSync(folder)
      .filter((name) => !name.startsWith(".."))
      .sort(),
  ).toEqual(["a", "c"]);
  expect(readdirSync(folder).length).toBe(4);
  rmSync(folder, { recursive: true });
});
