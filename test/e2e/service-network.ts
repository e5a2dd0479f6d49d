// A node with pods and a neighbour outside, made of network namespaces, for the tests of Service rules. Pods are routed, not
// bridged: an answer that took a short cut past the node's connection tracking would hide what is tested.

import type { Run } from "../../src/node/service-rules.ts";
import { cartRow as rowOfCart } from "../../src/node/testing/rows.ts";
import type { ServicePort, TableEndpoint } from "../../src/services/service-table.ts";

/** Of this process, so that two runs at once do not take each other's namespaces away. */
const prefix = `fl-t-svc${process.pid}`;
export const node = `${prefix}-node`;
export const outside = `${prefix}-out`;
export const nodeAddress = "192.0.2.1";
export const outsideAddress = "192.0.2.2";
export const podCidr = "10.244.9.0/24";
export const clusterIP = "10.96.9.9";

export interface TestPod {
  readonly namespace: string;
  readonly address: string;
}

/** Why the tests cannot run here; undefined when they can. */
export function cannotRun(): string | undefined {
  if (process.getuid?.() !== 0) return "needs root (network namespaces)";
  for (const tool of ["ip", "iptables-restore", "iptables-save"]) {
    if (!Bun.which(tool)) return `needs ${tool}`;
  }
  return undefined;
}

/** Runs a command in a namespace; throws with its words when it fails. */
export async function inside(namespace: string, argv: readonly string[]): Promise<string> {
  const result = await runIn(namespace)(argv);
  if (result.code !== 0) throw new Error(`${argv.join(" ")}: ${result.stderr}`);
  return result.stdout;
}

/** A `Run` in a namespace. `variant` picks `iptables-nft` or `iptables-legacy` instead of the host's default. */
export function runIn(namespace: string, variant?: "nft" | "legacy"): Run {
  return async ([tool = "", ...rest], stdin) => {
    const name = variant ? tool.replace(/^(ip6?tables)/, `$1-${variant}`) : tool;
    const child = Bun.spawn(["ip", "netns", "exec", namespace, name, ...rest], {
      stdin: stdin === undefined ? "ignore" : Buffer.from(stdin),
      stdout: "pipe",
      stderr: "pipe",
    });
    const [stdout, stderr, code] = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    return { code, stdout, stderr };
  };
}

async function ip(...argv: string[]): Promise<void> {
  const child = Bun.spawn(["ip", ...argv], { stdout: "ignore", stderr: "pipe" });
  if ((await child.exited) !== 0) throw new Error(`ip ${argv.join(" ")}: ${await new Response(child.stderr).text()}`);
}

/** Makes the node, the neighbour outside and so many pods. */
export async function makeNetwork(pods: number): Promise<readonly TestPod[]> {
  removeNetwork(pods);
  for (const namespace of [node, outside]) {
    await ip("netns", "add", namespace);
    await inside(namespace, ["ip", "link", "set", "lo", "up"]);
  }
  await inside(node, ["sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward"]);
  await ip("-n", node, "link", "add", "out", "type", "veth", "peer", "name", "eth0", "netns", outside);
  await ip("-n", node, "address", "add", `${nodeAddress}/24`, "dev", "out");
  await ip("-n", node, "link", "set", "out", "up");
  await ip("-n", node, "route", "add", "default", "via", outsideAddress);
  await ip("-n", outside, "address", "add", `${outsideAddress}/24`, "dev", "eth0");
  await ip("-n", outside, "link", "set", "eth0", "up");
  await ip("-n", outside, "route", "add", "default", "via", nodeAddress);
  const made: TestPod[] = [];
  for (let n = 1; n <= pods; n++) {
    const pod = { namespace: `${prefix}-p${n}`, address: `10.244.9.${n + 1}` };
    await ip("netns", "add", pod.namespace);
    await ip("-n", node, "link", "add", `p${n}`, "type", "veth", "peer", "name", "eth0", "netns", pod.namespace);
    await ip("-n", node, "link", "set", `p${n}`, "up");
    await ip("-n", node, "address", "add", "169.254.1.1/32", "dev", `p${n}`);
    await ip("-n", node, "route", "add", `${pod.address}/32`, "dev", `p${n}`);
    await ip("-n", pod.namespace, "link", "set", "lo", "up");
    await ip("-n", pod.namespace, "address", "add", `${pod.address}/32`, "dev", "eth0");
    await ip("-n", pod.namespace, "link", "set", "eth0", "up");
    await ip("-n", pod.namespace, "route", "add", "169.254.1.1", "dev", "eth0", "scope", "link");
    await ip("-n", pod.namespace, "route", "add", "default", "via", "169.254.1.1");
    made.push(pod);
  }
  return made;
}

export function removeNetwork(pods: number): void {
  const all = [node, outside, ...Array.from({ length: pods }, (_, n) => `${prefix}-p${n + 1}`)];
  for (const namespace of all) Bun.spawnSync(["ip", "netns", "del", namespace], { stderr: "ignore" });
}

/** A server in a pod that answers each connection with its name and the client's address. */
export async function serve(pod: TestPod, name: string, port: number): Promise<{ stop(): Promise<void> }> {
  const program = `
    Bun.listen({ hostname: "0.0.0.0", port: ${port}, socket: {
      open(socket) { socket.write("${name} " + socket.remoteAddress + "\\n"); socket.end(); }, data() {}, error() {},
    } });
    console.log("ready");`;
  const child = Bun.spawn(["ip", "netns", "exec", pod.namespace, process.execPath, "-e", program], { stdout: "pipe" });
  const reader = child.stdout.getReader();
  await reader.read();
  reader.releaseLock();
  return {
    async stop() {
      child.kill();
      await child.exited;
    },
  };
}

/** What `count` connections, one after another, from a namespace were answered; `-` and the reason for one that failed. */
export async function connect(from: string, address: string, port: number, count = 1): Promise<readonly string[]> {
  const program = `
    const one = () => new Promise((done) => {
      let text = "";
      const timer = setTimeout(() => done("- timeout"), 700);
      const finish = (value) => { clearTimeout(timer); done(value); };
      Bun.connect({ hostname: "${address}", port: ${port}, socket: {
        data(_, data) { text += data.toString(); }, close() { finish(text.trim() || "- closed"); },
        error(_, error) { finish("- " + error.code); }, connectError(_, error) { finish("- " + error.code); },
      } }).catch((error) => finish("- " + error.code));
    });
    const all = [];
    for (let n = 0; n < ${count}; n++) all.push(await one());
    console.log(JSON.stringify(all)); process.exit(0);`;
  return JSON.parse(await inside(from, [process.execPath, "-e", program]));
}

/** Who answered, of what {@link connect} gives. */
export function names(answers: readonly string[]): string[] {
  return answers.map((answer) => answer.split(" ")[0]!);
}

/** How often each of them answered. */
export function tally(answers: readonly string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names(answers)) counts[name] = (counts[name] ?? 0) + 1;
  return counts;
}

/** The ClusterIP Service `shop/cart` with these endpoints, all on the node. */
export function cartRow(endpoints: readonly TableEndpoint[], more: Partial<ServicePort> = {}): ServicePort {
  return rowOfCart(clusterIP, endpoints, more);
}
