// `fairlead proxy run`: a proxy that serves the routing model of files, on this machine, with no stack and no privileges.

import { isIP } from "node:net";
import { systemClock } from "../base/clock.ts";
import { UserError } from "../base/errors.ts";
import { addressWithPort } from "../base/ip.ts";
import { createLogger, type LogLevel, logLevels } from "../base/log.ts";
import { checkProxyWorkers } from "../cluster/proxy-workers.ts";
import { type EchoPlace, startEchoes } from "../cluster/static/echo.ts";
import { readModel } from "../cluster/static/read-model.ts";
import { register } from "../cluster/static/running.ts";
import { type StaticProxy, startStaticProxy } from "../cluster/static/static-proxy.ts";
import type { Model } from "../model/model.ts";
import type { Command, Words } from "./command.ts";
import { print, printError, red } from "./terminal.ts";

export const command: Command = {
  name: "proxy run",
  summary: "Serve a routing model written in files: a proxy alone, with no stack and no privileges",
  usage: "proxy run -f FILE|DIR|- [options]",
  description:
    "The files hold YAML or JSON documents of kind Listener, RouteTable, Backend, Endpoints and Secret (docs/static.md).\n" +
    "Everything is checked before anything starts. A changed file is taken in one step; of a bad one the problems are\n" +
    "printed, and what is served stays. Ctrl-C finishes what is in flight; a second one cuts it.",
  options: {
    files: { type: "string", short: "f", value: "FILE|DIR|-", multiple: true, help: "May be given again." },
    name: {
      type: "string",
      value: "NAME",
      help: "What `fairlead proxy status` calls it. Default: after the first file.",
    },
    workers: { type: "string", value: "N", help: "Processes on the same ports, looked at as one. Default: 1." },
    check: { type: "boolean", help: "Only check the files. Exit code 1 when something is wrong." },
    echo: {
      type: "string",
      value: "PORT[,PORT]",
      help: "Also start servers on these ports of 127.0.0.1 (or ADDRESS:PORT) that answer with what they were asked.",
    },
    admin: { type: "string", value: "SOCKET", help: "The admin socket. Default: one in a folder of its own." },
    zone: {
      type: "string",
      value: "ZONE",
      help: "Where the proxy is, for backends that prefer endpoints of its zone.",
    },
    "access-log": { type: "string", value: "FILE", help: "One line for each request and connection passed through." },
    "access-log-format": {
      type: "string",
      value: "FORMAT",
      help: "json, or text as Istio's proxies write it. Default: json.",
    },
    drain: { type: "string", value: "SECONDS", help: "For what is in flight at the end. Default: 10." },
    "log-level": { type: "string", value: "LEVEL", help: "debug, info, warn or error, on stderr. Default: warn." },
  },
  examples: [
    ["fairlead proxy run -f examples/policies/01-request-headers.yaml --echo 9001", "An example, and its backend"],
    ["fairlead proxy run -f proxy.yaml --check", "Whether a file is good"],
    ["fairlead proxy run -f proxy.d --access-log access.log", "All files of a folder"],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  const paths = words.texts("files");
  const [stray] = words.positionals;
  if (paths.length === 0 || stray !== undefined) {
    throw new UserError(stray === undefined ? "proxy run needs -f" : `proxy run takes no "${stray}"`, {
      remedy: `For example: fairlead proxy run -f ${stray ?? "proxy.yaml"}`,
      exitCode: 2,
    });
  }
  if (words.flag("check")) return check(paths);
  const format = words.text("access-log-format") ?? "json";
  if (format !== "json" && format !== "text")
    throw new UserError(`--access-log-format ${format}: there is json and text`, { exitCode: 2 });
  const level = words.text("log-level") ?? "warn";
  if (!logLevels.includes(level as LogLevel))
    throw new UserError(`--log-level ${level}: there is ${logLevels.join(", ")}`, { exitCode: 2 });
  const seconds = Number(words.text("drain") ?? 10);
  if (!(seconds >= 0 && seconds <= 86_400)) throw new UserError("--drain: no number of seconds", { exitCode: 2 });
  const places = words.text("echo")?.split(",").map(echoPlace) ?? [];

  const workers = checkProxyWorkers(words.text("workers") ?? "1", "--workers", "proxy run");

  const entry = register(words.text("name"), paths);
  const echoes = await startEchoes(places).catch((error) => {
    entry.remove();
    throw error;
  });
  let proxy: StaticProxy;
  try {
    proxy = await startStaticProxy({
      ...{ paths, workers, name: entry.name, shown: entry.set },
      ...(words.text("admin") === undefined ? {} : { admin: words.text("admin")! }),
      ...(words.text("zone") === undefined ? {} : { zone: words.text("zone")! }),
      ...(words.text("access-log") === undefined ? {} : { accessLog: words.text("access-log")! }),
      ...(words.text("access-log-format") === undefined ? {} : { accessLogFormat: words.text("access-log-format")! }),
      logLevel: level as LogLevel,
      drain: seconds * 1000,
      clock: systemClock,
      log: createLogger((line) => process.stderr.write(`${line}\n`), level as LogLevel),
      changed: (problems, model) => {
        for (const problem of problems) printError(`${red("error:")} ${problem}`);
        if (!model) printError("What was served before stays.");
        else if (problems.length > 0) printError("The proxy refused this and keeps what it had; the rest is in force.");
        else print(`new configuration: ${summary(model)}`);
      },
    });
  } catch (error) {
    echoes.dispose();
    entry.remove();
    throw error;
  }
  for (const { name, address, port, transport } of proxy.model.listeners.values())
    print(`${name} listens on ${addressWithPort(address, port)} (${transport})`);
  for (const { address, port } of places) print(`echo answers on ${address}:${port}`);
  print(`admin: curl --unix-socket ${proxy.admin} http://proxy/config`);
  print(`shown by: fairlead proxy status ${entry.name}`);
  print(`ready: ${summary(proxy.model)}`);
  process.on("SIGINT", proxy.end);
  process.on("SIGTERM", proxy.end);
  const code = await proxy.ended;
  echoes.dispose();
  entry.remove();
  return code;
}

async function check(paths: readonly string[]): Promise<number> {
  const { problems, model } = await readModel(paths);
  for (const problem of problems) printError(`${red("error:")} ${problem}`);
  if (problems.length === 0) print(`good: ${summary(model)}`);
  return problems.length === 0 ? 0 : 1;
}

function summary(model: Model): string {
  const rules = [...model.routeTables.values()].flatMap(({ hosts }) => hosts.flatMap((host) => host.rules));
  const counted = (count: number, what: string) => `${count} ${what}${count === 1 ? "" : "s"}`;
  return [
    counted(model.listeners.size, "listener"),
    counted(rules.length, "rule"),
    counted(model.backends.size, "backend"),
  ].join(", ");
}

function echoPlace(text: string): EchoPlace {
  const [, address = "127.0.0.1", digits] = /^(?:(.+):)?(\d+)$/.exec(text) ?? [];
  const port = Number(digits);
  const plain = address.replace(/^\[|\]$/g, "");
  if (isIP(plain) !== 0 && port >= 1 && port <= 65_535) return { address: plain, port };
  throw new UserError(`--echo ${text}: no port`, { remedy: "Write it as 9001 or 127.0.0.2:9001.", exitCode: 2 });
}
