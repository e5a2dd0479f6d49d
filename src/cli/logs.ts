// `fairlead logs`: what the stack's own processes wrote. Pods' logs are kubectl's matter.

import { existsSync, readdirSync, statSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../base/errors.ts";
import { defaultStackName, readSettings, stackPaths } from "../cluster/stack.ts";
import { type Command, nameOption } from "./command.ts";
import { print } from "./terminal.ts";

/** How much of the end of each log is shown, in bytes. */
const tailBytes = 64 * 1024;

export const command: Command = {
  name: "logs",
  summary: "Show the logs of the stack's own processes",
  usage: "logs [COMPONENT] [--name NAME]",
  options: {
    follow: { type: "boolean", short: "f", help: "Go on printing what is written, until interrupted." },
    name: nameOption,
  },
  examples: [
    ["fairlead logs", "The end of every log"],
    ["fairlead logs control -f", "The control process, as it writes"],
  ],
  async run(words) {
    const name = words.text("name") ?? defaultStackName;
    const { logs } = stackPaths(name);
    if (!readSettings(name) || !existsSync(logs))
      throw new UserError(`there is no stack "${name}"`, { remedy: "Start one with: fairlead up" });
    const components = readdirSync(logs)
      .filter((file) => file.endsWith(".log"))
      .map((file) => file.slice(0, -4))
      .sort();
    const wanted = words.positionals[0];
    if (wanted !== undefined && !components.includes(wanted)) {
      throw new UserError(`there is no component "${wanted}"`, {
        remedy: `There are: ${components.join(", ")}`,
        exitCode: 2,
      });
    }
    const shown = wanted === undefined ? components : [wanted];
    for (const component of shown) {
      if (shown.length > 1) print(`==> ${component} <==`);
      await printFrom(join(logs, `${component}.log`), words.flag("follow") && shown.length === 1);
    }
    return 0;
  },
};

async function printFrom(path: string, follow: boolean): Promise<void> {
  const file = await open(path);
  let at = Math.max(0, statSync(path).size - tailBytes);
  const buffer = Buffer.alloc(tailBytes);
  for (;;) {
    const { bytesRead } = await file.read(buffer, 0, buffer.length, at);
    process.stdout.write(buffer.subarray(0, bytesRead));
    at += bytesRead;
    if (bytesRead > 0) continue;
    if (!follow) break;
    await Bun.sleep(200);
  }
  await file.close();
}
