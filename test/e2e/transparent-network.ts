// A client, a proxy's place on the way and a server, each in a network namespace, with the routing and the rules (TPROXY, and what brings
// answers to clients' addresses back) that a transparent proxy needs. Needs root, ip, iptables and nft.

import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Backend, FilterChain, Listener } from "../../src/model/model.ts";
import { backend, from } from "./proxy-harness.ts";

export const [client, middle, server] = ["c", "p", "s"].map((one) => `fl-t-tr-${process.pid}-${one}`) as [
  string,
  string,
  string,
];
/** The client's, the proxy's on both sides, and the server's. */
export const four = {
  client: "10.255.81.2",
  other: "10.255.81.3",
  near: "10.255.81.1",
  far: "10.255.82.1",
  server: "10.255.82.2",
};
export const six = { client: "fd81::2", other: "fd81::3", near: "fd81::1", far: "fd82::1", server: "fd82::2" };
export const serverPort = 8080;
export const otherPort = 8081;
export const datagramPort = 5353;
export const onPort = 15_001;
/** Of packets to backends, and of what is to be delivered here. */
export const mark = 1338;
const here = 133;

let answering: Subprocess<"ignore", "pipe", "inherit"> | undefined;

function run(command: string): string {
  const done = Bun.spawnSync(command.split(" "));
  if (done.exitCode !== 0) throw new Error(`${command}: ${done.stderr}`);
  return done.stdout.toString();
}

/** Tells each request who sent it, and each connection of the other port, too. */
const program = `
  for (const hostname of ["${four.server}", "${six.server}"]) {
    Bun.serve({ hostname, port: ${serverPort}, fetch: (request, server) => {
      const { address, port } = server.requestIP(request);
      return new Response("from " + address + " " + new URL(request.url).pathname + " " + port);
    } });
    Bun.listen({ hostname, port: ${otherPort}, socket: { data(socket, bytes) {
      const head = bytes.toString().split("\\r\\n")[0];
      socket.end("HTTP/1.1 200 OK\\r\\nconnection: close\\r\\n\\r\\n" + head + " from " + socket.remoteAddress);
    } } });
  }
  // A client that did not wait: the kernel says so at the next answer, whoever that is for, and does not send it.
  const send = (socket, text, port, address) => {
    for (let attempt = 0; attempt < 4; attempt++) try { return socket.send(text, port, address); } catch {}
  };
  for (const hostname of ["${four.server}", "${six.server}"])
    await Bun.udpSocket({ hostname, port: ${datagramPort}, socket: {
      data: (socket, bytes, port, address) => send(socket, bytes + " from " + address, port, address), error() {} } });
  console.log("up");
`;

/** Makes all of it, and starts the server; `folder` is for files. */
export async function makeNetwork(folder: string): Promise<void> {
  for (const name of [client, middle, server]) {
    run(`ip netns add ${name}`);
    run(`ip -n ${name} link set lo up`);
    // Neighbours of a client's address are asked for from a link-local one, which would not be there for the first two seconds.
    for (const on of ["all", "default"]) run(`ip netns exec ${name} sysctl -qw net.ipv6.conf.${on}.accept_dad=0`);
  }
  const link = (a: string, b: string, names: readonly [string, string]) => {
    run(`ip link add ${a} netns ${names[0]} type veth peer name ${b} netns ${names[1]}`);
    run(`ip -n ${names[0]} link set ${a} up`);
    run(`ip -n ${names[1]} link set ${b} up`);
  };
  link("near", "there", [middle, client]);
  link("far", "there", [middle, server]);
  const address = (name: string, device: string, text: string) =>
    run(`ip -n ${name} addr add ${text} dev ${device}${text.includes(":") ? " nodad" : ""}`);
  for (const [family, size] of [
    [four, 24],
    [six, 64],
  ] as const) {
    address(client, "there", `${family.client}/${size}`);
    address(client, "there", `${family.other}/${size}`);
    address(middle, "near", `${family.near}/${size}`);
    address(middle, "far", `${family.far}/${size}`);
    address(server, "there", `${family.server}/${size}`);
    const flag = family === six ? "-6" : "-4";
    run(`ip -n ${client} ${flag} route add default via ${family.near}`);
    run(`ip -n ${server} ${flag} route add default via ${family.far}`);
    // What comes back to a client's address is delivered here, and so is what TPROXY has marked.
    run(`ip -n ${middle} ${flag} rule add iif far fwmark ${mark} lookup ${here}`);
    run(`ip -n ${middle} ${flag} rule add iif near fwmark 1 lookup ${here}`);
    run(`ip -n ${middle} ${flag} route add local default dev lo table ${here}`);
  }
  // Connections that the proxy has marked stay its own, both ways, and are not taken for a client's from the same port (zones); and nft's tproxy for IPv6, iptables' TPROXY for IPv4.
  const rules = join(folder, "rules");
  writeFileSync(
    rules,
    `table inet back {
       chain own-out { type filter hook output priority raw; meta mark ${mark} ct zone set 1; }
       chain own-in { type filter hook prerouting priority raw; iifname far ct zone set 1; }
       chain out { type filter hook output priority mangle; meta mark ${mark} ct mark set meta mark; }
       chain in { type filter hook prerouting priority mangle; ct mark ${mark} meta mark set ct mark; }
     }
     table ip6 taken {
       chain in {
         type filter hook prerouting priority mangle;
         iifname near tcp dport 8000-9000 tproxy to :${onPort} meta mark set 1 accept
         iifname near udp dport 5353-5354 tproxy to :${onPort} meta mark set 1 accept
       }
     }`,
  );
  run(`ip netns exec ${middle} nft -f ${rules}`);
  run(
    `ip netns exec ${middle} iptables -w -t mangle -A PREROUTING -i near -p tcp --dport 8000:9000 -j TPROXY --on-port ${onPort} --tproxy-mark 1`,
  );
  run(
    `ip netns exec ${middle} iptables -w -t mangle -A PREROUTING -i near -p udp --dport 5353:5354 -j TPROXY --on-port ${onPort} --tproxy-mark 1`,
  );
  answering = Bun.spawn(["ip", "netns", "exec", server, process.execPath, "-e", program], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "inherit",
  });
  await answering.stdout.getReader().read();
}

export async function removeNetwork(): Promise<void> {
  answering?.kill("SIGKILL");
  await answering?.exited;
  for (const name of [client, middle, server]) Bun.spawnSync(["ip", "netns", "del", name]);
}

/** Of requests, at the proxy; `more` says what is otherwise. */
export function listener(name: string, more: Partial<Listener>): Listener {
  const chains: FilterChain[] = [{ from, when: { kind: "plain" }, serve: { routes: "main" } }];
  return { name, from, scope: "gateway", address: four.near, port: 7000, transport: "tcp", chains, ...more };
}

/** A backend with its clients' addresses, and its endpoint. */
export function toServer(name: string, address: string, port: number, more: Partial<Backend> = {}) {
  return {
    backends: [backend(name, { originalSource: { mark }, ...more })],
    endpoints: [{ backend: name, from, endpoints: [{ address, port, weight: 1 }] }],
  };
}
