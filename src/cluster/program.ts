// Which program this is: the text that differs when another version of it is installed, or when its files were changed. What
// outlives the control process (`node/supervisor.ts`) may be an older one.

import { createHash } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import project from "../../package.json" with { type: "json" };

let known: string | undefined;

/** From names, sizes and times of the program's files: they are looked at once, and not read. */
export function programFingerprint(): string {
  if (known !== undefined) return known;
  const root = join(import.meta.dir, "..");
  const hash = createHash("sha256").update(`${project.version} ${Bun.version} ${root}\n`);
  const names = readdirSync(root, { recursive: true, encoding: "utf8" }).filter(
    (name) => name.endsWith(".ts") && !name.endsWith(".test.ts"),
  );
  for (const name of names.sort()) {
    const { size, mtimeMs } = statSync(join(root, name));
    hash.update(`${name} ${size} ${mtimeMs}\n`);
  }
  known = `${project.version}-${hash.digest("hex").slice(0, 16)}`;
  return known;
}
