// A stack: one embedded Fairlead with its name, its settings and the places where it keeps things. Settings are fixed when
// the stack is made and read again by everything that joins it. No process is started here.

import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  writeFileSync,
} from "node:fs";
import { homedir } from "node:os";
import { join } from "node:path";
import { messageOf, UserError } from "../base/errors.ts";
import type { IpFamily } from "../base/ip.ts";
import type { NetworkRanges } from "../node/network.ts";
import type { ProxyFlagTexts } from "./proxy-flags.ts";

export type NetworkKind = "netns" | "loopback";

/** How Service addresses are served: by the kernel in one of three ways, or without privileges by this process. */
export type ProxyMode = "iptables" | "nftables" | "ipvs" | "userspace";

/** `--image PATTERN=COMMAND`: containers whose image fits `pattern` (with `*`) run `command` on the host instead. */
export interface ImageRule {
  readonly pattern: string;
  readonly command: string;
}

/** What a stack was made with; `stack.json` in its directory. */
export interface StackSettings {
  readonly name: string;
  readonly network: NetworkKind;
  /** One of each IP family that the stack has, the primary one first. */
  readonly ranges: readonly NetworkRanges[];
  /** How many nodes, 1 to 16. */
  readonly nodes: number;
  /** The zones that nodes are spread over, in turn (`topology.kubernetes.io/zone`); none unless given. */
  readonly zones?: readonly string[];
  readonly proxyMode: ProxyMode;
  /** kube-proxy's flags that were given, by name; checked. */
  readonly proxyFlags?: ProxyFlagTexts;
  /** Processes that the stack's proxy is; 1 unless given. May be another one at a later start. */
  readonly proxyWorkers?: number;
  readonly images: readonly ImageRule[];
  /** Where names outside of the cluster are asked (`dns/config-map.ts`, `forwardOf`); the host's resolvers unless given. */
  readonly dnsUpstream?: string;
  /** Where the API server listens, on the host's loopback; taken at the first start (absent until then) and kept while nobody else has it. */
  readonly apiPort?: number;
  /** Where `up` was called: commands of `--image` rules run there. */
  readonly workingDirectory: string;
}

/** Those of IPv6 are unique local ones (RFC 4193), of the sizes that kind has. */
export const defaultRanges: Readonly<Record<IpFamily, NetworkRanges>> = {
  4: { pods: "10.244.0.0/16", services: "10.96.0.0/16", loadBalancers: "10.97.0.0/16", nodes: "10.98.0.0/24" },
  6: {
    pods: "fd00:10:244::/56",
    services: "fd00:10:96::/112",
    loadBalancers: "fd00:10:97::/112",
    nodes: "fd00:10:98::/64",
  },
};

export const defaultLoopbackRanges: NetworkRanges = {
  pods: "127.244.0.0/16",
  services: "127.96.0.0/16",
  loadBalancers: "127.97.0.0/16",
  nodes: "127.98.0.0/24",
};

/** The places of one stack. `directory` survives reboots; `runtime` has sockets and pid files (Unix socket paths are short). */
export interface StackPaths {
  readonly directory: string;
  readonly runtime: string;
  readonly settings: string;
  readonly store: string;
  readonly pki: string;
  readonly kubeconfig: string;
  readonly logs: string;
  readonly volumes: string;
  readonly sources: string;
  readonly controlSocket: string;
  readonly distributionSocket: string;
}

export const defaultStackName = "default";

/** Throws a UserError unless `name` can be a stack's: it becomes part of names of links and namespaces. */
export function checkStackName(name: string): string {
  if (/^[a-z0-9]([-a-z0-9]{0,14}[a-z0-9])?$/.test(name)) return name;
  throw new UserError(`"${name}" cannot name a stack`, {
    remedy: "Use up to 16 lower-case letters, digits and dashes, starting and ending with a letter or digit.",
    exitCode: 2,
  });
}

export function stackPaths(name: string): StackPaths {
  const directory = join(stateHome(), name);
  const runtime = join(runtimeHome(), name);
  return {
    directory,
    runtime,
    settings: join(directory, "stack.json"),
    store: join(directory, "store.sqlite"),
    pki: join(directory, "pki"),
    kubeconfig: join(directory, "kubeconfig"),
    logs: join(directory, "logs"),
    volumes: join(directory, "volumes"),
    sources: join(directory, "sources.json"),
    controlSocket: join(runtime, "control.sock"),
    distributionSocket: join(runtime, "distribution.sock"),
  };
}

/** The names of all stacks that have a state directory, sorted. */
export function stackNames(): string[] {
  const home = stateHome();
  if (!existsSync(home)) return [];
  const entries = readdirSync(home, { withFileTypes: true });
  return entries
    .filter((entry) => entry.isDirectory())
    .map(({ name }) => name)
    .sort();
}

/** The settings of a stack that exists, or undefined. A file that cannot be read as settings is a UserError. */
export function readSettings(name: string): StackSettings | undefined {
  const { settings } = stackPaths(name);
  if (!existsSync(settings)) return undefined;
  try {
    const read = JSON.parse(readFileSync(settings, "utf8")) as StackSettings;
    // Stacks that were made before there was IPv6 have one object here.
    return { ...read, ranges: [read.ranges].flat() };
  } catch (error) {
    throw new UserError(`${settings} cannot be read: ${messageOf(error)}`, {
      remedy: `Remove what is left of the stack with: fairlead down --name ${name}`,
    });
  }
}

/** Makes the stack's directories (only the user may enter them) and writes its settings. */
export function writeSettings(settings: StackSettings): StackPaths {
  const paths = stackPaths(settings.name);
  for (const directory of [paths.directory, paths.pki, paths.logs, paths.volumes]) makePrivate(directory);
  makeRuntime(settings.name);
  const next = `${paths.settings}.new`;
  writeFileSync(next, `${JSON.stringify(settings, undefined, 2)}\n`, { mode: 0o600 });
  renameSync(next, paths.settings);
  return paths;
}

/** Makes the directory for sockets, which a reboot may have taken. */
export function makeRuntime(name: string): void {
  makePrivate(join(makeRuntimeHome(), name));
}

/** Where all directories for sockets are. Throws a UserError when it is somebody else's. */
export function makeRuntimeHome(): string {
  const home = runtimeHome();
  makePrivate(home);
  const owner = lstatSync(home);
  if (!owner.isDirectory() || (process.getuid && owner.uid !== process.getuid())) {
    throw new UserError(`${home} belongs to somebody else`, {
      remedy: "Set XDG_RUNTIME_DIR to a directory of your own.",
    });
  }
  return home;
}

function makePrivate(directory: string): void {
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  chmodSync(directory, 0o700);
}

/** `$FAIRLEAD_HOME`, or `fairlead` under XDG's state directory. */
function stateHome(): string {
  const state = process.env.XDG_STATE_HOME || join(homedir(), ".local", "state");
  return process.env.FAIRLEAD_HOME || join(state, "fairlead");
}

export function runtimeHome(): string {
  const uid = process.getuid?.() ?? 0;
  if (uid === 0) return "/run/fairlead";
  return process.env.XDG_RUNTIME_DIR ? join(process.env.XDG_RUNTIME_DIR, "fairlead") : `/tmp/fairlead-${uid}`;
}
