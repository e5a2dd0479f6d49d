import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { LineSplitter, parseLine, showLine } from "./log-lines.ts";
import { tailOffset } from "./pod-logs.ts";

test("a line of a CRI file is shown with or without its own time, and left out when it is too old", () => {
  const line = parseLine("2026-01-02T03:04:05.000000000Z stdout F GET / 200", "cri", "never");
  expect(showLine(line, { timestamps: false })).toBe("GET / 200\n");
  expect(showLine(line, { timestamps: true })).toBe("2026-01-02T03:04:05.000000000Z GET / 200\n");
  expect(showLine(line, { timestamps: false, since: Date.UTC(2026, 0, 3) })).toBeUndefined();
});

test("lines that chunks cut are put together, also within a character", () => {
  const splitter = new LineSplitter();
  const bytes = Buffer.from("grün\nrest");
  expect(splitter.push(bytes.subarray(0, 3))).toEqual([]);
  expect(splitter.push(bytes.subarray(3))).toEqual(["grün"]);
  expect(splitter.rest()).toBe("rest");
});

test("the last lines of a file are found from its end", () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-log-"));
  const file = join(folder, "0.log");
  const lines = Array.from({ length: 20_000 }, (_, at) => `line ${at}\n`);
  writeFileSync(file, lines.join(""));
  const lengthOf = (count: number) => lines.slice(-count).join("").length;
  const size = lines.join("").length;
  expect(size - tailOffset(file, 3)).toBe(lengthOf(3));
  expect(size - tailOffset(file, 15_000)).toBe(lengthOf(15_000));
  expect(tailOffset(file, 50_000)).toBe(0);
  rmSync(folder, { recursive: true });
});
