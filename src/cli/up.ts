// `fairlead up`: starts the stack if it does not run, applies the files, waits until all of it works, and prints what a person
// needs next: the kubeconfig, the addresses, and curl lines that answer.

import { join } from "node:path";
import type { KubeObject } from "../api/object.ts";
import { parseDuration } from "../base/duration.ts";
import { UserError } from "../base/errors.ts";
import { ControlClient } from "../cluster/control-api.ts";
import { curlLines } from "../cluster/curl-lines.ts";
import { fillManifests } from "../cluster/fill-stack.ts";
import { launchControl } from "../cluster/launch.ts";
import { type Manifest, readManifests } from "../cluster/manifests.ts";
import { hostPrerequisites } from "../cluster/prerequisites.ts";
import { flagsIn, proxyFlagNames, proxyFlags } from "../cluster/proxy-flags.ts";
import { rangeOptions } from "../cluster/ranges-from-options.ts";
import { joinedSettings, newSettings, type UpOptions } from "../cluster/settings-from-options.ts";
import {
  checkStackName,
  defaultStackName,
  readSettings,
  type StackSettings,
  stackPaths,
  writeSettings,
} from "../cluster/stack.ts";
import { tearDown } from "../cluster/teardown.ts";
import { apiPath, StackClient } from "./api-client.ts";
import { type Applied, applyManifests } from "./applying.ts";
import { type Command, nameOption, type Words } from "./command.ts";
import { untilInterrupted } from "./interruption.ts";
import { recordSourcesOf } from "./recording.ts";
import { bold, columns, dim, duration, green, print, printError, red, yellow } from "./terminal.ts";

/** Curl lines printed at most. */
const curlLimit = 8;

export const command: Command = {
  name: "up",
  summary: "Start a stack, apply files, and wait until they work",
  usage: "up [-f FILE|DIR|-]… [options]",
  description:
    "Starts an API server, nodes, Service rules, DNS and a gateway proxy on this machine, applies the files, and waits until\n" +
    "everything in them is Ready, Accepted and Programmed. A second up of the same name joins what runs.",
  options: {
    filename: {
      type: "string",
      short: "f",
      value: "FILE|DIR|-",
      multiple: true,
      help: "Manifests to apply; may be given again.",
    },
    namespace: {
      type: "string",
      short: "n",
      value: "NAMESPACE",
      help: 'For objects that name none. Default: "default".',
    },
    fill: {
      type: "boolean",
      help: "Make up what the files refer to and do not contain: namespaces, Services with two stand-in pods, TLS Secrets.",
    },
    name: nameOption,
    nodes: { type: "string", value: "N", help: "Number of nodes. Default: 1." },
    zones: {
      type: "string",
      value: "A,B,…",
      help: "Zones that the nodes are in, in turn: what trafficDistribution of Services goes by.",
    },
    network: {
      type: "string",
      value: "netns|loopback",
      help: "netns: nodes and pods are network namespaces (root). loopback: they are 127.x addresses. Default: netns where possible.",
    },
    "proxy-mode": {
      type: "string",
      value: "iptables|nftables|ipvs",
      help: "How Service addresses are served. Default: iptables; the loopback network has userspace only.",
    },
    ...proxyFlags,
    "proxy-workers": {
      type: "string",
      value: "N",
      help: "Processes of the gateway proxy, on the same ports. Default: 1. May be changed: the proxy hands over, no request fails.",
    },
    image: {
      type: "string",
      value: "'PATTERN=COMMAND'",
      multiple: true,
      help: "Containers whose image fits PATTERN (* is any text) run this host command in their pod's network.",
    },
    "dns-upstream": {
      type: "string",
      value: "ADDRESS[,…]|host|none",
      help: "Where pods' questions about names outside of the cluster go. Default: host, the resolvers of /etc/resolv.conf.",
    },
    "ip-families": {
      type: "string",
      value: "ipv4|ipv6|ipv4,ipv6|ipv6,ipv4",
      help: "IP families of nodes, pods and Services; of two, the first is the primary one. Default: those of the ranges, or ipv4.",
    },
    "pod-cidr": {
      type: "string",
      value: "RANGE[,RANGE]",
      help: "Pod addresses, a range of each family. Default: 10.244.0.0/16 (loopback: 127.244.0.0/16), fd00:10:244::/56.",
    },
    "service-cidr": {
      type: "string",
      value: "RANGE[,RANGE]",
      help: "Service addresses. Default: 10.96.0.0/16 (loopback: 127.96.0.0/16), fd00:10:96::/112.",
    },
    "load-balancer-cidr": {
      type: "string",
      value: "RANGE[,RANGE]",
      help: "Addresses of Gateways and LoadBalancer Services. Default: 10.97.0.0/16 (loopback: 127.97.0.0/16), fd00:10:97::/112.",
    },
    "node-cidr": {
      type: "string",
      value: "RANGE[,RANGE]",
      help: "Node addresses. Default: 10.98.0.0/24 (loopback: 127.98.0.0/24), fd00:10:98::/64.",
    },
    wait: {
      type: "string",
      value: "DURATION",
      help: "How long to wait for the files to work; 0s does not wait. Default: 60s.",
    },
    foreground: { type: "boolean", help: "Stay until interrupted, then take the stack down." },
  },
  examples: [
    ["fairlead up -f examples/shop", "The example, from nothing to an answering Gateway"],
    ["fairlead up --fill -f routes.yaml", "Only routes: the applications behind them are made up"],
    [
      "fairlead up --nodes 3 --image 'nginx*=python3 -m http.server 80'",
      "Three nodes, and a real program for some images",
    ],
    ["fairlead up --nodes 3 --zones a,b,c -f shop.yaml", "Three zones with a node each"],
    ["fairlead up --ip-families ipv4,ipv6 -f shop.yaml", "Dual stack: pods, nodes and Services have both families"],
  ],
  run,
};

