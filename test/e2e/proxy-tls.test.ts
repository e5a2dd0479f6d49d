// TLS at the proxy's listeners: names, certificates and their change, over loopback. Needs openssl, no privileges.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { X509Certificate } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import type { FilterChain, Listener } from "../../src/model/model.ts";
import { backend, endpoints, freePort, ProxyUnderTest, routeTable, rule } from "./proxy-harness.ts";
import { makeSecret, tlsListener } from "./proxy-secrets.ts";

let proxy: ProxyUnderTest;
let port: number;
let folder: string;
let server: ReturnType<typeof Bun.serve>;

beforeEach(async () => {
  proxy = new ProxyUnderTest();
  port = freePort();
  folder = mkdtempSync(join(tmpdir(), "fl-t-tls-"));
  server = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    fetch: (request) => Response.json(Object.fromEntries(request.headers)),
  });
  await proxy.start();
});

afterEach(async () => {
  await proxy.stop();
  server.stop(true);
  rmSync(folder, { recursive: true, force: true });
});

function secret(name: string, ...dns: string[]) {
  return makeSecret(folder, name, ...dns);
}

function listener(...chains: [when: FilterChain["when"], ...secrets: string[]][]): Listener {
  return tlsListener(
    port,
    ...chains.map(([when, ...names]) => [when, ...names.map((name) => ({ name: `secret/test/${name}` }))] as const),
  );
}

function resources(secrets: readonly object[], listeners: readonly Listener[]) {
  return {
    secrets,
    backends: [backend("one")],
    endpoints: [endpoints("one", server.port!)],
    routeTables: [routeTable([rule("all")])],
    listeners,
  };
}

async function serve(...what: Parameters<typeof resources>) {
  return await proxy.control.update(resources(...what));
}

/** The subject of the certificate that a client is shown, or why there is no connection. */
function shown(serverName: string | undefined, options: tls.ConnectionOptions = {}): Promise<string> {
  return new Promise((resolve) => {
    const socket = tls.connect({
      host: "127.0.0.1",
      port,
      rejectUnauthorized: false,
      ...(serverName ? { servername: serverName } : {}),
      ...options,
    });
    socket.on("secureConnect", () => {
      const certificate = new X509Certificate(socket.getPeerCertificate().raw);
      socket.destroy();
      resolve(certificate.subject);
    });
    socket.on("error", (error) => resolve(`no connection: ${error.message}`));
    socket.on("close", () => resolve("no connection: closed"));
  });
}

test("the certificate is chosen by name: exact, wildcard, else the chain's first", async () => {
  const secrets = [
    secret("default", "default.example"),
    secret("wild", "*.example.com"),
    secret("exact", "api.example.com"),
  ];
  expect(await serve(secrets, [listener([{ kind: "tls" }, "default", "wild", "exact"])])).toEqual([]);
  expect(await shown("api.example.com")).toBe("CN=exact");
  expect(await shown("API.example.com")).toBe("CN=exact");
  expect(await shown("other.example.com")).toBe("CN=wild");
  expect(await shown("a.b.example.com")).toBe("CN=default");
  expect(await shown(undefined)).toBe("CN=default");
  const answer = await fetch(`https://127.0.0.1:${port}/`, { tls: { rejectUnauthorized: false } });
  expect(await answer.json()).toMatchObject({ "x-forwarded-proto": "https" });
});

test("a name that no chain takes is not served", async () => {
  const when = { kind: "sni" as const, names: ["*.example.com"] };
  expect(await serve([secret("wild", "*.example.com")], [listener([when, "wild"])])).toEqual([]);
  expect(await shown("api.example.com")).toBe("CN=wild");
  expect(await shown("api.example.org")).toStartWith("no connection");
  expect(await shown(undefined)).toStartWith("no connection");
  const metrics = await (await proxy.get("/metrics")).text();
  expect(metrics).toContain('fairlead_proxy_tls_handshakes_total{result="unknown_name"} 1');
});

