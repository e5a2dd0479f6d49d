// Every file of examples/policies does what its comment promises: the commands of the comment are run as they stand there, but on a
// loopback address and in a folder of their own, so that the ports are free. Needs no privileges.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";

const repository = join(import.meta.dir, "../..");
const names = readdirSync(join(repository, "examples/policies"))
  .filter((name) => name.endsWith(".yaml"))
  .sort();
/** Milliseconds until an example must serve, and until a probe must have answered. */
const patience = 30_000;

interface Probe {
  readonly command: string;
  readonly answers: string[];
  readonly never: string[];
}

interface Example {
  readonly prepare: string[];
  run: string;
  readonly probes: Probe[];
}

/** The comment that a file begins with. */
function parseComment(text: string): Example {
  const example: Example = { prepare: [], run: "", probes: [] };
  for (const line of text.split("\n")) {
    if (!line.startsWith("#")) break;
    const command = /^# {3}(\S.*)$/.exec(line)?.[1];
    const [, what, fragment = ""] = /^# (answers|never) (.*)$/.exec(line) ?? [];
    if (command?.startsWith("bin/fairlead proxy run ")) example.run = command;
    else if (command !== undefined && example.run === "") example.prepare.push(command);
    else if (command !== undefined) example.probes.push({ command, answers: [], never: [] });
    else if (what !== undefined) example.probes.at(-1)![what as "answers" | "never"].push(fragment);
  }
  return example;
}

let folder: string;

beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "fl-t-examples-"));
  mkdirSync(join(folder, "examples"));
  cpSync(join(repository, "examples/policies"), join(folder, "examples/policies"), { recursive: true });
  symlinkSync(join(repository, "bin"), join(folder, "bin"));
});

afterAll(() => rmSync(folder, { recursive: true }));

/** Runs a line as a shell would; what it printed, on either stream. */
async function shell(line: string): Promise<string> {
  const process = Bun.spawn(["bash", "-c", `exec 2>&1; ${line}`], { cwd: folder, stdin: "ignore", stdout: "pipe" });
  return await new Response(process.stdout).text();
}

async function started(process: Subprocess<"ignore", "pipe", "pipe">): Promise<void> {
  let printed = "";
  const reader = process.stdout.getReader();
  while (!/^ready: /m.test(printed)) {
    const { done, value } = await reader.read();
    if (done) throw new Error(`it did not start: ${printed}${await new Response(process.stderr).text()}`);
    printed += Buffer.from(value).toString();
  }
  reader.releaseLock();
}

describe("an example of a policy", () => {
  test("has a comment with a command and what it answers", () => {
    expect(names.length).toBeGreaterThan(30);
    for (const name of names) {
      const { run, probes } = parseComment(readFileSync(join(repository, "examples/policies", name), "utf8"));
      expect(run).toStartWith(`bin/fairlead proxy run -f examples/policies/${name}`);
      expect(probes.length).toBeGreaterThan(0);
      for (const { answers } of probes) expect(answers.length).toBeGreaterThan(0);
    }
  });

  test.each(names)(
    "%s answers as its comment says",
    async (name) => {
      const file = join(folder, "examples/policies", name);
      const text = readFileSync(file, "utf8");
      const own = join(folder, name);
      mkdirSync(own);
      const { prepare, run, probes } = parseComment(text);
      const byte = () => 2 + Math.floor(Math.random() * 250);
      const address = `127.${byte()}.${byte()}.${byte()}`;
      const here = (line: string) =>
        line
          .replaceAll("127.0.0.1", address)
          .replaceAll("/tmp/", `${own}/`)
          .replace(/(--echo )(\S+)/, (_, option, ports) => option + ports.replace(/\d+/g, `${address}:$&`));
      writeFileSync(file, here(text).replace(/^port: /gm, `address: ${address}\n$&`));
      for (const line of prepare) await shell(here(line));
      const process = Bun.spawn(["bash", "-c", `exec ${here(run)}`], {
        ...{ cwd: folder, stdin: "ignore", stdout: "pipe", stderr: "pipe" },
      });
      try {
        await started(process);
        for (const { command, answers, never } of probes) {
          // What is logged, copied or found out beside the requests comes when it comes.
          const until = Date.now() + 10_000;
          let output = await shell(here(command));
          while (!answers.every((one) => output.includes(one)) && Date.now() < until) {
            await Bun.sleep(200);
            output = await shell(here(command));
          }
          for (const one of answers) expect(output).toContain(one);
          for (const one of never) expect(output).not.toContain(one);
        }
        process.kill("SIGTERM");
        const said = await new Response(process.stderr).text();
        expect({ said, code: await process.exited }).toMatchObject({ code: 0 });
      } finally {
        process.kill("SIGKILL");
      }
    },
    2 * patience,
  );
});
