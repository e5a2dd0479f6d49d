// Drives real stacks for the end-to-end tests: the same command line that users have, in a state directory and on address
// ranges of its own, so that a developer's own stack is left alone.

import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";

export const root = resolve(import.meta.dir, "../..");
export const manifests = resolve(root, "../shared/mission/manifests");
export const isRoot = process.getuid?.() === 0;

export interface Result {
  readonly code: number;
  readonly out: string;
  readonly err: string;
}

/** Runs a program to its end. */
export async function run(
  argv: readonly string[],
  options: { env?: Record<string, string>; stdin?: string; cwd?: string } = {},
): Promise<Result> {
  const child = Bun.spawn([...argv], {
    cwd: options.cwd ?? root,
    env: { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin`, ...options.env },
    stdin: options.stdin === undefined ? "ignore" : new TextEncoder().encode(options.stdin),
    stdout: "pipe",
    stderr: "pipe",
  });
  const [out, err, code] = await Promise.all([
    new Response(child.stdout).text(),
    new Response(child.stderr).text(),
    child.exited,
  ]);
  return { code, out, err };
}

/** Of 10.160 to 10.248, four second bytes a stack. */
const slots = 23;
let turn = process.pid;

/** Four ranges and a name that are one test's alone. */
export interface Slot {
  /** Goes into names of stacks and namespaces: one character. */
  readonly tag: string;
  /** 10.SECOND to 10.(SECOND + 3). */
  readonly second: number;
  /** The process's end does it, too. */
  release(): void;
}

/**
 * A slot that nobody on this machine has: a socket with a name in the abstract namespace is held as long as this process and its
 * stack live, so that two processes cannot both have it and one that was killed leaves no lock behind. Slots with a route of
 * the machine (a stack that was left over) are passed over.
 */
export function takeSlot(): Slot {
  const routes = Bun.spawnSync(["ip", "route"]).stdout.toString();
  for (let tried = 0; tried < slots; tried++) {
    const number = turn++ % slots;
    const second = 160 + 4 * number;
    if ([0, 1, 2, 3].some((more) => routes.includes(`10.${second + more}.`))) continue;
    try {
      const holder = Bun.listen({ unix: `\0fl-t-ranges-${number}`, socket: { data() {} } });
      holder.unref();
      return { tag: number.toString(36), second, release: () => holder.stop(true) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== "EADDRINUSE") throw error;
    }
  }
  throw new Error("all ranges of test stacks are taken: end those that are left with `fairlead down`");
}

/** A stack for one test file: `up` is called by the test, `remove` by its afterAll. */
export class TestStack {
  readonly name: string;
  readonly home: string;
  readonly network: "netns" | "loopback";
  /** Ranges that no other stack of this machine has, as options of `up`. */
  readonly rangeOptions: readonly string[];
  readonly #slot: Slot;

  /** `families` as `--ip-families` has them: `ipv4`, `ipv6`, `ipv4,ipv6`, `ipv6,ipv4`. */
  constructor(name: string, network: "netns" | "loopback" = "netns", families = "ipv4") {
    this.#slot = takeSlot();
    // The same test may run twice at once.
    this.name = `t-${name}-${this.#slot.tag}`;
    this.network = network;
    this.home = mkdtempSync(join(tmpdir(), "fl-t-"));
    const first = network === "netns" ? "10" : "127";
    const { second } = this.#slot;
    const range = (four: string, six: string) =>
      families
        .split(",")
        .map((family) => (family === "ipv4" ? `${first}.${four}` : `fd00:${second}:${six}`))
        .join(",");
    this.rangeOptions = [
      ...["--pod-cidr", range(`${second}.0.0/16`, "244::/56")],
      ...["--service-cidr", range(`${second + 1}.0.0/16`, "96::/112")],
      ...["--load-balancer-cidr", range(`${second + 2}.0.0/16`, "97::/112")],
      ...["--node-cidr", range(`${second + 3}.0.0/24`, "98::/64")],
    ];
  }

  /** `fairlead COMMAND --name NAME …`. */
  fairlead(command: string, ...words: string[]): Promise<Result> {
    return this.#fairlead([command, "--name", this.name, ...words]);
  }

  up(...words: string[]): Promise<Result> {
    return this.fairlead("up", "--network", this.network, ...this.rangeOptions, ...words);
  }

  /** As {@link up}, with `text` on standard input (for `-f -`). */
  upWith(text: string, ...words: string[]): Promise<Result> {
    return this.#fairlead(
      ["up", "--name", this.name, "--network", this.network, ...this.rangeOptions, "-f", "-", ...words],
      text,
    );
  }

  apply(text: string): Promise<Result> {
    return this.#fairlead(["apply", "--name", this.name, "-f", "-"], text);
  }

  kubectl(...words: string[]): Promise<Result> {
    // What kubectl remembers of an API server it knows by its port, which other servers had before.
    const env = { KUBECONFIG: join(this.home, this.name, "kubeconfig"), KUBECACHEDIR: join(this.home, "kube-cache") };
    return run(["kubectl", ...words], { env });
  }

  /** An object, as JSON. */
  async get(type: string, name: string, namespace = "default"): Promise<any> {
    const { code, out, err } = await this.fairlead("get", type, name, "-n", namespace, "-o", "json");
    if (code !== 0) throw new Error(err);
    return JSON.parse(out);
  }

  async list(type: string, ...words: string[]): Promise<any[]> {
    const { code, out, err } = await this.fairlead("get", type, "-o", "json", ...words);
    if (code !== 0) throw new Error(err);
    if (out === "") return [];
    return JSON.parse(out).items;
  }

  async address(gateway: string, namespace: string): Promise<string> {
    return (await this.get("gateways", gateway, namespace)).status.addresses[0].value;
  }

  /** The authority's certificate, for curl. */
  get authority(): string {
    return join(this.home, this.name, "pki", "ca.crt");
  }

  exec(target: string, ...argv: string[]): Promise<Result> {
    return this.#fairlead(["exec", "--name", this.name, target, "--", ...argv]);
  }

  async remove(): Promise<void> {
    await this.fairlead("down");
    rmSync(this.home, { recursive: true, force: true });
    this.#slot.release();
  }

  #fairlead(words: readonly string[], stdin?: string): Promise<Result> {
    return run([join(root, "bin/fairlead"), ...words], {
      env: { FAIRLEAD_HOME: this.home },
      ...(stdin === undefined ? {} : { stdin }),
    });
  }
}

/** Asks until `holds`, at most `timeout` milliseconds; gives the last answer. */
export async function eventually<T>(
  ask: () => Promise<T>,
  holds: (answer: T) => boolean,
  timeout = 10_000,
): Promise<T> {
  const end = Date.now() + timeout;
  for (;;) {
    const answer = await ask();
    if (holds(answer) || Date.now() > end) return answer;
    await Bun.sleep(50);
  }
}
