import { afterEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
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

  test("is replaced by another that is ready before it goes", async () => {
    const { supervisor, pidFile } = supervise(["sleep", "60"]);
    supervisor.start();
    const before = supervisor.state().pid!;
    const ready = Promise.withResolvers<void>();
    const replaced = supervisor.replace(() => ready.promise);
    const after = supervisor.state().pid!;
    expect(after).not.toBe(before);
    expect(processId(before)).toBeDefined();
    ready.resolve();
    await replaced;
    expect([processId(before), runningProcess(pidFile)?.pid, supervisor.state().restarts]).toEqual([
      undefined,
      after,
      0,
    ]);
  });

  test("stays when another does not become ready, if it is to be kept, and is watched on", async () => {
    const pids: number[] = [];
    const marks = mkdtempSync(join(tmpdir(), "fl-child-"));
    folders.push(marks);
    // The first runs; others end at once, until the mark is gone.
    const program = `[ -e ${marks}/one ] && exit 1; touch ${marks}/one; exec sleep 60`;
    const { supervisor, pidFile } = supervise(["sh", "-c", program], (pid) => pids.push(pid));
    supervisor.start();
    await until(() => existsSync(join(marks, "one")));
    const [before] = pids;
    expect(await supervisor.replace(() => new Promise(() => {}), { keep: true })).toBe(false);
    expect([supervisor.state().pid, runningProcess(pidFile)?.pid]).toEqual([before, before]);
    rmSync(join(marks, "one"));
    process.kill(before!, "SIGKILL");
    await until(() => supervisor.state().pid !== undefined && supervisor.state().pid !== before);
  });

  test("that was asked to end in another way gets no signal, until its patience is over", async () => {
    const marks = mkdtempSync(join(tmpdir(), "fl-child-"));
    folders.push(marks);
    const { supervisor } = supervise(["sh", "-c", `trap "touch ${marks}/term" TERM; while :; do sleep 0.01; done`]);
    supervisor.start();
    const before = supervisor.state().pid!;
    const asked: number[] = [];
    const end = (pid: number) => asked.push(pid) > 0;
    await supervisor.replace(() => Promise.resolve(), { patience: 100, end });
    expect(asked).toEqual([before]);
    expect(processId(before)).toBeUndefined();
    expect(existsSync(join(marks, "term"))).toBe(false);
  });

  test("makes room for the next when that cannot run beside it", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-child-"));
    folders.push(folder);
    const hold = `mkdir ${folder}/held || exit 1; trap "rmdir ${folder}/held; exit" TERM; while :; do sleep 0.01; done`;
    const { supervisor } = supervise(["sh", "-c", hold], () => {}, folder);
    supervisor.start();
    await until(() => existsSync(`${folder}/held`));
    const before = supervisor.state().pid!;
    await supervisor.replace(() => new Promise(() => {}));
    expect(processId(before)).toBeUndefined();
    await until(() => existsSync(`${folder}/held`) && supervisor.state().pid !== undefined);
    expect(supervisor.state().restarts).toBeGreaterThan(0);
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
