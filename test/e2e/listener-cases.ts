// A proxy before listeners of any kind, and who connects to them: what tests of those (`listeners*`) begin with. A proxy, a port, servers
// and a folder are a test's own. Over loopback; needs openssl, no privileges.

import { afterEach, beforeEach, expect } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import net from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import type { FilterChain, Listener, WeightedBackend } from "../../src/model/model.ts";
import { freePort, from, ProxyUnderTest } from "./proxy-harness.ts";

export let proxy: ProxyUnderTest;
export let port: number;
export let folder: string;
export let http: ReturnType<typeof Bun.serve>;
export const servers: { close(): void }[] = [];

/** To be called once by a file: each of its tests gets all of these anew. */
export function eachListenerTest(): void {
  beforeEach(async () => {
    proxy = new ProxyUnderTest();
    port = freePort();
    folder = mkdtempSync(join(tmpdir(), "fl-t-listeners-"));
    http = Bun.serve({
      port: 0,
      hostname: "127.0.0.1",
      fetch: (request) => Response.json(Object.fromEntries(request.headers)),
    });
    await proxy.start("--access-log", join(folder, "access.log"));
  });

  afterEach(async () => {
    await proxy.stop();
    http.stop(true);
    for (const server of servers.splice(0)) server.close();
    rmSync(folder, { recursive: true, force: true });
  });
}

/** Puts a proxy that is started by another program (`setpriv …`) in the place of the first. */
export async function another(...prefix: readonly string[]): Promise<void> {
  await proxy.stop();
  proxy = new ProxyUnderTest(...prefix);
  await proxy.start();
}

export type Tcp = Extract<FilterChain["serve"], { tcp: unknown }>;

export function listener(...chains: readonly Omit<FilterChain, "from">[]): Listener {
  const ofChains = chains.map((chain) => ({ from, ...chain }));
  return { name: "port", from, scope: "gateway", address: "127.0.0.1", port, transport: "tcp", chains: ofChains };
}

export const plain = { kind: "plain" } as const;
export const sni = (...names: string[]) => ({ kind: "sni", names }) as const;
export const tcp = (...to: readonly WeightedBackend[]): Tcp => ({ tcp: to });
export const routes = { routes: "main" };

export async function put(update: { [type: string]: readonly object[] }): Promise<void> {
  expect(await proxy.control.update(update)).toEqual([]);
}

/** A TCP server on a port of its own. */
export async function serve(onConnection: (socket: net.Socket) => void): Promise<number> {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    onConnection(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  return (server.address() as net.AddressInfo).port;
}

/** A server that says its name to whoever connects, and closes. */
export const named = (name: string) => serve((socket) => socket.end(name));

/** All that comes until the other side ends; `reset` when it was cut off. */
export function read(socket: net.Socket): Promise<string> {
  return new Promise((resolve) => {
    const chunks: Buffer[] = [];
    const all = () => Buffer.concat(chunks).toString("latin1");
    socket.on("data", (bytes: Buffer) => chunks.push(bytes));
    socket.on("end", () => resolve(all()));
    socket.on("error", () => resolve(`${all()}reset`));
    socket.on("close", () => resolve(all()));
  });
}

export const connect = () => net.connect({ host: "127.0.0.1", port, allowHalfOpen: true });

export async function say(...parts: readonly (string | Uint8Array)[]): Promise<string> {
  const socket = connect();
  const answer = read(socket);
  for (const part of parts) socket.write(part);
  const text = await answer;
  socket.destroy();
  return text;
}

export interface Secured {
  readonly subject: string;
  readonly text: string;
  readonly reused: boolean;
  readonly session: Buffer | undefined;
}

/** A TLS connection that says `text` and reads until the end; or why there is none. */
export function secure(
  serverName: string,
  text: string,
  options: tls.ConnectionOptions = {},
): Promise<Secured | string> {
  return new Promise((resolve) => {
    const socket = tls.connect({
      host: "127.0.0.1",
      port,
      servername: serverName,
      rejectUnauthorized: false,
      ALPNProtocols: ["http/1.1"],
      ...options,
    });
    let session: Buffer | undefined;
    socket.on("session", (given) => {
      session = given;
    });
    socket.on("secureConnect", () => {
      const subject = String(socket.getPeerCertificate().subject?.CN);
      const reused = socket.isSessionReused();
      void read(socket).then((answer) => {
        if (answer === "" || answer === "reset") resolve("closed");
        else resolve({ subject, text: answer, reused, session });
        socket.destroy();
      });
      socket.write(text);
    });
    socket.on("error", (error) => resolve(error.message));
    socket.on("close", () => resolve("closed"));
  });
}

export const get = (host: string) => `GET / HTTP/1.1\r\nhost: ${host}\r\nconnection: close\r\n\r\n`;

/** The header fields that the backend saw. */
export function seen(answer: Secured | string): Record<string, string> {
  if (typeof answer === "string") throw new Error(answer);
  expect(answer.text).toStartWith("HTTP/1.1 200");
  return JSON.parse(answer.text.slice(answer.text.indexOf("{"), answer.text.lastIndexOf("}") + 1));
}

export async function log(): Promise<Record<string, unknown>[]> {
  for (;;) {
    const text = readFileSync(join(folder, "access.log"), "utf8");
    if (text !== "")
      return text
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line));
    await Bun.sleep(20);
  }
}

export async function metric(name: string): Promise<number> {
  const text = await (await proxy.get("/metrics")).text();
  const line = text.split("\n").find((one) => one.startsWith(`${name} `));
  return line === undefined ? 0 : Number(line.slice(name.length + 1));
}