async function run(words: Words): Promise<number> {
  if (words.positionals.length > 0) {
    throw new UserError(`up takes no "${words.positionals[0]}"`, {
      remedy: `Name files with -f: fairlead up -f ${words.positionals[0]}`,
      exitCode: 2,
    });
  }
  const name = checkStackName(words.text("name") ?? defaultStackName);
  const timeout = parseDuration(words.text("wait") ?? "60s", "--wait");
  const files = words.texts("filename");
  const namespace = words.text("namespace") ?? "default";
  const given = files.length > 0 ? await readManifests(files) : [];

  const steps = new StepPrinter();
  const { settings, control } = await startOrJoin(name, words, steps);
  const client = StackClient.of(name);
  const fill = words.flag("fill")
    ? await steps.time("fill", () => fillManifests(given, namespace, name, (path) => listAll(client, path)))
    : undefined;
  const manifests: readonly Manifest[] = [...(fill?.manifests ?? []), ...given];
  const applied = await steps.time(
    "apply",
    () => applyManifests(client, manifests, namespace),
    (all) => `${all.length} objects`,
  );
  await recordSourcesOf(
    control,
    applied.filter(({ manifest }) => given.includes(manifest)),
  );
  for (const warning of new Set(applied.flatMap(({ warnings }) => warnings)))
    printError(`${yellow("Warning:")} ${warning}`);

  let problems: readonly string[] = [];
  if (timeout > 0) {
    const objects = applied.map(({ object, resource }) => ({
      apiVersion: object.apiVersion,
      kind: object.kind,
      name: object.metadata.name,
      ...(resource.scope === "Namespaced" ? { namespace: object.metadata.namespace ?? namespace } : {}),
    }));
    const report = await steps.time("ready", () => control.wait({ objects, timeoutMilliseconds: timeout }));
    problems = report.problems;
  }
  await printOutcome(settings, client, applied, fill?.reasons ?? []);
  for (const problem of problems) printError(`${red("not working:")} ${problem}`);
  if (problems.length === 0 && timeout > 0) print(green(applied.length > 0 ? "Everything works." : "The stack runs."));
  if (words.flag("foreground")) await stayUntilInterrupted(name);
  return problems.length > 0 ? 1 : 0;
}