test("h2 is agreed on before http/1.1, and a client that insists on another protocol is refused", async () => {
  expect(await serve([secret("one", "one.example")], [listener([{ kind: "tls" }, "one"])])).toEqual([]);
  const agreed = (protocols: string[]) =>
    new Promise<string | false | null>((resolve) => {
      const socket = tls.connect({ host: "127.0.0.1", port, rejectUnauthorized: false, ALPNProtocols: protocols });
      socket.on("secureConnect", () => {
        resolve(socket.alpnProtocol);
        socket.destroy();
      });
    });
  expect(await agreed(["http/1.1", "h2"])).toBe("h2");
  expect(await agreed(["http/1.1"])).toBe("http/1.1");
  expect(await shown("one.example", { ALPNProtocols: ["spdy/3"] })).toStartWith("no connection");
  expect(await shown("one.example", { maxVersion: "TLSv1.1", minVersion: "TLSv1" })).toStartWith("no connection");
});

test("a new certificate serves new connections and leaves old ones alone", async () => {
  expect(await serve([secret("one", "one.example")], [listener([{ kind: "tls" }, "one"])])).toEqual([]);
  const socket = tls.connect({ host: "127.0.0.1", port, servername: "one.example", rejectUnauthorized: false });
  const ask = () =>
    new Promise<string>((resolve, reject) => {
      socket.once("data", (bytes) => resolve(bytes.toString().slice(0, 15)));
      socket.once("close", () => reject(new Error("closed")));
      socket.write("GET / HTTP/1.1\r\nhost: one.example\r\n\r\n");
    });
  expect(await ask()).toBe("HTTP/1.1 200 OK");
  const renewed = { ...secret("renewed", "one.example"), name: "secret/test/one" };
  expect(await proxy.control.update({ secrets: [renewed] })).toEqual([]);
  expect(await shown("one.example")).toBe("CN=renewed");
  expect(await shown(undefined)).toBe("CN=renewed");
  expect(await ask()).toBe("HTTP/1.1 200 OK");
  socket.destroy();
});

test("a key that does not fit is refused, and its text appears nowhere", async () => {
  const one = secret("one", "one.example");
  const other = secret("other", "one.example");
  expect(await serve([one], [listener([{ kind: "tls" }, "one"])])).toEqual([]);
  const mixed = {
    ...one,
    fingerprint: other.fingerprint,
    content: { ...one.content, privateKey: other.content.privateKey },
  };
  const rejected = await proxy.control.update({ secrets: [mixed] });
  expect(rejected).toMatchObject([{ resource: "secrets", name: "secret/test/one" }]);
  expect(await shown("one.example")).toBe("CN=one");
  const config = await (await proxy.get("/config")).text();
  expect(config).toContain("[redacted]");
  for (const text of [JSON.stringify(rejected), config]) {
    expect(text).not.toContain("PRIVATE KEY");
    expect(text).not.toContain(other.content.privateKey.split("\n")[1]!);
  }
});

test("a listener whose certificate is not known is refused, and opened once it is", async () => {
  const rejected = await serve([], [listener([{ kind: "tls" }, "one"])]);
  expect(rejected).toMatchObject([
    { resource: "listeners", name: "https", reason: expect.stringContaining("secret/test/one") },
  ]);
  expect(await serve([secret("one", "one.example")], [listener([{ kind: "tls" }, "one"])])).toEqual([]);
  expect(await shown("one.example")).toBe("CN=one");
});

test("clients that speak no TLS, or nothing, do not disturb the others", async () => {
  expect(await serve([secret("one", "one.example")], [listener([{ kind: "tls" }, "one"])])).toEqual([]);
  const answer = await fetch(`http://127.0.0.1:${port}/`).catch((error) => String(error));
  expect(answer).not.toHaveProperty("status", 200);
  expect(await shown("one.example")).toBe("CN=one");
  const metrics = await (await proxy.get("/metrics")).text();
  expect(metrics).toMatch(/tls_handshakes_total\{result="failed"\} [1-9]/);
});

