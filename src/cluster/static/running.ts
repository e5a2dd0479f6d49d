// Which proxies by files run on this machine, for `fairlead proxy status` and its like: an entry for each in the runtime folder,
// written by the process that runs it. An entry whose process is gone is taken away by who finds it.

import { linkSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { UserError } from "../../base/errors.ts";
import { isRunning, type ProcessId, processId } from "../../base/process-id.ts";
import type { ProxyStatus } from "../control-api.ts";
import { makeRuntimeHome, runtimeHome } from "../stack.ts";

interface Entry {
  /** The process that runs the proxy. */
  readonly run: ProcessId;
  /** Not set until it serves. */
  readonly proxy?: ProxyStatus;
}

export interface Registration {
  readonly name: string;
  /** What is shown of it from now on. */
  set(proxy: ProxyStatus): void;
  remove(): void;
}

/** A stack's name does not begin with a dot. */
const folder = (): string => join(runtimeHome(), ".proxies");
/** Of one name that was not chosen. */
const most = 1_000;

/**
 * Takes a name: `chosen`, or the first free one of those that the first of `paths` suggests. Throws a UserError when the chosen one
 * cannot be a name, or belongs to a proxy that runs.
 */
export function register(chosen: string | undefined, paths: readonly string[]): Registration {
  makeRuntimeHome();
  const home = folder();
  mkdirSync(home, { recursive: true, mode: 0o700 });
  const run = processId(process.pid)!;
  const take = (name: string): boolean => {
    const file = fileOf(home, name);
    const beside = `${file}.${process.pid}`;
    writeFileSync(beside, JSON.stringify({ run } satisfies Entry), { mode: 0o600 });
    try {
      // Read, it is removed where its process is gone.
      read(file);
      linkSync(beside, file);
      return true;
    } catch (error) {
      if ((error as { code?: string }).code === "EEXIST") return false;
      throw error;
    } finally {
      rmSync(beside, { force: true });
    }
  };
  const name = chosen === undefined ? firstFree(suggestedName(paths[0]!), take) : checkName(chosen);
  if (chosen !== undefined && !take(name)) {
    throw new UserError(`a proxy "${name}" runs already`, { remedy: "Choose another --name.", exitCode: 2 });
  }
  const file = fileOf(home, name);
  return {
    name,
    set(proxy) {
      writeFileSync(`${file}.new`, JSON.stringify({ run, proxy } satisfies Entry), { mode: 0o600 });
      renameSync(`${file}.new`, file);
    },
    remove: () => rmSync(file, { force: true }),
  };
}

/** Those that serve, sorted by name. */
export function runningProxies(): ProxyStatus[] {
  const home = folder();
  let files: string[];
  try {
    files = readdirSync(home);
  } catch (error) {
    if ((error as { code?: string }).code === "ENOENT") return [];
    throw error;
  }
  return files
    .filter((file) => file.endsWith(".json"))
    .sort()
    .flatMap((file) => read(join(home, file))?.proxy ?? []);
}

/** What a file or folder is called, without its ending; `shop` of `conf/shop.yaml`. */
export function suggestedName(path: string): string {
  const name = basename(path)
    .replace(/\.(ya?ml|json|d)$/, "")
    .replace(/[^A-Za-z0-9._-]/g, "-")
    .replace(/^[.-]+/, "");
  return name.slice(0, 40) || "static";
}

function firstFree(name: string, take: (name: string) => boolean): string {
  for (let number = 1; number <= most; number++) {
    const one = number === 1 ? name : `${name}-${number}`;
    if (take(one)) return one;
  }
  throw new UserError(`too many proxies are called "${name}"`, { remedy: "Choose another --name." });
}

function checkName(name: string): string {
  if (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(name)) return name;
  throw new UserError(`--name ${name}: cannot name a proxy`, {
    remedy: "Use up to 63 letters, digits, dots, dashes and underscores, beginning with a letter or digit.",
    exitCode: 2,
  });
}

function fileOf(home: string, name: string): string {
  return join(home, `${name}.json`);
}

/** Undefined where there is none any more. */
function read(file: string): Entry | undefined {
  try {
    const entry = JSON.parse(readFileSync(file, "utf8")) as Entry;
    if (isRunning(entry.run)) return entry;
    rmSync(file, { force: true });
  } catch {
    // Gone just now, or not ours: there is nothing to be shown.
  }
  return undefined;
}
