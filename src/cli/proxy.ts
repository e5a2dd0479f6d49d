// `fairlead proxy …`: what the proxies of a stack have in force and how they fare, as `istioctl proxy-status` and `proxy-config` show
// it, and what can be done to them. Found through the control socket of the stack; the answers come from their admin sockets.

import { writeFileSync } from "node:fs";
import { messageOf, UserError } from "../base/errors.ts";
import { ControlClient, type PendingUpgrade, type ProxyStatus } from "../cluster/control-api.ts";
import { checkProxyWorkers } from "../cluster/proxy-workers.ts";
import { defaultStackName } from "../cluster/stack.ts";
import { runningProxies } from "../cluster/static/running.ts";
import type { ClusterView, ListenerView, RouteView, StatsView } from "../proxy/admin/views.ts";
import { type Command, nameOption, nearest, type Words } from "./command.ts";
import {
  ageInWords,
  type ConfigView,
  clusterTable,
  configTable,
  endpointTable,
  listenerTable,
  relayTable,
  routeTable,
  statsTable,
  statusTable,
  type Table,
  upgradeInWords,
} from "./proxy-tables.ts";
import { columns, print, printError, yellow } from "./terminal.ts";

type Found = ProxyStatus & { readonly ofStack: boolean };

interface Asked {
  readonly words: Words;
  readonly proxies: readonly Found[];
  /** Undefined where no stack runs, but proxies by files. */
  readonly control: ControlClient | undefined;
  readonly pendingUpgrade: PendingUpgrade | undefined;
  /** The proxy that was named, or the only one. Throws a UserError. */
  one(): Found;
}

const views: Readonly<Record<string, (asked: Asked) => Promise<number>>> = {
  status: async ({ words, proxies, pendingUpgrade }) => {
    const name = words.positionals[1];
    const shown = name === undefined ? proxies : proxies.filter(({ proxy }) => proxy === name);
    if (name !== undefined && shown.length === 0) throw noSuchProxy(name, proxies);
    show(words, shown, () => statusTable(shown, Date.now()));
    if (pendingUpgrade) printError(`${yellow("Warning:")} ${upgradeInWords(pendingUpgrade, Date.now())}`);
    return 0;
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
  stats: (asked) =>
    shown(asked, "/stats", ({ routes, relays }: StatsView) => {
      const requests = statsTable(routes);
      // A proxy that passes nothing through has no such table; one that does nothing else, only that one.
      if (relays.length === 0) return requests;
      return routes.length === 0 ? relayTable(relays) : [requests, relayTable(relays)];
    }),
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
    if (proxy.workers) {
      throw new UserError(`${proxy.proxy} is several workers, each with a profile of its own`, {
        remedy: `Name one: ${proxy.workers.present.map((worker) => worker.proxy).join(", ")}`,
        exitCode: 2,
      });
    }
    const file = words.text("file") ?? `${proxy.proxy.replace("/", "-")}.cpuprofile`;
    const answer = await ask(proxy, "POST", `/profile?seconds=${encodeURIComponent(seconds)}`);
    writeFileSync(file, await answer.text());
    print(
      `${seconds} seconds of CPU time by function are in ${file}: open it in a browser's developer tools or in speedscope.`,
    );
    return 0;
  },
  restart: async ({ words, one, proxies, control }) => {
    const asked = one();
    const { proxy } = asked;
    const workers = words.text("workers");
    if (!proxies.includes(asked)) {
      await ask(asked, "POST", "/drain");
      print(`${proxy}: is started anew when it has finished what it has begun; the others take its connections.`);
      return 0;
    }
    if (!control || !asked.ofStack) {
      throw new UserError(`${proxy} belongs to no stack`, {
        remedy: "It follows its files by itself. To start it anew, end its command and call that again.",
      });
    }
    await control.replaceProxy(workers === undefined ? undefined : checkProxyWorkers(workers, "--workers", "proxy"));
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
    "`fairlead proxy status` shows; it may be left out where there is only one. Of several workers PROXY/1, PROXY/2, … are each\n" +
    "one by itself. What `fairlead proxy run` runs is there, too, unless --name is given. Private keys are not shown.\n" +
    "A proxy with no stack, by files: fairlead proxy run --help, fairlead proxy explain --help",
  options: {
    output: { type: "string", short: "o", value: "FORMAT", help: "json: all there is." },
    workers: { type: "string", value: "N", help: "restart: from now on so many processes on the same ports." },
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
    ["fairlead proxy restart --workers 4", "Four processes on the same ports take over"],
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
  const { control, proxies, pendingUpgrade } = await found(words.text("name"));
  return view({ words, proxies, pendingUpgrade, control, one: () => oneOf(proxies, name) });
}

/** The proxies of a stack, and those that `fairlead proxy run` runs unless a stack was named. */
async function found(stack: string | undefined): Promise<Pick<Asked, "control" | "proxies" | "pendingUpgrade">> {
  const control = new ControlClient(stack ?? defaultStackName);
  const alone = stack === undefined ? runningProxies() : [];
  // Where there are others, there need not be a stack.
  if (alone.length > 0 && !(await control.answers()))
    return { control: undefined, proxies: alone.map((one) => ({ ...one, ofStack: false })), pendingUpgrade: undefined };
  const { proxies, pendingUpgrade } = await control.status();
  const all = [
    ...proxies.map((one) => ({ ...one, ofStack: true })),
    ...alone.map((one) => ({ ...one, ofStack: false })),
  ];
  return { control, proxies: all, pendingUpgrade };
}

/** The proxy of a name, or the only one; a worker by NAME/NUMBER. Throws a UserError. */
function oneOf(proxies: readonly Found[], name: string | undefined): Found {
  const all = name?.includes("/")
    ? proxies.flatMap(({ workers, ofStack }) => (workers?.present ?? []).map((one) => ({ ...one, ofStack })))
    : proxies;
  const named = name === undefined ? all : all.filter(({ proxy }) => proxy === name);
  if (name === undefined && new Set(proxies.map(({ proxy }) => proxy)).size > 1)
    throw new UserError("there are several proxies", { remedy: `Name one: ${namesOf(proxies)}`, exitCode: 2 });
  // While one hands over to another, there are two of a name: the later one serves.
  const [latest] = named.filter(({ connected }) => connected).sort((a, b) => b.since - a.since);
  if (latest) return latest;
  if (name === undefined || named.length > 0)
    throw new UserError("the proxy is not connected", { remedy: "See why with: fairlead logs proxy" });
  throw noSuchProxy(name, proxies);
}

function noSuchProxy(name: string, proxies: readonly ProxyStatus[]): UserError {
  return new UserError(`there is no proxy "${name}"`, { remedy: `There are: ${namesOf(proxies)}`, exitCode: 2 });
}

function namesOf(proxies: readonly ProxyStatus[]): string {
  return [...new Set(proxies.map(({ proxy }) => proxy))].join(", ");
}

async function shown<T>({ words, one }: Asked, path: string, table: (data: T) => Table | Table[]): Promise<number> {
  const data = (await (await ask(one(), "GET", path)).json()) as T;
  return show(words, data, () => table(data));
}

function show(words: Words, data: unknown, table: () => Table | Table[]): number {
  if (words.text("output") === "json") print(JSON.stringify(data, undefined, 2));
  else {
    const tables = [table()].flat();
    print(tables.map(({ header, rows }) => columns(header, rows)).join("\n\n"));
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
