// What every pod network answers, whatever it is made of: `netns/` (Linux network namespaces, needs root) and `loopback/`
// (127.x addresses, needs nothing). A network gives nodes and pods a place to listen and to run commands in; it knows no
// Kubernetes objects, allocates no pod addresses, and has no Service rules.

/** Address ranges of one family in CIDR notation. */
export interface NetworkRanges {
  readonly pods: string;
  readonly services: string;
  readonly loadBalancers: string;
  readonly nodes: string;
}

/** A node as the network made it. */
export interface NodePlace {
  readonly name: string;
  /** The node's own addresses (InternalIP), one of each family; the first is the one it is known by. */
  readonly addresses: readonly string[];
  /** The parts of the pod ranges that this node's pods get addresses from, by family as `addresses`. */
  readonly podRanges: readonly string[];
}

/** What a pod needs to have a network of its own. */
export interface PodSandbox {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  /** One from each of the node's `podRanges`. Ignored for `hostNetwork`, which has its node's. */
  readonly addresses: readonly string[];
  readonly hostNetwork?: boolean;
  /** The text of `/etc/resolv.conf` for commands that run in the pod. */
  readonly resolvConf?: string;
  /** The text of `/etc/hosts` for commands that run in the pod. */
  readonly hosts?: string;
}

export type NetworkTarget = { readonly node: string } | { readonly pod: string /* uid */ };

/** Where listeners are opened: inside the namespace at this path (or in ours when there is none), on these addresses. */
export interface Place {
  readonly netns: string | undefined;
  readonly addresses: readonly string[];
}

export interface CommandResult {
  readonly exitCode: number;
  readonly stdout: string;
  readonly stderr: string;
}

export interface RunOptions {
  readonly stdin?: string;
  readonly env?: Readonly<Record<string, string>>;
  /** Milliseconds until the command is killed; 60,000 unless given. */
  readonly timeout?: number;
}

export interface PodNetwork {
  readonly kind: "netns" | "loopback";
  /** One of each family that the network has, the primary one first. */
  readonly ranges: readonly NetworkRanges[];

  /** Makes the nodes, in this order, and what joins them. What is there already stays as it is. The first one is node 1. */
  ensureNodes(names: readonly string[]): Promise<readonly NodePlace[]>;
  /** Makes sandboxes, many at the cost of a few. Idempotent. Throws when one cannot be made; those made stay. */
  addPods(pods: readonly PodSandbox[]): Promise<void>;
  removePods(uids: readonly string[]): Promise<void>;
  /** Removes the sandboxes of all pods but these: after a restart, of those that went meanwhile. */
  removePodsExcept(keep: readonly { readonly uid: string; readonly name: string }[]): Promise<void>;
  /** The uids of the pods that were added and have a sandbox. */
  pods(): readonly string[];

  /** Where listeners of a node or pod are opened; undefined when the network has no such node or pod. */
  place(target: NetworkTarget): Place | undefined;
  /**
   * Leads the machine to these ranges of Services beside those that the network was made with, and to no others any more. Resolves
   * with why it cannot, one reason a range.
   */
  routeServices(ranges: readonly string[]): Promise<readonly string[]>;
  /** Where listeners for load-balancer addresses are opened; the address is the caller's. */
  loadBalancerNetns(): string | undefined;
  /** The port a listener for `port` really gets; only a network without privileges moves some. */
  effectivePort(port: number): number;

  /** The argv that runs `argv` inside the target's network. Throws when there is no such target. */
  command(target: NetworkTarget, argv: readonly string[]): string[];
  run(target: NetworkTarget, argv: readonly string[], options?: RunOptions): Promise<CommandResult>;

  /** Removes everything that was ever made under this name. Works after a crash and half-way failures; idempotent. */
  remove(): Promise<void>;
}

/** Runs a program to its end. `stdin` is given whole; output is kept whole, so only for commands that say little. */
export async function runCommand(argv: readonly string[], options: RunOptions = {}): Promise<CommandResult> {
  const child = Bun.spawn([...argv], {
    stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
    ...(options.env ? { env: { ...process.env, ...options.env } } : {}),
    timeout: options.timeout ?? 60_000,
    killSignal: "SIGKILL",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { exitCode, stdout, stderr };
}
