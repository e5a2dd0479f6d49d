// `fairlead proxy …`: what the proxies of a stack have in force and how they fare, as `istioctl proxy-status` and `proxy-config` show
// it, and what can be done to them. Found through the control socket of the stack; the answers come from their admin sockets.

import { writeFileSync } from "node:fs";
import { messageOf, UserError } from "../base/errors.ts";
import { ControlClient, type ProxyStatus } from "../cluster/control-api.ts";
import { defaultStackName } from "../cluster/stack.ts";
import type { ClusterView, ListenerView, RouteView, SeriesView } from "../proxy/admin/views.ts";
import { type Command, nameOption, nearest, type Words } from "./command.ts";
import {
  ageInWords,
  type ConfigView,
  clusterTable,
  configTable,
  endpointTable,
  listenerTable,
  routeTable,
  statsTable,
  statusTable,
  type Table,
} from "./proxy-tables.ts";
import { columns, print } from "./terminal.ts";

interface Asked {
  readonly words: Words;
  readonly proxies: readonly ProxyStatus[];
  readonly control: ControlClient;
  /** The proxy that was named, or the only one. Throws a UserError. */
  one(): ProxyStatus;
}

const views: Readonly<Record<string, (asked: Asked) => Promise<number>>> = {
  status: async ({ words, proxies }) => {
    const name = words.positionals[1];
    const shown = name === undefined ? proxies : proxies.filter(({ proxy }) => proxy === name);
    if (name !== undefined && shown.length === 0) throw noSuchProxy(name, proxies);
    return show(words, shown, () => statusTable(shown, Date.now()));
  },
  config: (asked) =>
    shown(asked, "/config", (config: ConfigView & { version?: unknown }) => {
      const { version: _, ...types } = config;
      return configTable(types as ConfigView);
    }),
  clusters: (asked) => shown(asked, "/clusters", (clusters: ClusterView[]) => clusterTable(clusters)),
  endpoints: (asked) => shown(asked, "/clusters", (clusters: ClusterView[]) => endpointTable(clusters)),
  listeners: (asked) => shown(asked, "/listeners", (listeners: ListenerView[]) => listenerTable(listeners)),
  routes: (asked) => shown(asked, "/routes", (routes: RouteView[]) => routeTable(routes)),
  stats: (asked) => shown(asked, "/stats", ({ routes }: { routes: SeriesView[] }) => statsTable(routes)),
  connections: (asked) =>
    shown(asked, "/connections", (all: { listener: string; source: string; protocol: string; age: number }[]) => ({
      header: ["LISTENER", "SOURCE", "PROTOCOL", "AGE"],
      rows: all.map(({ listener, source, protocol, age }) => [listener || "-", source, protocol, ageInWords(age)]),
    })),
  log: async ({ words, one }) => {
    const level = words.text("level");
    const answer = await ask(one(), level === undefined ? "GET" : "PUT", "/log-level", level);
    print(`level: ${(await answer.text()).trim()}`);
    return 0;
  },
  profile: async ({ words, one }) => {
    const proxy = one();
    const seconds = words.text("seconds") ?? "5";
    const file = words.text("file") ?? `${proxy.proxy}.cpuprofile`;
    const answer = await ask(proxy, "POST", `/profile?seconds=${encodeURIComponent(seconds)}`);
    writeFileSync(file, await answer.text());
    print(
      `${seconds} seconds of CPU time by function are in ${file}: open it in a browser's developer tools or in speedscope.`,
    );
    return 0;
  },
  restart: async ({ one, control }) => {
    const { proxy } = one();
    await control.replaceProxy();
    print(`${proxy}: another process serves; the one before finishes what it has begun.`);
    return 0;
  },
};