/** Prints each step with its time as it ends. */
class StepPrinter {
  print(name: string, milliseconds: number, note = ""): void {
    print(`  ${name.padEnd(18)}${duration(milliseconds).padStart(9)}  ${dim(note)}`.trimEnd());
  }

  async time<T>(name: string, work: () => Promise<T>, note?: (result: T) => string): Promise<T> {
    const began = performance.now();
    const result = await work();
    this.print(name, performance.now() - began, note?.(result));
    return result;
  }
}

async function startOrJoin(
  name: string,
  words: Words,
  steps: StepPrinter,
): Promise<{ settings: StackSettings; control: ControlClient }> {
  const options = upOptions(name, words);
  const existing = readSettings(name);
  const running = new ControlClient(name);
  const answers = await running.answers();
  if (answers && !existing) {
    throw new UserError(`a stack "${name}" runs already, from another state directory`, {
      remedy: "Choose another --name, or set FAIRLEAD_HOME as it was when that one was made.",
    });
  }
  if (existing && answers) {
    const joined = joinedSettings(existing, options);
    if (joined.images.length > existing.images.length) {
      throw new UserError(`stack "${name}" runs already, and image rules are read when it starts`, {
        remedy: `Start it again: fairlead down --keep-data --name ${name}, then this command.`,
      });
    }
    const { error } = await running.started(0);
    if (error === undefined) {
      print(`Joining stack "${name}".`);
      if (joined !== existing)
        await steps.time(`proxy workers: ${joined.proxyWorkers}`, () => running.replaceProxy(joined.proxyWorkers));
      return { settings: joined, control: running };
    }
    await tearDown(name, { keepData: true }); // one that could not start; it is tried again
  }
  const host = await hostPrerequisites(options.network ?? existing?.network);
  if (host.note && !existing) print(host.note);
  const settings = existing
    ? joinedSettings(existing, options)
    : newSettings(options, {
        privileged: host.privileged,
        workingDirectory: process.cwd(),
      });
  await host.check(settings);
  const paths = writeSettings(settings);
  print(`${existing ? "Starting" : "Making"} stack "${name}" (${settings.network}).`);
  const control = await launchControl(name, paths);
  let seen = 0;
  for (;;) {
    const report = await control.started(seen);
    for (const step of report.steps.slice(seen)) steps.print(step.name, step.milliseconds);
    seen = report.steps.length;
    if (report.error !== undefined) {
      await tearDown(name, { keepData: existing !== undefined });
      throw new UserError(report.error, report.remedy ? { remedy: report.remedy } : {});
    }
    if (report.finished) return { settings, control };
  }
}

function upOptions(name: string, words: Words): UpOptions {
  const network = words.text("network");
  const nodes = words.text("nodes");
  const zones = words.text("zones");
  const ipFamilies = words.text("ip-families");
  const proxyMode = words.text("proxy-mode");
  const dnsUpstream = words.text("dns-upstream");
  const proxyWorkers = words.text("proxy-workers");
  const range = (option: string) => words.text(option.slice(2));
  return {
    name,
    ...(network ? { network } : {}),
    ...(nodes ? { nodes } : {}),
    ...(zones === undefined ? {} : { zones }),
    ...(ipFamilies === undefined ? {} : { ipFamilies }),
    ...(proxyMode ? { proxyMode } : {}),
    proxyFlags: flagsIn(words, proxyFlagNames),
    ...(dnsUpstream === undefined ? {} : { dnsUpstream }),
    ...(proxyWorkers === undefined ? {} : { proxyWorkers }),
    images: words.texts("image"),
    ranges: Object.fromEntries(
      Object.entries(rangeOptions).flatMap(([key, option]) =>
        range(option) === undefined ? [] : [[key, range(option)]],
      ),
    ),
  };
}

