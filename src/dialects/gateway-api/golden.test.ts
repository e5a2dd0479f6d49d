import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { validateModel } from "../../model/validate.ts";
import { answerLine, conditionLine, readGolden, runGolden } from "./testing/golden.ts";

const folder = join(import.meta.dir, "testdata");

describe("golden cases", () => {
  for (const file of readdirSync(folder)
    .filter((name) => name.endsWith(".yaml"))
    .sort()) {
    const golden = readGolden(readFileSync(join(folder, file), "utf8"));
    test(`${file}: ${golden.about}`, async () => {
      const { world, model } = await runGolden(golden);
      expect(world.errors()).toEqual([]);
      expect(validateModel(model)).toEqual([]);
      expect((golden.requests ?? []).map((line) => answerLine(line, world, model))).toEqual([
        ...(golden.requests ?? []),
      ]);
      expect((golden.conditions ?? []).map((line) => conditionLine(line, world))).toEqual([
        ...(golden.conditions ?? []),
      ]);
      const findings = [...world.api.findings.values()].map((one) => `${one.severity} ${one.code}: ${one.message}`);
      expect(findings.sort()).toEqual([...(golden.findings ?? [])].sort());
      for (const update of world.api.statuses.values()) {
        for (const observed of JSON.stringify(update.status).matchAll(/"observedGeneration":([0-9]+)/g)) {
          expect(Number(observed[1])).toBe(update.generation);
        }
      }
    });
  }
});
