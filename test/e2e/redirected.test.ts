// Listeners of one proxy in several network namespaces, and connections that the kernel's rules send to them (REDIRECT): served,
// passed on to where the client wanted to go, and never in circles. Needs root, ip, iptables and ip6tables.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { FilterChain, Listener } from "../../src/model/model.ts";
import { backend, endpoints, forwardTo, from, ProxyUnderTest, routeTable, rule } from "./proxy-harness.ts";
import { makeSecret, tlsListener } from "./proxy-secrets.ts";

const isRoot = process.getuid?.() === 0;
if (!isRoot) console.log("skipped: listeners in network namespaces need root");

const names = [1, 2].map((n) => `fl-t-red-${process.pid}-${n}`);
const [one, two] = names as [string, string];
const port = 15_001;

let proxy: ProxyUnderTest;
let http: ReturnType<typeof Bun.serve>;
let folder: string;
const processes: { kill(signal: NodeJS.Signals): void }[] = [];

function run(command: string): string {
  const done = Bun.spawnSync(command.split(" "));
  if (done.exitCode !== 0) throw new Error(`${command}: ${done.stderr}`);
  return done.stdout.toString();
}

/** A program's output in a namespace. */
async function inside(name: string, program: string): Promise<string> {
  const done = Bun.spawn(["ip", "netns", "exec", name, process.execPath, "-e", program], { stdout: "pipe" });
  return await new Response(done.stdout).text();
}

const get = (url: string) =>
  `console.log(await fetch("${url}", { signal: AbortSignal.timeout(5000) }).then((a) => a.text(), (e) => "failed: " + e.code))`;

beforeEach(async () => {
  if (!isRoot) return;
  for (const name of names) {
    run(`ip netns add ${name}`);
    run(`ip -n ${name} link set lo up`);
  }
  // The second is the client of the first: what it sends to any address comes by here.
  const [a, b] = ["flt" + process.pid + "a", "flt" + process.pid + "b"];
  run(`ip link add ${a} netns ${one} type veth peer name ${b} netns ${two}`);
  run(`ip -n ${one} addr add 10.255.77.1/24 dev ${a}`);
  run(`ip -n ${two} addr add 10.255.77.2/24 dev ${b}`);
  run(`ip -n ${one} link set ${a} up`);
  run(`ip -n ${two} link set ${b} up`);
  run(`ip -n ${two} route add default via 10.255.77.1`);
  run(`ip -n ${one} addr add 10.255.78.1/32 dev lo`);
  run(`ip -n ${one} addr add fd77::1/64 dev ${a} nodad`);
  run(`ip -n ${two} addr add fd77::2/64 dev ${b} nodad`);
  run(`ip -n ${two} -6 route add default via fd77::1`);
  run(`ip -n ${one} addr add fd78::1/128 dev lo nodad`);
  run(`ip netns exec ${one} ip6tables -w -t nat -A PREROUTING -p tcp --dport 8000:9000 -j REDIRECT --to-ports ${port}`);
  run(`ip netns exec ${one} iptables -w -t nat -A PREROUTING -p tcp --dport 8000:9000 -j REDIRECT --to-ports ${port}`);
  folder = mkdtempSync(join(tmpdir(), "fl-t-redirected-"));
  http = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("routed") });
  proxy = new ProxyUnderTest();
  await proxy.start("--access-log", join(folder, "access.log"));
});

afterEach(async () => {
  if (!isRoot) return;
  for (const one of processes.splice(0)) one.kill("SIGKILL");
  await proxy.stop();
  http.stop(true);
  for (const name of names) Bun.spawnSync(["ip", "netns", "del", name]);
  rmSync(folder, { recursive: true, force: true });
});

function listener(name: string, more: Partial<Listener>, serve: FilterChain["serve"] = { routes: "main" }): Listener {
  const chains = [{ from, when: { kind: "plain" } as const, serve }];
  return { name, from, scope: "gateway", address: "0.0.0.0", port, transport: "tcp", chains, ...more };
}

const inNamespace = (name: string) => ({ namespace: `/run/netns/${name}` });

test.skipIf(!isRoot)("one process listens on one port in several namespaces", async () => {
  const update = {
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")])],
  };
  const both = [listener("in-one", inNamespace(one)), listener("in-two", inNamespace(two))];
  expect(await proxy.control.update({ ...update, listeners: both })).toEqual([]);
  expect(await inside(one, get(`http://127.0.0.1:${port}/`))).toBe("routed\n");
  expect(await inside(two, get(`http://127.0.0.1:${port}/`))).toBe("routed\n");
  expect(await fetch(`http://127.0.0.1:${port}/`).catch(() => "none")).toBe("none");
  expect(await proxy.control.update({}, { listeners: ["in-two"] })).toEqual([]);
  expect(await inside(one, get(`http://127.0.0.1:${port}/`))).toBe("routed\n");
  expect(await inside(two, get(`http://127.0.0.1:${port}/`))).toStartWith("failed");
  // With TLS, too, whose sockets are others.
  const secret = makeSecret(folder, "one", "one.example");
  const secure = tlsListener(port + 1, [{ kind: "tls" }, secret]);
  expect(await proxy.control.update({ secrets: [secret], listeners: [{ ...secure, ...inNamespace(two) }] })).toEqual(
    [],
  );
  const trusting = `fetch("https://127.0.0.1:${port + 1}/", { tls: { rejectUnauthorized: false } }).then((a) => a.text())`;
  expect(await inside(two, `console.log(await ${trusting})`)).toBe("routed\n");
  const rejected = await proxy.control.update({ listeners: [listener("nowhere", inNamespace("fl-t-none"))] });
  expect(rejected).toMatchObject([
    { name: "nowhere", reason: "network namespace /run/netns/fl-t-none does not exist" },
  ]);
});

