// A proxy process that serves a model from files, with no cluster behind it: this process is its control process. A changed file
// becomes one update, and what did not change keeps its connections; a bad file is told, and what is served stays.

import { mkdtempSync, rmSync } from "node:fs";
import { stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Clock } from "../../base/clock.ts";
import type { Disposable } from "../../base/disposal.ts";
import { messageOf, UserError } from "../../base/errors.ts";
import type { Logger, LogLevel } from "../../base/log.ts";
import { createGraph } from "../../collections/graph.ts";
import { type Source, source } from "../../collections/source.ts";
import { Distribution, listenerStateSource } from "../../distribution/distribution.ts";
import { type ProxyServer, serveProxies } from "../../distribution/proxy-server.ts";
import { type Model, type ResourceOf, type ResourceType, resourceTypes } from "../../model/model.ts";
import { describeProvenance } from "../../model/provenance.ts";
import type { Rejection } from "../../model/wire.ts";
import type { ProxyStatus } from "../control-api.ts";
import { filesOf } from "../manifests.ts";
import { proxyStatuses } from "../proxy-status.ts";
import { staticScope } from "./model-shapes.ts";
import { type ReadModel, readModel } from "./read-model.ts";

export interface StaticProxyOptions {
  /** What it is called towards its control process, in logs and in `fairlead proxy status`. */
  readonly name: string;
  readonly paths: readonly string[];
  /** The admin socket; in a folder of its own unless given. */
  readonly admin?: string;
  readonly accessLog?: string;
  /** `json` (unless given) or `text`. */
  readonly accessLogFormat?: string;
  /** The proxy's own. */
  readonly zone?: string;
  readonly logLevel: LogLevel;
  /** Processes on the same ports; 1: one. */
  readonly workers: number;
  /** Milliseconds for what is in flight at the end. */
  readonly drain: number;
  readonly clock: Clock;
  readonly log: Logger;
  /** What a change of the files came to. Without a model nothing was taken; with one, all but what the problems name. */
  changed(problems: readonly string[], model?: Model): void;
  /** How it is, whenever that is another. */
  shown(status: ProxyStatus): void;
}

export interface StaticProxy {
  readonly admin: string;
  /** As it was read at the start. */
  readonly model: Model;
  /** Resolves with the exit code when the proxy has ended by itself or by {@link end}. */
  readonly ended: Promise<number>;
  /** Asks it to finish what is in flight; a second time cuts it. */
  end(): void;
}

type Sources = { readonly [T in ResourceType]: Source<ResourceOf[T]> };

/** Ends the proxy with this process, even when that is killed; where util-linux is missing, it serves on until it is ended. */
const together = Bun.which("setpriv") ? ["setpriv", "--pdeathsig", "TERM"] : [];
const program = [...together, process.execPath, join(import.meta.dir, "../../proxy/main.ts")];
/** Problems that one error lists; `--check` lists all. */
const maxProblems = 20;
/** Milliseconds between looks at the files, and at the proxy's processes. */
const lookInterval = 500;

/** Resolves when everything is in force. Rejects with a UserError when something is not, and nothing is left then. */
export async function startStaticProxy(options: StaticProxyOptions): Promise<StaticProxy> {
  const { clock, log, paths } = options;
  const marks = await marksOf(paths.includes("-") ? [] : await namedBy(paths, []));
  const first = await readModel(paths);
  if (first.problems.length > 0) {
    const more = first.problems.length - maxProblems;
    const told = [...first.problems.slice(0, maxProblems), ...(more > 0 ? [`… and ${more} more`] : [])];
    throw new UserError(told.join("\n"), { remedy: "Nothing was started." });
  }
  const folder = mkdtempSync(join(tmpdir(), "fairlead-proxy-"));
  const admin = options.admin ?? join(folder, "admin.sock");
  const control = join(folder, "control.sock");
  const graph = createGraph();
  const sources = Object.fromEntries(
    resourceTypes.map((type) => [type, source(type, { graph })]),
  ) as unknown as Sources;
  const distribution = new Distribution(sources, { listenerStates: listenerStateSource({ graph }), clock });
  const server = serveProxies({ path: control, distribution, clock, log });
  const child = Bun.spawn(
    [
      ...[...program, "--control", control, "--name", options.name, "--scopes", staticScope, "--admin", admin],
      ...["--drain", String(options.drain), "--log-level", options.logLevel, "--workers", String(options.workers)],
      ...(options.zone === undefined ? [] : ["--zone", options.zone]),
      ...(options.accessLog === undefined ? [] : ["--access-log", options.accessLog]),
      ...(options.accessLogFormat === undefined ? [] : ["--access-log-format", options.accessLogFormat]),
    ],
    { stdin: "ignore", stdout: "inherit", stderr: "inherit" },
  );
  let shown = "";
  const show = () => {
    const status = proxyStatuses(distribution.proxyStates()).at(-1);
    if (!status || JSON.stringify(status) === shown) return;
    shown = JSON.stringify(status);
    options.shown(status);
  };
  // A worker that was started anew is another process.
  const shows = clock.every(lookInterval, show);
  let follower: Disposable | undefined;
  let over = false;
  const ended = child.exited.then((code) => {
    over = true;
    follower?.dispose();
    shows.dispose();
    release(server, distribution, folder);
    return code;
  });
  let asked = false;
  const end = () => {
    // The first of several processes passes it on.
    child.kill(asked && options.workers === 1 ? "SIGKILL" : "SIGTERM");
    asked = true;
  };

  const apply = async (read: ReadModel): Promise<readonly string[]> => {
    await put(sources, read.model, distribution);
    const states = distribution.proxyStates();
    show();
    return [...new Set(states.flatMap(({ rejected }) => rejected.map((one) => inWords(one, read))))];
  };
  const begun = async () => {
    while (!over && distribution.proxyStates().length < options.workers)
      await new Promise<void>((resolve) => void clock.after(5, resolve));
    return await apply(first);
  };
  const refused = await Promise.race([begun(), ended.then((code) => code)]);
  if (typeof refused === "number") throw new UserError(`the proxy did not start (exit code ${refused})`);
  if (refused.length > 0) {
    end();
    await ended;
    throw new UserError(refused.join("\n"), { remedy: "Nothing is served." });
  }
  // Files that Secrets name were read just now.
  const known = new Map([...(await marksOf(first.files)), ...marks]);
  follower = follow(options, { marks: known, read: first }, async (read) => {
    if (read.problems.length > 0) options.changed(read.problems);
    else options.changed(await apply(read), read.model);
  });
  return { admin, model: first.model, ended, end };
}

