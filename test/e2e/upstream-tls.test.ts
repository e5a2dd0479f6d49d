// TLS from the proxy to backends: whom it trusts, by which names, with which certificate of its own, and what becomes of
// connections when secrets change. Needs openssl; no privileges.

import { expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { createSecureServer } from "node:http2";
import net from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import type { Backend } from "../../src/model/model.ts";
import type { UpstreamTls } from "../../src/model/upstream-policies.ts";
import { eachTest } from "./each-test.ts";
import { backend, endpoints, from, type ProxyUnderTest, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { RawClient } from "./proxy-raw.ts";

let proxy: ProxyUnderTest;
let port: number;
const ends = eachTest((fresh, free) => {
  proxy = fresh;
  port = free;
});

function openssl(...args: readonly string[]): void {
  const { exitCode, stderr } = Bun.spawnSync(["openssl", ...args]);
  if (exitCode !== 0) throw new Error(stderr.toString());
}

const newKey = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"];

/** An authority of its own, with what it signs: `san` as openssl writes it. */
class Authority {
  readonly #base: string;
  readonly certificate: string;

  constructor(name: string) {
    this.#base = join(proxy.folder, name);
    openssl(
      ...["req", "-x509", ...newKey, "-days", "2", "-subj", `/CN=${name}`],
      ...["-keyout", `${this.#base}.key`, "-out", `${this.#base}.crt`],
    );
    this.certificate = readFileSync(`${this.#base}.crt`, "utf8");
  }

  sign(name: string, san: string, days = "2"): { certificate: string; privateKey: string } {
    const base = join(proxy.folder, name);
    writeFileSync(`${base}.ext`, `subjectAltName=${san}\n`);
    openssl("req", ...newKey, "-subj", `/CN=${name}`, "-keyout", `${base}.key`, "-out", `${base}.csr`);
    openssl(
      ...["x509", "-req", "-in", `${base}.csr`, "-CA", `${this.#base}.crt`, "-CAkey", `${this.#base}.key`],
      ...["-days", days, "-extfile", `${base}.ext`, "-out", `${base}.crt`],
    );
    return { certificate: readFileSync(`${base}.crt`, "utf8"), privateKey: readFileSync(`${base}.key`, "utf8") };
  }
}

function secret(name: string, content: { kind: "authorities" | "certificate"; [field: string]: string }) {
  const fingerprint = createHash("sha256").update(JSON.stringify(content)).digest("hex");
  return { name, from, fingerprint, content };
}

const authorities = (name: string, { certificate }: { certificate: string }) =>
  secret(name, { kind: "authorities", certificates: certificate });

interface Seen {
  readonly serverName: string;
  readonly client: string;
  readonly reused: boolean;
}

/** A server with TLS that answers whatever it is asked, and tells of its connections. */
async function secureServer(options: tls.TlsOptions): Promise<{ port: number; connections: Seen[] }> {
  const connections: Seen[] = [];
  const sockets: tls.TLSSocket[] = [];
  const server = tls.createServer({ ALPNProtocols: ["http/1.1"], ...options }, (socket) => {
    sockets.push(socket);
    // Now: a closed socket knows nothing any more.
    connections.push({
      serverName: socket.servername || "",
      client: socket.getPeerCertificate()?.subjectaltname ?? "",
      reused: socket.isSessionReused(),
    });
    socket.on("error", () => {});
    socket.on("data", (bytes) => {
      const close = bytes.includes("/close") ? "connection: close\r\n" : "";
      socket.write(`HTTP/1.1 200 OK\r\ncontent-length: 2\r\n${close}\r\nok`);
      if (close) socket.end();
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  ends.push(() => {
    server.close();
    for (const socket of sockets) socket.destroy();
  });
  return { port: (server.address() as { port: number }).port, connections };
}

async function serve(
  at: number,
  config: UpstreamTls,
  secrets: readonly object[],
  more: Partial<Backend> = {},
): Promise<readonly { reason: string }[]> {
  if (!proxy.process) await proxy.start();
  return await proxy.control.update({
    secrets,
    backends: [backend("one", { tls: config, ...more })],
    endpoints: [endpoints("one", at)],
    routeTables: [routeTable([rule("all")])],
    listeners: [plainListener(port)],
  });
}

async function outcome(path = "/"): Promise<string> {
  const answer = await fetch(`http://127.0.0.1:${port}${path}`, { keepalive: false });
  return answer.status === 200 ? await answer.text() : `${answer.status} ${answer.headers.get("x-fairlead-reason")}`;
}

test("a certificate must be signed by whom the backend trusts, and have its name", async () => {
  const ours = new Authority("ours");
  const theirs = new Authority("theirs");
  const { certificate, privateKey } = ours.sign(
    "server",
    "DNS:orders.test,DNS:*.shop.test,IP:127.0.0.1,URI:spiffe://td/ns/a/sa/b",
  );
  const server = await secureServer({ cert: certificate, key: privateKey });
  const secrets = [authorities("ours", ours), authorities("theirs", theirs)];
  const at = (config: Partial<UpstreamTls>) => serve(server.port, { authorities: "ours", ...config }, secrets);
  const cases: [Partial<UpstreamTls>, string][] = [
    [{ serverName: "orders.test" }, "ok"],
    [{ serverName: "x.shop.test" }, "ok"],
    [{}, "ok"],
    [{ serverName: "other.test" }, "503 backend_has_other_name"],
    [{ serverName: "orders.test", authorities: "theirs" }, "503 backend_not_trusted"],
    [{ serverName: "orders.test", authorities: "system" }, "503 backend_not_trusted"],
    [{ serverName: "other.test", authorities: "insecure" }, "ok"],
    [
      { serverName: "other.test", names: [{ kind: "uri", match: { kind: "prefix", value: "spiffe://td/ns/a/" } }] },
      "ok",
    ],
    [
      { serverName: "orders.test", names: [{ kind: "uri", match: { kind: "exact", value: "spiffe://td/ns/b" } }] },
      "503 backend_has_other_name",
    ],
    [{ names: [{ kind: "dns", match: { kind: "exact", value: "y.shop.test" } }] }, "ok"],
    [{ names: [{ kind: "dns", match: { kind: "exact", value: "a.b.shop.test" } }] }, "503 backend_has_other_name"],
    [{ serverName: "orders.test", minVersion: "1.3" }, "ok"],
  ];
  for (const [config, expected] of cases) {
    expect(await at(config)).toEqual([]);
    expect([config, await outcome()]).toEqual([config, expected]);
  }
  // No name is sent where none is configured, and the configured one otherwise.
  expect(server.connections.map(({ serverName }) => serverName)).toContain("");
  expect(server.connections.map(({ serverName }) => serverName)).toContain("x.shop.test");
});

test("what is no TLS, too old or expired is refused", async () => {
  const ours = new Authority("ours");
  const { certificate, privateKey } = ours.sign("server", "DNS:orders.test");
  const old = await secureServer({ cert: certificate, key: privateKey, maxVersion: "TLSv1.2" });
  const plain = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("plain") });
  ends.push(() => plain.stop(true));
  const config: UpstreamTls = { authorities: "ours", serverName: "orders.test" };
  expect(await serve(old.port, { ...config, minVersion: "1.3" }, [authorities("ours", ours)])).toEqual([]);
  expect(await outcome()).toBe("503 handshake_failed");
  await serve(old.port, config, []);
  expect(await outcome()).toBe("ok");
  await serve(plain.port!, config, []);
  expect(await outcome()).toBe("503 handshake_failed");
  const gone = ours.sign("gone", "DNS:orders.test", "0");
  const expired = await secureServer({ cert: gone.certificate, key: gone.privateKey });
  await Bun.sleep(1_100);
  await serve(expired.port, config, []);
  expect(await outcome()).toBe("503 backend_not_trusted");
});

test("mutual TLS: the own certificate, and a changed one for new connections only", async () => {
  const ours = new Authority("ours");
  const { certificate, privateKey } = ours.sign("server", "DNS:orders.test");
  const first = ours.sign("first", "URI:spiffe://td/first");
  const second = ours.sign("second", "URI:spiffe://td/second");
  const server = await secureServer({ cert: certificate, key: privateKey, ca: ours.certificate, requestCert: true });
  const config: UpstreamTls = { authorities: "ours", serverName: "orders.test", certificate: "own" };
  expect(
    await serve(server.port, config, [authorities("ours", ours), secret("own", { kind: "certificate", ...first })]),
  ).toEqual([]);
  expect(await outcome()).toBe("ok");
  expect(await proxy.control.update({ secrets: [secret("own", { kind: "certificate", ...second })] })).toEqual([]);
  expect(await outcome("/close")).toBe("ok");
  expect(server.connections.length).toBe(1);
  expect(await outcome()).toBe("ok");
  expect(server.connections.map(({ client }) => client)).toEqual(["URI:spiffe://td/first", "URI:spiffe://td/second"]);
});

test("sessions are resumed", async () => {
  const ours = new Authority("ours");
  const { certificate, privateKey } = ours.sign("server", "DNS:orders.test");
  const server = await secureServer({ cert: certificate, key: privateKey });
  await serve(server.port, { authorities: "ours", serverName: "orders.test" }, [authorities("ours", ours)]);
  for (let index = 0; index < 3; index++) expect(await outcome("/close")).toBe("ok");
  expect(server.connections.map(({ reused }) => reused)).toEqual([false, true, true]);
});

test("HTTP/2 by ALPN, and a backend that does not speak it", async () => {
  const ours = new Authority("ours");
  const { certificate, privateKey } = ours.sign("server", "DNS:orders.test");
  const seen: string[] = [];
  const server = createSecureServer({ cert: certificate, key: privateKey }, (request, response) => {
    seen.push(`${request.httpVersion} ${request.headers[":scheme"]}`);
    response.end("ok");
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  ends.push(() => server.close());
  const at = (server.address() as { port: number }).port;
  const config: UpstreamTls = { authorities: "ours", serverName: "orders.test" };
  expect(await serve(at, config, [authorities("ours", ours)], { protocol: "h2c" })).toEqual([]);
  expect(await outcome()).toBe("ok");
  expect(seen).toEqual(["2.0 https"]);
  const older = await secureServer({ cert: certificate, key: privateKey });
  await serve(older.port, config, [], { protocol: "h2c" });
  expect(await outcome()).toMatch(/^50[23] (upgrade_refused|handshake_failed)$/);
});

test("relayed connections are encrypted on the way to the backend, halves and all, or not made", async () => {
  const ours = new Authority("ours");
  const { certificate, privateKey } = ours.sign("server", "DNS:orders.test");
  const server = tls.createServer({ cert: certificate, key: privateKey, allowHalfOpen: true }, (socket) => {
    const parts: Buffer[] = [];
    socket.on("data", (part: Buffer) => parts.push(part));
    socket.on("end", () => socket.end(`you said ${Buffer.concat(parts)}`));
    socket.on("error", () => {});
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  ends.push(() => server.close());
  const at = (server.address() as { port: number }).port;
  await proxy.start();
  const relay = async (serverName: string) => {
    const to = [{ from, weight: 1, target: { backend: "one" }, filters: [] }];
    const rejected = await proxy.control.update({
      secrets: [authorities("ours", ours)],
      backends: [backend("one", { protocol: "tcp", tls: { authorities: "ours", serverName } })],
      endpoints: [endpoints("one", at)],
      listeners: [{ ...plainListener(port), chains: [{ from, when: { kind: "plain" }, serve: { tcp: to } }] }],
    });
    expect(rejected).toEqual([]);
    const client = await RawClient.connect(port);
    client.send("hello");
    client.socket.shutdown();
    return await client.read(() => false);
  };
  expect(await relay("orders.test")).toBe("you said hello");
  expect(await relay("other.test")).toBe("");
});

test("a PROXY header goes in the clear before the handshake, with requests and with what is passed through", async () => {
  const ours = new Authority("ours");
  const { certificate, privateKey } = ours.sign("server", "DNS:orders.test");
  const context = tls.createSecureContext({ cert: certificate, key: privateKey });
  const heads: string[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on("error", () => {});
    socket.once("data", (bytes: Buffer) => {
      const end = bytes.indexOf("\r\n") + 2;
      socket.pause();
      if (bytes.length > end) socket.unshift(bytes.subarray(end));
      const secure = new tls.TLSSocket(socket, { isServer: true, secureContext: context, ALPNProtocols: ["http/1.1"] });
      const reused = () => (secure.isSessionReused() ? " again" : "");
      secure.on("data", (said: Buffer) => {
        heads.push(`${bytes.subarray(0, end)}${said.toString().split(" ")[0]}${reused()}`);
        if (said.includes("HTTP/1.1")) secure.write("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
      });
      secure.on("end", () => secure.end("heard"));
      secure.on("error", () => {});
    });
  });
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  ends.push(() => server.close());
  const at = (server.address() as { port: number }).port;
  const config: UpstreamTls = { authorities: "ours", serverName: "orders.test" };
  const secrets = [authorities("ours", ours)];
  expect(await serve(at, config, secrets, { proxyProtocol: 1 })).toEqual([]);
  expect([await outcome(), await outcome()]).toEqual(["ok", "ok"]);
  const begin = `PROXY TCP4 127.0.0.1 127.0.0.1 PORT ${port}\r\n`;
  const said = () => heads.splice(0).map((text) => text.replace(/ \d+ (\d+)\r/, " PORT $1\r"));
  expect(said()).toEqual([`${begin}GET`, `${begin}GET again`]);
  // Whom it is sent to is looked at as ever.
  expect(await serve(at, { ...config, serverName: "other.test" }, [], { proxyProtocol: 1 })).toEqual([]);
  expect(await outcome()).toBe("503 backend_has_other_name");
  const to = [{ from, weight: 1, target: { backend: "one" }, filters: [] }];
  const rejected = await proxy.control.update({
    backends: [backend("one", { protocol: "tcp", tls: config, proxyProtocol: 1 })],
    listeners: [{ ...plainListener(port), chains: [{ from, when: { kind: "plain" }, serve: { tcp: to } }] }],
  });
  expect(rejected).toEqual([]);
  const client = await RawClient.connect(port);
  client.send("hello you");
  client.socket.shutdown();
  expect(await client.read(() => false)).toBe("heard");
  expect(said()).toEqual([`${begin}hello`]);
});

test("secrets that are missing or do not fit are refused with the backend", async () => {
  const ours = new Authority("ours");
  const one = ours.sign("one", "DNS:a.test");
  const two = ours.sign("two", "DNS:b.test");
  expect(await serve(1, { authorities: "nobody" }, [])).toMatchObject([
    { reason: "tls: its authorities nobody are not known" },
  ]);
  const mixed = secret("mixed", { kind: "certificate", certificate: one.certificate, privateKey: two.privateKey });
  const [refused] = await serve(1, { authorities: "system", certificate: "mixed" }, [mixed]);
  expect(refused!.reason).toContain("the key of mixed does not fit its certificate");
});