test("a large body crosses TLS in both directions", async () => {
  expect(await serve([secret("one", "one.example")], [listener([{ kind: "tls" }, "one"])])).toEqual([]);
  server.reload({ fetch: async (request) => new Response(await request.arrayBuffer()) });
  const body = new Uint8Array(8 * 1024 * 1024).map((_, index) => index % 251);
  const answer = await fetch(`https://127.0.0.1:${port}/`, {
    method: "POST",
    body,
    tls: { rejectUnauthorized: false },
  });
  expect(Bun.hash(await answer.arrayBuffer())).toBe(Bun.hash(body));
});

/** One request on a connection that offers a session: whether it was resumed, and the session to offer next. */
function again(maxVersion: "TLSv1.2" | "TLSv1.3", offered: Buffer | undefined) {
  return new Promise<{ resumed: boolean; session: Buffer | undefined }>((resolve, reject) => {
    const options = { host: "127.0.0.1", port, servername: "one.example", rejectUnauthorized: false, maxVersion };
    const socket = tls.connect({ ...options, ...(offered ? { session: offered } : {}) });
    let session = offered;
    let text = "";
    socket.on("session", (given) => {
      session = given;
    });
    socket.on("secureConnect", () => {
      const resumed = socket.isSessionReused();
      socket.on("end", () => {
        if (text.startsWith("HTTP/1.1 200 ")) resolve({ resumed, session });
        else reject(new Error(`answer: ${text}`));
      });
      socket.write("GET / HTTP/1.1\r\nhost: one.example\r\nconnection: close\r\n\r\n");
    });
    socket.on("data", (bytes) => {
      text += bytes;
    });
    socket.on("error", reject);
  });
}

for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
  test(`a session of ${version} is resumed by the process that gave it; another on its port makes a full handshake`, async () => {
    const what = [[secret("one", "one.example")], [listener([{ kind: "tls" }, "one"])]] as const;
    expect(await serve(...what)).toEqual([]);
    const count = async () => {
      let resumed = 0;
      let session: Buffer | undefined;
      for (let connection = 0; connection <= 20; connection++) {
        const done = await again(version, session);
        if (done.resumed) resumed++;
        session = done.session;
      }
      return resumed;
    };
    expect(await count()).toBe(20);
    // As workers are, and as processes are while one takes over (docs/decisions/0011).
    const fellow = new ProxyUnderTest();
    try {
      await fellow.start("--admin", proxy.admin);
      expect(await fellow.control.update(resources(...what))).toEqual([]);
      const resumed = await count();
      expect(resumed).toBeGreaterThan(0);
      expect(resumed).toBeLessThan(20);
    } finally {
      await fellow.stop();
    }
  });
}

test("early data is not invited", async () => {
  expect(await serve([secret("one", "one.example")], [listener([{ kind: "tls" }, "one"])])).toEqual([]);
  const session = join(folder, "session");
  const early = join(folder, "early");
  const request = "GET / HTTP/1.1\r\nhost: one.example\r\nconnection: close\r\n\r\n";
  await Bun.write(early, request);
  const openssl = async (...words: readonly string[]) => {
    const common = ["-connect", `127.0.0.1:${port}`, "-servername", "one.example", "-tls1_3", "-ign_eof"];
    const child = Bun.spawn(["timeout", "20", "openssl", "s_client", ...common, ...words], {
      ...{ stdin: new Blob([request]), stdout: "pipe", stderr: "ignore" },
    });
    return await new Response(child.stdout).text();
  };
  expect(await openssl("-sess_out", session)).toContain("Max Early Data: 0");
  const second = await openssl("-sess_in", session, "-early_data", early);
  expect(second).toContain("Early data was not sent");
  expect(second).toContain("Reused, TLSv1.3");
});