test.skipIf(!isRoot)("what a rule sends here is passed on to where it wanted to go, and never in circles", async () => {
  const server = Bun.spawn(
    [
      "ip",
      "netns",
      "exec",
      one,
      process.execPath,
      "-e",
      `for (const hostname of ["10.255.78.1", "fd78::1"])
        Bun.serve({ hostname, port: 8080, fetch: () => new Response("meant") });
      console.log("up")`,
    ],
    { stdout: "pipe", stderr: "inherit" },
  );
  processes.push(server);
  await server.stdout.getReader().read();
  const update = {
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")])],
  };
  const redirected = { ...inNamespace(one), originalDestination: true };
  const passing = listener("redirected", redirected, { tcp: [], original: true });
  expect(await proxy.control.update({ ...update, listeners: [passing] })).toEqual([]);
  expect(await inside(two, get("http://10.255.78.1:8080/"))).toBe("meant\n");
  // Nobody is there, or nobody sent it.
  expect(await inside(two, get("http://10.255.78.1:8081/"))).toStartWith("failed");
  expect(await inside(two, get(`http://10.255.77.1:${port}/`))).toStartWith("failed");
  const metrics = await (await proxy.get("/metrics")).text();
  expect(metrics).toContain('fairlead_proxy_errors_total{reason="no_destination"} 1');
  expect(metrics).toContain('fairlead_proxy_errors_total{reason="connect_failed"} 1');
  // IPv6 has a question of its own (IP6T_SO_ORIGINAL_DST); a socket for both families is asked by the client's.
  const rest = { port, chains: passing.chains };
  const six = listener("six", { ...redirected, ...rest, address: "::" });
  expect(await proxy.control.update({ listeners: [six] }, { listeners: ["redirected"] })).toEqual([]);
  expect(await inside(two, get("http://[fd78::1]:8080/"))).toBe("meant\n");
  expect(await inside(two, get("http://[fd78::1]:8081/"))).toStartWith("failed");
  expect(await inside(two, get(`http://[fd77::1]:${port}/`))).toStartWith("failed");
  expect(await inside(two, get("http://10.255.78.1:8080/"))).toBe("meant\n");
  expect(await proxy.control.update({}, { listeners: ["six"] })).toEqual([]);
  // With backends, only the log is told of it.
  const balanced = listener("redirected", redirected, { tcp: [forwardTo("one")] });
  expect(await proxy.control.update({ listeners: [balanced] })).toEqual([]);
  expect(await inside(two, get("http://203.0.113.5:8443/"))).toBe("routed\n");
  let lines = "";
  while (!lines.includes("203.0.113.5:8443")) {
    await Bun.sleep(50);
    lines = await Bun.file(join(folder, "access.log")).text();
  }
  expect(JSON.parse(lines.split("\n")[0]!)).toMatchObject({ source: "10.255.77.2", destination: "10.255.78.1:8080" });
});

test.skipIf(!isRoot)("datagrams are taken in a namespace, and passed on from the proxy's own", async () => {
  const echoes = [];
  try {
    for (const hostname of ["127.0.0.1", "::1"]) {
      const data = (
        socket: { send(text: string, port: number, address: string): void },
        bytes: Buffer,
        port: number,
        address: string,
      ) => socket.send(`${bytes} heard`, port, address);
      echoes.push(await Bun.udpSocket({ hostname, socket: { data } }));
    }
    for (const [address, at, echo] of [
      ["10.255.77.1", "127.0.0.1", echoes[0]!],
      ["fd77::1", "::1", echoes[1]!],
    ] as const) {
      const datagrams = listener(
        "datagrams",
        { ...inNamespace(one), transport: "udp", address, port: 5353 },
        { tcp: [forwardTo("one")] },
      );
      const to = { backend: "one", from, endpoints: [{ address: at, port: echo.port, weight: 1 }] };
      const update = { backends: [backend("one", { protocol: "tcp" })], endpoints: [to], listeners: [datagrams] };
      expect(await proxy.control.update(update)).toEqual([]);
      const asking = `const socket = await Bun.udpSocket({
        hostname: "${address.includes(":") ? "::" : "0.0.0.0"}",
        connect: { hostname: "${address}", port: 5353 },
        socket: { data(_, bytes) { console.log(bytes.toString()); process.exit() } },
      });
      setTimeout(() => process.exit(), 5000);
      socket.send("hello")`;
      expect(await inside(two, asking)).toBe("hello heard\n");
    }
  } finally {
    for (const echo of echoes) echo.close();
  }
});