async function listAll(client: StackClient, type: string): Promise<readonly KubeObject[]> {
  const { body } = await client.call("GET", apiPath(await client.resourceNamed(type), undefined));
  const list = body as unknown as { apiVersion: string; kind: string; items: KubeObject[] };
  return list.items.map((item) => ({ ...item, apiVersion: list.apiVersion, kind: list.kind.replace(/List$/, "") }));
}

async function printOutcome(
  settings: StackSettings,
  client: StackClient,
  applied: readonly Applied[],
  made: readonly string[],
): Promise<void> {
  const paths = stackPaths(settings.name);
  const [gateways, services, routes, secrets, status] = await Promise.all([
    listAll(client, "gateways"),
    listAll(client, "services"),
    listAll(client, "httproutes"),
    listAll(client, "secrets"),
    new ControlClient(settings.name).status(),
  ]);
  const moved = new Map(status.movedPorts.map(({ port, effective }) => [port, effective]));
  const effectivePort = (port: number) => moved.get(port) ?? port;
  print();
  print(`${bold(`export KUBECONFIG=${paths.kubeconfig}`)}`);
  const rows = addressRows(gateways, services, effectivePort);
  if (rows.length > 0) {
    print();
    print(columns(["ADDRESS", "PORTS", "OF"], rows));
  }
  const mine = new Set(applied.map(({ object }) => object.metadata.uid));
  const lines = curlLines({
    gateways,
    routes: routes.filter(({ metadata }) => mine.has(metadata.uid)),
    issuedHere: (gateway) => issuedHere(gateway, secrets),
    authority: join(paths.pki, "ca.crt"),
    effectivePort,
    limit: curlLimit,
  });
  if (lines.length > 0) {
    print();
    print("Try:");
    for (const line of lines) print(`  ${line}`);
  }
  if (made.length > 0) {
    print();
    print("Made up (--fill):");
    for (const line of made) print(`  ${line}`);
  }
  print();
}

function addressRows(
  gateways: readonly KubeObject[],
  services: readonly KubeObject[],
  effectivePort: (port: number) => number,
): string[][] {
  const port = (number: number) =>
    effectivePort(number) === number ? String(number) : `${number} at ${effectivePort(number)}`;
  const rows: string[][] = [];
  for (const { metadata, spec, status } of gateways) {
    const listeners: { port: number; protocol: string }[] = spec.listeners;
    const ports = [
      ...new Set(listeners.map((listener) => `${listener.protocol.toLowerCase()} ${port(listener.port)}`)),
    ];
    for (const { value } of status?.addresses ?? [])
      rows.push([value, ports.join(", "), `Gateway ${metadata.namespace}/${metadata.name}`]);
  }
  for (const { metadata, spec, status } of services) {
    const ports: { port: number; protocol: string }[] = spec.ports ?? [];
    const text = ports.map((one) => `${one.protocol.toLowerCase()} ${port(one.port)}`).join(", ");
    for (const { ip } of status?.loadBalancer?.ingress ?? [])
      rows.push([ip, text, `Service ${metadata.namespace}/${metadata.name}`]);
  }
  return rows;
}

/** Whether all certificates of a Gateway were made up by `--fill`, and so come from the stack's own authority. */
function issuedHere(gateway: KubeObject, secrets: readonly KubeObject[]): boolean {
  const refs: { name: string; namespace?: string }[] = gateway.spec.listeners.flatMap(
    (listener: { tls?: { certificateRefs?: { name: string; namespace?: string }[] } }) =>
      listener.tls?.certificateRefs ?? [],
  );
  return refs.every(({ name, namespace = gateway.metadata.namespace }) =>
    secrets.some(
      ({ metadata }) =>
        metadata.name === name &&
        metadata.namespace === namespace &&
        metadata.labels?.["fairlead.dev/filled"] === "true",
    ),
  );
}

async function stayUntilInterrupted(name: string): Promise<void> {
  print("Running in the foreground; Ctrl-C takes the stack down.");
  await untilInterrupted();
  await tearDown(name, { keepData: false });
  print(`Stack "${name}" is down.`);
}
