// The entry of `fairlead`: finds the command, parses its words, runs it, and turns whatever goes wrong into a sentence and an
// exit code (0 done, 1 failed, 2 used wrongly). Commands are loaded one by one, so that each starts fast.

import { messageOf, UserError } from "../base/errors.ts";
import { type Command, nearest, parseWords } from "./command.ts";
import { commandHelp, overview } from "./help.ts";
import { print, printError, red } from "./terminal.ts";

const commands: Readonly<Record<string, () => Promise<{ command: Command }>>> = {
  up: () => import("./up.ts"),
  down: () => import("./down.ts"),
  status: () => import("./status.ts"),
  explain: () => import("./explain.ts"),
  rules: () => import("./rules.ts"),
  proxy: () => import("./proxy.ts"),
  "proxy run": () => import("./proxy-run.ts"),
  "proxy explain": () => import("./proxy-explain.ts"),
  dns: () => import("./dns.ts"),
  apply: () => import("./apply.ts"),
  get: () => import("./get.ts"),
  delete: () => import("./delete.ts"),
  exec: () => import("./exec.ts"),
  logs: () => import("./logs.ts"),
  kubeconfig: () => import("./kubeconfig.ts"),
  version: () => import("./version.ts"),
};

async function main(argv: readonly string[]): Promise<number> {
  // A command's name has one word or two.
  const two = Object.hasOwn(commands, argv.slice(0, 2).join(" ")) && argv.length > 1;
  const name = two ? argv.slice(0, 2).join(" ") : argv[0];
  const words = argv.slice(two ? 2 : 1);
  if (name === undefined || name === "help" || name === "--help" || name === "-h") {
    const wanted = name === "help" ? words.join(" ") : "";
    if (wanted !== "") print(commandHelp(await find(wanted)));
    else print(overview(await Promise.all(Object.keys(commands).map(find))));
    return 0;
  }
  if (name === "--version") return main(["version"]);
  const command = await find(name);
  const parsed = parseWords(command, words);
  if (parsed.flag("help")) {
    print(commandHelp(command));
    return 0;
  }
  return command.run(parsed);
}

async function find(name: string): Promise<Command> {
  const load = Object.hasOwn(commands, name) ? commands[name] : undefined;
  if (load) return (await load()).command;
  const near = nearest(name, Object.keys(commands));
  throw new UserError(`there is no command "${name}"`, {
    remedy: near ? `Did you mean "fairlead ${near}"?` : "See: fairlead --help",
    exitCode: 2,
  });
}

/** Prints what went wrong and gives the exit code for it. */
function report(error: unknown): number {
  printError(`${red("error:")} ${messageOf(error)}`);
  if (error instanceof UserError) {
    if (error.remedy) printError(error.remedy);
    return error.exitCode;
  }
  if (process.env.FAIRLEAD_DEBUG && error instanceof Error) printError(error.stack ?? "");
  return 1;
}

process.on("SIGPIPE", () => process.exit(0));
process.exitCode = await main(process.argv.slice(2)).catch(report);
