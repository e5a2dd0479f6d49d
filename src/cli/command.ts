// What a command is, and how its words become options. One file a command; `main.ts` finds them by name.

import { parseArgs } from "node:util";
import { messageOf, UserError } from "../base/errors.ts";

/** One option of a command, shown in its help as it is parsed. */
export interface Option {
  readonly type: "string" | "boolean";
  readonly short?: string;
  readonly multiple?: boolean;
  /** The name of the value in the help: FILE, NAME. */
  readonly value?: string;
  readonly help: string;
}

export interface Command {
  readonly name: string;
  /** One line for the list of commands. */
  readonly summary: string;
  /** After `fairlead `: `explain METHOD URL [options]`. */
  readonly usage: string;
  readonly description?: string;
  readonly options: Readonly<Record<string, Option>>;
  /** Command lines with what they do. */
  readonly examples: readonly (readonly [string, string])[];
  /** Words after `--` are handed over as they are. */
  readonly takesCommand?: boolean;
  /** Returns the exit code. */
  run(words: Words): Promise<number>;
}

/** A parsed command line. */
export class Words {
  readonly positionals: readonly string[];
  /** What came after `--`, for commands that take one. */
  readonly rest: readonly string[];
  readonly #values: Readonly<Record<string, unknown>>;

  constructor(values: Readonly<Record<string, unknown>>, positionals: readonly string[], rest: readonly string[]) {
    this.#values = values;
    this.positionals = positionals;
    this.rest = rest;
  }

  text(name: string): string | undefined {
    return this.#values[name] as string | undefined;
  }

  texts(name: string): readonly string[] {
    return (this.#values[name] as string[] | undefined) ?? [];
  }

  flag(name: string): boolean {
    return this.#values[name] === true;
  }
}

/** Options that every command has. */
export const commonOptions: Readonly<Record<string, Option>> = {
  help: { type: "boolean", short: "h", help: "Show this help." },
};

/** The option that names a stack. */
export const nameOption: Option = { type: "string", value: "NAME", help: 'The stack\'s name. Default: "default".' };

/** Parses the words after the command's name. Throws a UserError (exit code 2) that names the option and what is near it. */
export function parseWords(command: Command, argv: readonly string[]): Words {
  const end = command.takesCommand ? argv.indexOf("--") : -1;
  const own = end < 0 ? argv : argv.slice(0, end);
  const rest = end < 0 ? [] : argv.slice(end + 1);
  const options = { ...command.options, ...commonOptions };
  const known: Record<string, { type: "string" | "boolean"; short?: string; multiple?: boolean }> = {};
  for (const [name, { type, short, multiple }] of Object.entries(options)) {
    known[name] = { type, ...(short ? { short } : {}), ...(multiple ? { multiple } : {}) };
  }
  try {
    const { values, positionals } = parseArgs({ args: [...own], options: known, allowPositionals: true, strict: true });
    return new Words(values, positionals, rest);
  } catch (error) {
    const wrong = own.find((word) => word.startsWith("--") && !(word.slice(2).split("=")[0]! in options));
    const near = wrong ? nearest(wrong.slice(2).split("=")[0]!, Object.keys(options)) : undefined;
    throw new UserError(wrong ? `${command.name} has no option ${wrong}` : firstSentence(messageOf(error)), {
      remedy: near ? `Did you mean --${near}?` : `See: fairlead ${command.name} --help`,
      exitCode: 2,
    });
  }
}

/** The word of `candidates` that differs least from `word`, if by at most a third of its letters (Levenshtein). */
export function nearest(word: string, candidates: readonly string[]): string | undefined {
  let best: { word: string; distance: number } | undefined;
  for (const candidate of candidates) {
    const distance = editDistance(word, candidate);
    if (distance <= Math.max(1, Math.floor(candidate.length / 3)) && (!best || distance < best.distance)) {
      best = { word: candidate, distance };
    }
  }
  return best?.word;
}

function editDistance(a: string, b: string): number {
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      next.push(Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1)));
    }
    row = next;
  }
  return row[b.length]!;
}

function firstSentence(text: string): string {
  return text.split(/\. |\n/)[0]!;
}
