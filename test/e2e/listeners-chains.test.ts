// Which chain of a listener takes a connection: passed through by name or not, plain text and TLS on one port, client certificates,
// and what is answered to whom came to the wrong one. Over loopback; needs openssl, no privileges.

import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import http2 from "node:http2";
import net from "node:net";
import { join } from "node:path";
import tls from "node:tls";
import {
  connect,
  eachListenerTest,
  folder,
  get,
  http,
  listener,
  log,
  metric,
  plain,
  port,
  proxy,
  put,
  read,
  routes,
  type Secured,
  say,
  secure,
  seen,
  serve,
  servers,
  sni,
  tcp,
} from "./listener-cases.ts";
import { backend, endpoints, forwardTo, routeTable, rule } from "./proxy-harness.ts";
import { makeAuthority, makeSecret } from "./proxy-secrets.ts";

eachListenerTest();

test("one port: TLS passed through by exact name and wildcard, ended for others, and plain text", async () => {
  const inside = makeSecret(folder, "inside", "db.example");
  const outside = makeSecret(folder, "outside", "web.example");
  const { certificate, privateKey } = inside.content;
  const server = tls.createServer({ cert: certificate, key: privateKey }, (socket) => {
    socket.end(`inside ${String(socket.servername)}`);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  servers.push(server);
  const context = { certificates: [outside.name], alpn: [] };
  await put({
    secrets: [outside],
    backends: [backend("one"), backend("db", { protocol: "tcp" }), backend("words", { protocol: "tcp" })],
    endpoints: [
      endpoints("one", http.port!),
      endpoints("db", (server.address() as net.AddressInfo).port),
      endpoints("words", await serve((socket) => socket.pipe(socket))),
    ],
    routeTables: [routeTable([rule("all")])],
    listeners: [
      listener(
        { when: sni("db.example", "*.db.example"), serve: tcp(forwardTo("db")) },
        { when: sni("words.example"), tls: context, serve: tcp(forwardTo("words")) },
        { when: { kind: "tls" }, tls: context, serve: routes },
        { when: plain, serve: routes },
      ),
    ],
  });
  expect(await secure("db.example", "x")).toMatchObject({ subject: "inside", text: "inside db.example" });
  expect(await secure("a.db.example", "x")).toMatchObject({ subject: "inside", text: "inside a.db.example" });
  expect(seen(await secure("web.example", get("web.example")))).toMatchObject({ "x-forwarded-proto": "https" });
  expect(await (await fetch(`http://127.0.0.1:${port}/`)).json()).toMatchObject({ "x-forwarded-proto": "http" });
  const h2 = await fetch(`https://127.0.0.1:${port}/`, {
    protocol: "http2",
    tls: { rejectUnauthorized: false },
  } as never);
  expect(h2.status).toBe(200);
  // Ended here and passed on as it is, half-close included.
  const words = tls.connect({ host: "127.0.0.1", port, servername: "words.example", rejectUnauthorized: false });
  const heard = read(words);
  words.end("there and back");
  expect(await heard).toBe("there and back");
  // A ClientHello in pieces is one all the same.
  const relay = net.createServer((socket) => {
    const to = connect();
    to.setNoDelay(true);
    to.pipe(socket);
    socket.on("data", async (bytes: Buffer) => {
      socket.pause();
      for (let at = 0; at < bytes.length; at += 100) {
        to.write(bytes.subarray(at, at + 100));
        await Bun.sleep(1);
      }
      socket.resume();
    });
    socket.on("error", () => to.destroy());
    to.on("error", () => socket.destroy());
  });
  await new Promise<void>((resolve) => relay.listen(0, "127.0.0.1", resolve));
  servers.push(relay);
  const pieces = { port: (relay.address() as net.AddressInfo).port };
  expect(await secure("db.example", "x", pieces)).toMatchObject({ subject: "inside" });
  expect(seen(await secure("web.example", get("web.example"), pieces))).toMatchObject({ host: "web.example" });
});

test("a chain is found by what a client offers, where it comes from and where it wanted to go", async () => {
  const one = makeSecret(folder, "one", "one.example");
  const words = await serve((socket) => socket.once("data", (bytes) => socket.end(`words ${bytes}`)));
  const context = { certificates: [one.name], alpn: ["imap", "http/1.1"] };
  const chains = listener(
    { when: { kind: "tls", protocols: ["imap", "pop3"] }, tls: context, serve: tcp(forwardTo("words")) },
    { when: { kind: "tls" }, tls: context, serve: routes },
    { when: { kind: "plain", source: ["192.0.2.0/24"], destinationPorts: [25] }, serve: tcp(forwardTo("words")) },
    { when: { kind: "plain", source: ["192.0.2.0/24"] }, serve: routes },
  );
  await put({
    secrets: [one],
    backends: [backend("one"), backend("words", { protocol: "tcp" })],
    endpoints: [endpoints("one", http.port!), endpoints("words", words)],
    routeTables: [routeTable([rule("all")])],
    listeners: [{ ...chains, proxyProtocol: true }],
  });
  const header = (source: string, at: number) => `PROXY TCP4 ${source} 198.51.100.7 4000 ${at}\r\n`;
  expect(await say(header("192.0.2.1", 25), "hello")).toBe("words hello");
  expect(await say(header("192.0.2.1", 80), get("a.example"))).toStartWith("HTTP/1.1 200 ");
  expect(await say(header("203.0.113.1", 80), get("a.example"))).toMatch(/^(reset)?$/);
  await put({ listeners: [chains] });
  expect(await secure("one.example", "hello", { ALPNProtocols: ["imap"] })).toMatchObject({ text: "words hello" });
  expect(seen(await secure("one.example", get("one.example")))).toMatchObject({ host: "one.example" });
  // Of the connection itself, where no header says anything.
  expect(await say(get("a.example"))).toMatch(/^(reset)?$/);
  const here = { kind: "plain", destination: ["127.0.0.0/8"], destinationPorts: [port] } as const;
  await put({ listeners: [listener({ when: here, serve: routes })] });
  expect(await say(get("a.example"))).toStartWith("HTTP/1.1 200 ");
});

test("a request for the host of another chain is misdirected, whether or not its routes are here", async () => {
  const one = makeSecret(folder, "one", "*.example");
  const context = { certificates: [one.name], alpn: [] };
  await put({
    secrets: [one],
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")]), { ...routeTable([rule("all")]), name: "other" }],
    listeners: [
      listener(
        { when: sni("a.example"), tls: context, serve: routes },
        { when: sni("b.example"), tls: context, serve: { routes: "other" } },
        { when: sni("c.example"), tls: context, serve: routes },
      ),
    ],
  });
  const status = async (name: string, host: string) => {
    const answer = await secure(name, get(host));
    return typeof answer === "string" ? answer : answer.text.slice(9, 12);
  };
  expect(await status("a.example", "a.example")).toBe("200");
  expect(await status("a.example", "b.example")).toBe("421");
  expect(await status("b.example", "A.example:443")).toBe("421");
  // A chain that has the same routes and lets the same clients in is as good.
  expect(await status("a.example", "c.example")).toBe("200");
  expect(await status("b.example", "nobody.example")).toBe("200");
});

test("over HTTP/2, whose clients go on with a connection for other hosts, 421 has them make one of their own", async () => {
  const one = makeSecret(folder, "one", "*.example");
  const authority = makeAuthority(folder, "authority");
  const context = { certificates: [one.name], alpn: ["h2"] };
  const clients = { mode: "require", authorities: authority.secret.name } as const;
  await put({
    secrets: [one, authority.secret],
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")]), { ...routeTable([rule("all")]), name: "other" }],
    listeners: [
      listener(
        { when: sni("a.example"), tls: context, serve: routes },
        { when: sni("b.example"), tls: context, serve: { routes: "other" } },
        { when: sni("c.example"), tls: { ...context, clients }, serve: routes },
      ),
    ],
  });
  const session = http2.connect(`https://127.0.0.1:${port}`, { servername: "a.example", rejectUnauthorized: false });
  servers.push(session);
  const ask = (authority: string, more: http2.OutgoingHttpHeaders = {}) =>
    new Promise<http2.IncomingHttpHeaders>((resolve, reject) => {
      const stream = session.request({ ":authority": authority, ":path": "/", ...more });
      stream.on("response", resolve);
      stream.on("error", reject);
      stream.resume().end();
    });
  const grpc = { ":method": "POST", "content-type": "application/grpc", te: "trailers" };
  for (const host of ["b.example", "c.example", "B.example:443"]) {
    expect(await ask(host)).toMatchObject({ ":status": 421, "x-fairlead-reason": "misdirected" });
    // A client of gRPC reads no other status.
    expect(await ask(host, grpc)).toMatchObject({
      ":status": 200,
      "content-type": "application/grpc",
      "grpc-status": expect.stringMatching(/^[1-9]\d*$/),
      "x-fairlead-reason": "misdirected",
    });
  }
  // The connection is as good as before for its own.
  expect(await ask("a.example")).toMatchObject({ ":status": 200 });
  expect(await metric('fairlead_proxy_errors_total{reason="misdirected"}')).toBe(6);
});

test("clients are let in by authority and name, and backends are told who they are, and only that", async () => {
  const server = makeSecret(folder, "server", "must.example", "may.example", "free.example");
  const authority = makeAuthority(folder, "authority");
  const client = authority.issue("client", "URI:spiffe://fleet/shop,DNS:shop.example");
  const other = authority.issue("other", "URI:spiffe://fleet/other");
  const stranger = makeAuthority(folder, "elsewhere").issue("stranger", "URI:spiffe://fleet/shop");
  const clients = { mode: "require", authorities: authority.secret.name } as const;
  const names = [{ kind: "uri", match: { kind: "exact", value: "spiffe://fleet/shop" } }] as const;
  const context = { certificates: [server.name], alpn: [] };
  const template = "%REQUESTED_SERVER_NAME% %DOWNSTREAM_TLS_VERSION% %DOWNSTREAM_PEER_URI_SAN%";
  const told = { ...clients, names, tell: ["hash", "subject", "uri", "dns"] } as const;
  await put({
    secrets: [server, authority.secret],
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")])],
    listeners: [
      listener(
        { when: sni("must.example"), tls: { ...context, clients: told }, serve: routes },
        { when: sni("may.example"), tls: { ...context, clients: { ...clients, mode: "optional" } }, serve: routes },
        { when: { kind: "tls" }, tls: context, serve: routes },
      ),
    ].map((one) => ({ ...one, accessLog: { path: join(folder, "text.log"), format: { text: template } } })),
  });
  const forged = (host: string) =>
    get(host).replace("\r\n\r\n", "\r\nX-Forwarded-Client-Cert: URI=spiffe://fleet/admin\r\n\r\n");
  const header = seen(await secure("must.example", forged("must.example"), client))["x-forwarded-client-cert"];
  expect(header).toMatch(/^Hash=[0-9a-f]{64};Subject="CN=client";URI=spiffe:\/\/fleet\/shop;DNS=shop.example$/);
  // Who has none is told so by an alert, as far as the version has one for that; of others the connection is closed.
  expect(await secure("must.example", get("must.example"))).toContain("CERTIFICATE_REQUIRED");
  expect(await secure("must.example", get("must.example"), { maxVersion: "TLSv1.2" })).toContain("HANDSHAKE_FAILURE");
  for (const options of [other, stranger]) {
    expect(await secure("must.example", get("must.example"), options)).toBeString();
  }
  expect(await (await proxy.get("/metrics")).text()).toContain(
    'fairlead_proxy_errors_total{reason="bad_client_certificate"} 4',
  );
  expect(seen(await secure("may.example", forged("may.example")))).not.toHaveProperty("x-forwarded-client-cert");
  expect(seen(await secure("may.example", get("may.example"), other))).toMatchObject({ host: "may.example" });
  expect(await secure("may.example", get("may.example"), stranger)).toBeString();
  expect(seen(await secure("free.example", forged("free.example")))).not.toHaveProperty("x-forwarded-client-cert");
  // A session is resumed where it began, with who the client is, and nowhere else.
  for (const version of ["TLSv1.2", "TLSv1.3"] as const) {
    const options = { ...client, maxVersion: version };
    const first = (await secure("must.example", get("must.example"), options)) as Secured;
    await put({ backends: [backend("one", { connectTimeout: 500 })], listeners: [] });
    const again = await secure("must.example", get("must.example"), { maxVersion: version, session: first.session });
    expect(again).toMatchObject({ reused: true });
    expect(seen(again)["x-forwarded-client-cert"]).toBe(header!);
    const open = (await secure("free.example", get("free.example"), { maxVersion: version })) as Secured;
    const lifted = { maxVersion: version, session: open.session };
    expect(await secure("must.example", get("must.example"), lifted)).toBeString();
  }
  // A host that asks for certificates is not to be had over a connection that asked for none.
  const misdirected = (await secure("free.example", get("must.example"))) as Secured;
  expect(misdirected.text).toStartWith("HTTP/1.1 421 ");
  expect((await log())[0]).toMatchObject({ peer: "spiffe://fleet/shop", status: 200 });
  const text = () => readFileSync(join(folder, "text.log"), "utf8");
  while (!text().includes("\n")) await Bun.sleep(20);
  expect(text()).toStartWith("must.example TLSv1.3 spiffe://fleet/shop\nmay.example TLSv1.3 -\n");
});

test("one port may require certificates of TLS and take plain text: the first byte says which", async () => {
  const server = makeSecret(folder, "server", "must.example");
  const authority = makeAuthority(folder, "authority");
  const client = authority.issue("client", "URI:spiffe://fleet/shop");
  makeAuthority(folder, "elsewhere").issue("stranger", "URI:spiffe://fleet/shop");
  const clients = { mode: "require", authorities: authority.secret.name, tell: ["uri"] } as const;
  await put({
    secrets: [server, authority.secret],
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")])],
    listeners: [
      listener(
        { when: { kind: "tls" }, tls: { certificates: [server.name], alpn: ["http/1.1"], clients }, serve: routes },
        { when: plain, serve: routes },
      ),
    ],
  });
  const forged = get("must.example").replace(
    "\r\n\r\n",
    "\r\nx-forwarded-client-cert: URI=spiffe://fleet/shop\r\n\r\n",
  );
  const open = await say(forged);
  expect(open).toStartWith("HTTP/1.1 200 ");
  expect(open).toContain('"x-forwarded-proto":"http"');
  expect(open).not.toContain("spiffe");
  expect(seen(await secure("must.example", get("must.example"), client))).toMatchObject({
    "x-forwarded-client-cert": "URI=spiffe://fleet/shop",
    "x-forwarded-proto": "https",
  });
  // Who has no certificate, or none that is good, gets nothing, as openssl sees it. It may ask for plain text instead.
  const openssl = async (...words: readonly string[]) => {
    const to = ["-connect", `127.0.0.1:${port}`, "-servername", "must.example", "-ign_eof", ...words];
    const child = Bun.spawn(["timeout", "20", "openssl", "s_client", ...to], {
      ...{ stdin: new Blob([get("must.example")]), stdout: "pipe", stderr: "pipe" },
    });
    return (await Promise.all([new Response(child.stdout).text(), new Response(child.stderr).text()])).join("");
  };
  const bad = ["-cert", join(folder, "stranger.crt"), "-key", join(folder, "stranger.key")];
  for (const [version, alert] of [
    ["-tls1_2", "handshake failure"],
    ["-tls1_3", "certificate required"],
  ] as const) {
    expect(await openssl(version)).toContain(`alert ${alert}`);
    // An alert for this is not to be had of Bun yet (docs/decisions/0011).
    expect(await openssl(version, ...bad)).not.toMatch(/HTTP\/1\.1|alert (unknown ca|bad certificate)/);
    expect(await openssl(version, "-cert", join(folder, "client.crt"), "-key", join(folder, "client.key"))).toContain(
      "HTTP/1.1 200",
    );
  }
  expect(await metric('fairlead_proxy_errors_total{reason="bad_client_certificate"}')).toBe(4);
});

test("versions and ciphers are what the chain permits, and what cannot be had is refused with its name", async () => {
  const one = makeSecret(folder, "one", "one.example", "two.example");
  const tlsOf = (more: object) => ({ certificates: [one.name], alpn: [], ...more });
  const common = {
    secrets: [one],
    backends: [backend("one")],
    endpoints: [endpoints("one", http.port!)],
    routeTables: [routeTable([rule("all")])],
  };
  await put({
    ...common,
    listeners: [
      listener(
        { when: sni("one.example"), tls: tlsOf({ minVersion: "1.3" }), serve: routes },
        { when: sni("two.example"), tls: tlsOf({ ciphers: ["ECDHE-ECDSA-AES256-GCM-SHA384"] }), serve: routes },
      ),
    ],
  });
  const old = { maxVersion: "TLSv1.2" } as const;
  expect(await secure("one.example", get("one.example"), old)).toBeString();
  seen(await secure("one.example", get("one.example")));
  seen(await secure("two.example", get("two.example"), { ...old, ciphers: "ECDHE-ECDSA-AES256-GCM-SHA384" }));
  expect(await secure("two.example", "x", { ...old, ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256" })).toBeString();
  const reason = async (more: object, upsert: object = {}) =>
    (
      await proxy.control.update({
        ...upsert,
        listeners: [listener({ when: { kind: "tls" }, tls: tlsOf(more), serve: routes })],
      })
    )[0]!.reason;
  expect(await reason({ ciphers: ["ECDHE-ECDSA-AES128-GCM-SHA256", "NONE-SUCH"] })).toContain("NONE-SUCH");
  const clients = { mode: "require", authorities: "secret/test/ca" };
  expect(await reason({ clients })).toContain("its authorities secret/test/ca is not known");
  const empty = { ...makeAuthority(folder, "ca").secret, content: { kind: "authorities", certificates: "" } };
  expect(await reason({ clients }, { secrets: [empty] })).toContain("no PEM certificate");
  // What was there serves on.
  seen(await secure("one.example", get("one.example")));
});
