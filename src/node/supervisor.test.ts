import { afterEach, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../base/clock.ts";
import { silentLogger } from "../base/log.ts";
import { processId, runningProcess } from "../base/process-id.ts";
import { Supervisor } from "./supervisor.ts";

const folders: string[] = [];
const running: Supervisor[] = [];
afterEach(async () => {
  await Promise.all(running.splice(0).map((one) => one.stop(100)));
  for (const folder of folders.splice(0)) rmSync(folder, { recursive: true });
});

function supervise(argv: readonly string[], onStart: (pid: number, adopted: boolean) => void = () => {}, at?: string) {
  const folder = at ?? mkdtempSync(join(tmpdir(), "fl-child-"));
  if (!at) folders.push(folder);
  const files = { logFile: join(folder, "log"), pidFile: join(folder, "pid") };
  const supervisor = new Supervisor(
    { name: "child", argv, ...files },
    { log: silentLogger, clock: systemClock, watchInterval: 10, onStart },
  );
  running.push(supervisor);
  return { supervisor, folder, ...files };
}

async function until(look: () => boolean): Promise<void> {
  while (!look()) await Bun.sleep(2);
}

describe("a supervised process", () => {
  test("is started anew, at once, when it was killed", async () => {
    const pids: number[] = [];
    const { supervisor } = supervise(["sleep", "60"], (pid) => pids.push(pid));
    supervisor.start();
    const killed = performance.now();
    process.kill(pids[0]!, "SIGKILL");
    await until(() => pids.length === 2);
    expect(performance.now() - killed).toBeLessThan(200);
    expect(supervisor.state()).toMatchObject({ pid: pids[1], restarts: 1, lastExit: "killed by SIGKILL" });
  });

  test("is found by the next supervisor, and watched by it", async () => {
    const first = supervise(["sleep", "60"]);
    first.supervisor.start();
    const { pid } = first.supervisor.state();
    first.supervisor.release();
    const starts: [number, boolean][] = [];
    const second = supervise(["sleep", "60"], (found, adopted) => starts.push([found, adopted]), first.folder);
    second.supervisor.start();
    expect(starts).toEqual([[pid!, true]]);
    process.kill(pid!, "SIGKILL");
    await until(() => starts.length === 2);
    expect(starts[1]?.[1]).toBe(false);
  });

  test("ends when it is told to, by force when it does not listen", async () => {
    const { supervisor, pidFile, logFile } = supervise([
      "sh",
      "-c",
      "trap '' TERM; echo up; while :; do sleep 0.01; done",
    ]);
    supervisor.start();
    const pid = supervisor.state().pid!;
    await until(() => readFileSync(logFile, "utf8") === "up\n");
    await supervisor.stop(50);
    expect(processId(pid)).toBeUndefined();
    expect(runningProcess(pidFile)).toBeUndefined();
  });

  test("is not taken for another one that has its number now", () => {
    const { pidFile } = supervise(["true"]);
    writeFileSync(pidFile, `${process.pid} 12345\n`);
    expect(runningProcess(pidFile)).toBeUndefined();
    writeFileSync(pidFile, `${process.pid} ${processId(process.pid)?.started}\n`);
    expect(runningProcess(pidFile)?.pid).toBe(process.pid);
  });
});