/** Makes the sources hold exactly the model, in one step; resolves when the proxy has answered. */
async function put(sources: Sources, model: Model, distribution: Distribution): Promise<void> {
  const concerned = resourceTypes.flatMap((type) =>
    [...new Set([...model[type].keys(), ...sources[type].keys()])].map((name) => ({ type, name })),
  );
  sources.listeners.batch(() => {
    for (const type of resourceTypes) replace(sources[type] as Source<unknown>, model[type]);
  });
  await distribution.barrier(concerned);
}

function replace<V>(into: Source<V>, from: ReadonlyMap<string, V>): void {
  for (const name of [...into.keys()]) if (!from.has(name)) into.delete(name);
  for (const [name, value] of from) into.set(name, value);
}

function inWords({ resource, name, reason, from }: Rejection, { locate }: ReadModel): string {
  if (!from) return `${resource} ${name}: ${reason}`;
  const { file, line } = locate(from);
  return `${file === undefined ? "" : `${file}:${line}: `}${describeProvenance(from)}: ${reason}`;
}

/** Files with a text that differs when one of them is another. */
type Marks = ReadonlyMap<string, string>;

/** Reads the files anew when one of them, or one that a Secret names, is another. Standard input is read once. */
function follow(
  { paths, clock, changed }: StaticProxyOptions,
  first: { readonly marks: Marks; readonly read: ReadModel },
  take: (read: ReadModel) => Promise<void>,
): Disposable {
  if (paths.includes("-")) return { dispose() {} };
  let { files } = first.read;
  let before: Marks = first.marks;
  let unreadable: string | undefined;
  let busy = false;
  const look = async () => {
    const now = await marksOf(await namedBy(paths, files));
    if (unreadable === undefined && same(before, now)) return;
    const read = await readModel(paths);
    unreadable = undefined;
    files = read.files;
    // What was there before the reading: a change in its midst is found the next time.
    const all = await marksOf(await namedBy(paths, files));
    before = new Map([...all].map(([file, mark]) => [file, now.get(file) ?? mark]));
    await take(read);
  };
  return clock.every(lookInterval, () => {
    if (busy) return;
    busy = true;
    look()
      .catch((error) => {
        const problem = messageOf(error);
        if (problem !== unreadable) changed([problem]);
        unreadable = problem;
      })
      .finally(() => {
        busy = false;
      });
  });
}

async function namedBy(paths: readonly string[], files: readonly string[]): Promise<ReadonlySet<string>> {
  return new Set([...(await Promise.all(paths.map(filesOf))).flat(), ...files]);
}

async function marksOf(files: Iterable<string>): Promise<Marks> {
  const mark = async (file: string): Promise<[string, string]> => {
    const found = await stat(file).catch(() => undefined);
    return [file, `${found?.mtimeMs} ${found?.size} ${found?.ino}`];
  };
  return new Map(await Promise.all([...files].map(mark)));
}

function same(a: Marks, b: Marks): boolean {
  return a.size === b.size && [...a].every(([file, mark]) => b.get(file) === mark);
}

function release(server: ProxyServer, distribution: Distribution, folder: string): void {
  server.dispose();
  distribution.dispose();
  rmSync(folder, { recursive: true, force: true });
}
