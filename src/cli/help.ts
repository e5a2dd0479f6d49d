// The texts of `--help`: made from the commands themselves, so that they cannot say something else than what is parsed.

import { type Command, commonOptions, type Option } from "./command.ts";

/** The help of one command. */
export function commandHelp(command: Command): string {
  const options = Object.entries({ ...command.options, ...commonOptions }).map(([name, option]) => [
    spell(name, option),
    option.help,
  ]);
  const width = Math.max(...options.map(([left]) => left!.length));
  const lines = [command.summary, ""];
  if (command.description) lines.push(command.description, "");
  lines.push("Usage:", `  fairlead ${command.usage}`, "");
  lines.push("Examples:");
  for (const [line, what] of command.examples) lines.push(`  # ${what}`, `  ${line}`, "");
  lines.push("Options:");
  for (const [left, text] of options) {
    const [first, ...more] = wrap(text!, 118 - width - 5);
    lines.push(`  ${left!.padEnd(width)}   ${first}`);
    for (const line of more) lines.push(`  ${" ".repeat(width)}   ${line}`);
  }
  return lines.join("\n");
}

/** The help of `fairlead` alone. */
export function overview(commands: readonly Pick<Command, "name" | "summary">[]): string {
  const width = Math.max(...commands.map(({ name }) => name.length));
  return [
    "Fairlead runs Kubernetes service networking on one machine: Services, DNS and Gateway API with real addresses,",
    "kernel rules and proxies, and says why a request went where it went.",
    "",
    "Usage:",
    "  fairlead COMMAND [options]",
    "",
    "Commands:",
    ...commands.map(({ name, summary }) => `  ${name.padEnd(width)}   ${summary}`),
    "",
    "Start with:",
    "  fairlead up -f examples/shop",
    "",
    "Each command has its own help with examples: fairlead COMMAND --help",
  ].join("\n");
}

function spell(name: string, option: Option): string {
  const long = option.type === "string" ? `--${name} ${option.value ?? "VALUE"}` : `--${name}`;
  return option.short ? `-${option.short}, ${long}` : `    ${long}`;
}

function wrap(text: string, width: number): string[] {
  const lines: string[] = [];
  let line = "";
  for (const word of text.split(" ")) {
    if (line && line.length + 1 + word.length > width) {
      lines.push(line);
      line = word;
    } else line = line ? `${line} ${word}` : word;
  }
  return [...lines, line];
}