export const command: Command = {
  name: "proxy",
  summary: "Show what a proxy has in force and how it fares, or hand it over to another process",
  usage: `proxy ${Object.keys(views).join("|")} [PROXY] [options]`,
  description:
    "The columns are those of `istioctl proxy-status` and `proxy-config`, where there are such tables. PROXY is a name that\n" +
    "`fairlead proxy status` shows; it may be left out where there is only one. Private keys are not shown.\n" +
    "A proxy with no stack, by files: fairlead proxy run --help, fairlead proxy explain --help",
  options: {
    output: { type: "string", short: "o", value: "FORMAT", help: "json: all there is." },
    level: { type: "string", value: "LEVEL", help: "log: sets the level: debug, info, warn or error." },
    seconds: { type: "string", value: "SECONDS", help: "profile: how long; 5 unless given." },
    file: { type: "string", value: "FILE", help: "profile: where to; PROXY.cpuprofile unless given." },
    name: nameOption,
  },
  examples: [
    ["fairlead proxy status", "The stack's proxies, and whether they have what they should have"],
    ["fairlead proxy endpoints", "Every endpoint with its health"],
    ["fairlead proxy routes gateway.default -o json", "The rules in force, as data"],
    ["fairlead proxy stats", "Requests, failures and latency by route"],
    ["fairlead proxy log --level debug", "More in `fairlead logs proxy`"],
    ["fairlead proxy restart", "Another process takes over; no request fails"],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  const [what, name, ...more] = words.positionals;
  const view = what !== undefined && Object.hasOwn(views, what) ? views[what] : undefined;
  if (!view || more.length > 0) {
    const near = what === undefined || view ? undefined : nearest(what, Object.keys(views));
    throw new UserError(
      what === undefined ? "proxy needs a word" : view ? `proxy ${what} takes one name` : `proxy has no "${what}"`,
      {
        remedy: near ? `Did you mean "fairlead proxy ${near}"?` : `There are: ${Object.keys(views).join(", ")}`,
        exitCode: 2,
      },
    );
  }
  const output = words.text("output");
  if (output !== undefined && output !== "json")
    throw new UserError(`-o ${output}: no such format`, { remedy: "There is: -o json", exitCode: 2 });
  const control = new ControlClient(words.text("name") ?? defaultStackName);
  const { proxies } = await control.status();
  const one = (): ProxyStatus => {
    const named = name === undefined ? proxies : proxies.filter(({ proxy }) => proxy === name);
    // While one hands over to another, there are two of a name: the later one serves.
    const [latest] = named.filter(({ connected }) => connected).sort((a, b) => b.since - a.since);
    if (name === undefined && new Set(proxies.map(({ proxy }) => proxy)).size > 1)
      throw new UserError("there are several proxies", { remedy: `Name one: ${namesOf(proxies)}`, exitCode: 2 });
    if (latest) return latest;
    if (name === undefined || named.length > 0)
      throw new UserError("the proxy is not connected", { remedy: "See why with: fairlead logs proxy" });
    throw noSuchProxy(name, proxies);
  };
  return view({ words, proxies, control, one });
}

function noSuchProxy(name: string, proxies: readonly ProxyStatus[]): UserError {
  return new UserError(`there is no proxy "${name}"`, { remedy: `There are: ${namesOf(proxies)}`, exitCode: 2 });
}

function namesOf(proxies: readonly ProxyStatus[]): string {
  return [...new Set(proxies.map(({ proxy }) => proxy))].join(", ");
}

async function shown<T>({ words, one }: Asked, path: string, table: (data: T) => Table): Promise<number> {
  const data = (await (await ask(one(), "GET", path)).json()) as T;
  return show(words, data, () => table(data));
}

function show(words: Words, data: unknown, table: () => Table): number {
  if (words.text("output") === "json") print(JSON.stringify(data, undefined, 2));
  else {
    const { header, rows } = table();
    print(columns(header, rows));
  }
  return 0;
}

async function ask({ proxy, admin }: ProxyStatus, method: string, path: string, body?: string): Promise<Response> {
  let answer: Response;
  try {
    answer = await fetch(`http://proxy${path}`, {
      method,
      unix: admin!,
      ...(body === undefined ? {} : { body }),
      // A profile takes as long as was asked for.
      signal: AbortSignal.timeout(90_000),
    });
  } catch (error) {
    throw new UserError(`proxy ${proxy} does not answer on its admin socket (${messageOf(error)})`, {
      remedy: "See why with: fairlead logs proxy",
    });
  }
  if (!answer.ok) throw new UserError(`${proxy}: ${(await answer.text()).trim()}`);
  return answer;
}
