// User-Mode Linux: a kernel as an ordinary process, with what this host's kernel lacks (IPVS). It boots the host's own files
// read-only in seconds, runs one script and halts. Debian: user-mode-linux (with its modules) and kmod.

import { existsSync, realpathSync } from "node:fs";
import { join } from "node:path";

export interface MachineRun {
  /** What the script reported, by step: lines `fl-uml: STEP JSON`. */
  readonly steps: ReadonlyMap<string, unknown>;
  /** Everything the machine printed, for messages. */
  readonly output: string;
  /** Whether the machine came up at all. */
  readonly booted: boolean;
}

const paths = `${process.env.PATH}:/usr/sbin:/sbin`;

/** Why no machine can run here; undefined when it can be tried. `tools` are programs that the script needs. */
export function cannotBoot(tools: readonly string[]): string | undefined {
  if (process.getuid?.() !== 0) return "needs root (the machine's root file system is the host's)";
  if (!existsSync("/usr/lib/uml/modules") || !Bun.which("linux.uml", { PATH: paths })) {
    return "needs User-Mode Linux (Debian: apt-get install user-mode-linux)";
  }
  for (const tool of ["modprobe", ...tools]) if (!Bun.which(tool, { PATH: paths })) return `needs ${tool}`;
  return undefined;
}

/** Boots, runs `script` with Bun, and resolves when the machine has halted; one that takes longer than `timeout` ms is killed. */
export async function runInMachine(script: string, timeout: number): Promise<MachineRun> {
  const root = realpathSync(join(import.meta.dir, "../.."));
  const child = Bun.spawn(
    [
      Bun.which("linux.uml", { PATH: paths })!,
      "mem=1024M",
      "root=/dev/root",
      "rootfstype=hostfs",
      "rootflags=/",
      "ro",
      `init=${join(import.meta.dir, "boot.sh")}`,
      "con=null",
      "con0=fd:0,fd:1",
      "quiet",
      `FL_ROOT=${root}`,
      `FL_BUN=${realpathSync(process.execPath)}`,
      `FL_SCRIPT=${realpathSync(script)}`,
    ],
    // A session of its own: the machine's processes are processes of the host, and end with their group.
    { stdin: "ignore", stdout: "pipe", stderr: "pipe", detached: true },
  );
  const timer = setTimeout(() => {
    try {
      process.kill(-child.pid, "SIGKILL");
    } catch {
      // It ended by itself at the same moment.
    }
  }, timeout);
  const [stdout, stderr] = await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()]);
  await child.exited;
  clearTimeout(timer);
  const output = `${stdout}${stderr}`.replaceAll("\r", "");
  const steps = new Map<string, unknown>();
  for (const [, step, value] of output.matchAll(/^fl-uml: ([^"[{\n]*?) (["[{].*|[0-9]+|true|false)$/gm)) {
    steps.set(step!, JSON.parse(value!));
  }
  return { steps, output, booted: /^fl-uml: up$/m.test(output) };
}
