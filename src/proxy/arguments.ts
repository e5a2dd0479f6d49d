// The proxy's command line. It is started by Fairlead's other programs, not by people, so it is small and strict.

import { UserError } from "../base/errors.ts";
import type { LogLevel } from "../base/log.ts";
import { mostSockets } from "../model/hand-over.ts";
import { usualMemory } from "./overload.ts";
import type { ProxyOptions, WorkerPlace } from "./proxy.ts";
import { defaultJsonFormat, defaultTextFormat } from "./telemetry/default-formats.ts";

export const usage = `usage: proxy --control SOCKET --name NAME --scopes SCOPE[,SCOPE…] --admin SOCKET
             [--program NAME] [--zone ZONE] [--state FILE] [--access-log FILE]
             [--access-log-format json|text] [--max-connections N]
             [--max-requests N] [--max-memory BYTES] [--drain MILLISECONDS] [--log-level LEVEL] [--workers N]
             [--sockets N]`;

/** Of one composition. */
const mostWorkers = 256;

export interface Arguments extends ProxyOptions {
  /** Milliseconds that a SIGTERM leaves to what is in flight. */
  readonly drain: number;
  readonly logLevel: LogLevel;
  /** Processes on the same ports; 1: this one alone. */
  readonly workers: number;
  readonly sockets: number;
}

const known = new Set([
  "control",
  "name",
  "scopes",
  "admin",
  "program",
  "zone",
  "state",
  "access-log",
  "access-log-format",
  "max-connections",
  "max-requests",
  "max-memory",
  "drain",
  "log-level",
  "workers",
  "worker",
  "sockets",
]);

/** Throws a UserError for anything that is not understood. */
export function parseArguments(args: readonly string[]): Arguments {
  const values = new Map<string, string>();
  for (let index = 0; index < args.length; index += 2) {
    const name = args[index]!.startsWith("--") ? args[index]!.slice(2) : "";
    const value = args[index + 1];
    if (!known.has(name)) throw wrong(`unknown argument ${args[index]}`);
    if (value === undefined || value === "") throw wrong(`--${name} needs a value`);
    values.set(name, value);
  }
  const required = (name: string) => {
    const value = values.get(name);
    if (value === undefined) throw wrong(`--${name} is missing`);
    return value;
  };
  const number = (name: string, otherwise: number) => {
    const value = Number(values.get(name) ?? otherwise);
    if (!Number.isInteger(value) || value < 0) throw wrong(`--${name} must be a whole number`);
    return value;
  };
  const level = values.get("log-level") ?? "info";
  if (!["debug", "info", "warn", "error"].includes(level)) throw wrong("--log-level is debug, info, warn or error");
  const optional = (name: string, as: "program" | "zone" | "state") =>
    values.has(name) ? { [as]: values.get(name)! } : {};
  const accessLog = values.get("access-log");
  const logFormat = values.get("access-log-format") ?? "json";
  if (logFormat !== "json" && logFormat !== "text") throw wrong("--access-log-format is json or text");
  const format = logFormat === "json" ? { json: defaultJsonFormat } : { text: defaultTextFormat };
  const workers = number("workers", 1);
  if (workers < 1 || workers > mostWorkers) throw wrong(`--workers is a number from 1 to ${mostWorkers}`);
  const sockets = number("sockets", 1);
  if (sockets < 1 || sockets > mostSockets) throw wrong(`--sockets is a number from 1 to ${mostSockets}`);
  const composition = { name: required("name"), admin: required("admin") };
  const place = values.has("worker") ? workerPlace(values.get("worker")!, composition) : undefined;
  return {
    control: required("control"),
    name: place ? `${composition.name}/${place.number}` : composition.name,
    scopes: required("scopes").split(","),
    admin: place ? workerAdmin(composition.admin, place.number) : composition.admin,
    ...optional("zone", "zone"),
    ...optional("program", "program"),
    ...optional("state", "state"),
    ...(accessLog === undefined ? {} : { accessLog: { path: accessLog, format } }),
    maxConnections: number("max-connections", 65_536),
    maxRequests: number("max-requests", 100_000),
    maxMemory: number("max-memory", usualMemory()),
    drain: number("drain", 30_000),
    logLevel: level as LogLevel,
    workers,
    sockets,
    ...(place ? { worker: place } : {}),
  };
}

/** The admin socket of one worker of the composition that has `admin`. */
export function workerAdmin(admin: string, number: number): string {
  return `${admin}.${number}`;
}

/** `2/4`: what the first process tells the second worker of four. */
function workerPlace(text: string, composition: { readonly name: string; readonly admin: string }): WorkerPlace {
  const [, number, of] = /^(\d+)\/(\d+)$/.exec(text) ?? [];
  if (!number) throw wrong("--worker is NUMBER/OF");
  return { number: Number(number), composition: { ...composition, pid: process.ppid, workers: Number(of) } };
}

function wrong(message: string): UserError {
  return new UserError(message, { remedy: usage, exitCode: 2 });
}
