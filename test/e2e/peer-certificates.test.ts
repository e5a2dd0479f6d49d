// What is asked of certificates beside a good chain, of clients and of backends, with real connections: revocation lists, pins, depth,
// common names, and certificates that nobody verifies. Needs openssl, no privileges.

import { afterEach, beforeEach, expect, test } from "bun:test";
import { createHash, X509Certificate } from "node:crypto";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import tls from "node:tls";
import type { TlsContext } from "../../src/model/model.ts";
import { backend, endpoints, freePort, ProxyUnderTest, routeTable, rule } from "./proxy-harness.ts";
import { makeAuthority, makeSecret, tlsListener } from "./proxy-secrets.ts";

type Clients = NonNullable<TlsContext["clients"]>;
type Pair = { readonly cert: string; readonly key: string };

let proxy: ProxyUnderTest;
let port: number;
let folder: string;
let server: ReturnType<typeof Bun.serve>;
let authority: ReturnType<typeof makeAuthority>;
let serving: ReturnType<typeof makeSecret>;

beforeEach(async () => {
  proxy = new ProxyUnderTest();
  port = freePort();
  folder = mkdtempSync(join(tmpdir(), "fl-t-peers-"));
  authority = makeAuthority(folder, "root");
  serving = makeSecret(folder, "one", "one.example");
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

function openssl(...words: readonly string[]): void {
  const done = Bun.spawnSync(["openssl", ...words], { cwd: folder });
  if (done.exitCode !== 0) throw new Error(done.stderr.toString());
}

/** A list of the authority on which these clients are; it holds for so many seconds. */
function revocations(seconds: number, ...revoked: readonly string[]): string {
  writeFileSync(join(folder, "index.txt"), "");
  writeFileSync(join(folder, "crlnumber"), "01\n");
  const settings = "[ca]\ndefault_ca=own\n[own]\ndatabase=index.txt\ncrlnumber=crlnumber\ndefault_md=sha256\n";
  writeFileSync(join(folder, "ca.cnf"), settings);
  const ca = ["ca", "-config", "ca.cnf", "-keyfile", "root.key", "-cert", "root.crt"];
  for (const one of revoked) openssl(...ca, "-revoke", `${one}.crt`);
  openssl(...ca, "-gencrl", "-crlsec", String(seconds), "-out", "list.pem");
  return readFileSync(join(folder, "list.pem"), "utf8");
}

function withLists(revocationLists: string) {
  const { secret } = authority;
  const fingerprint = createHash("sha256").update(secret.content.certificates).update(revocationLists).digest("hex");
  return { ...secret, fingerprint, content: { ...secret.content, revocationLists } };
}

async function serve(clients: Clients, authorities: object = authority.secret) {
  const listener = tlsListener(port, [{ kind: "tls" }, serving]);
  return await proxy.control.update({
    secrets: [serving, authorities],
    backends: [backend("one")],
    endpoints: [endpoints("one", server.port!)],
    routeTables: [routeTable([rule("all")])],
    listeners: [
      { ...listener, chains: listener.chains.map((chain) => ({ ...chain, tls: { ...chain.tls!, clients } })) },
    ],
  });
}

const by = (more: Partial<Clients> = {}): Clients => ({ mode: "require", authorities: "secret/test/root", ...more });

/** What a client is answered: the headers that the backend saw, or that the connection was closed; and its session. */
function ask(pair?: Pair, options: tls.ConnectionOptions = {}, fields = "") {
  return new Promise<{ text: string; session: Buffer | undefined; resumed: boolean }>((resolve) => {
    const socket = tls.connect({
      host: "127.0.0.1",
      port,
      servername: "one.example",
      rejectUnauthorized: false,
      ...pair,
      ...options,
    });
    let text = "";
    let session: Buffer | undefined;
    let resumed = false;
    socket.on("session", (given) => {
      session = given;
    });
    socket.on("secureConnect", () => {
      resumed = socket.isSessionReused();
      socket.write(`GET / HTTP/1.1\r\nhost: one.example\r\n${fields}connection: close\r\n\r\n`);
    });
    socket.on("data", (bytes) => {
      text += bytes;
    });
    socket.on("error", () => {});
    socket.on("close", () => resolve({ text: text || "closed", session, resumed }));
  });
}

const answer = async (...what: Parameters<typeof ask>) => (await ask(...what)).text;

test("a client whose certificate is revoked is refused, and no session of before helps it", async () => {
  const good = authority.issue("good", "DNS:good");
  const bad = authority.issue("bad", "DNS:bad");
  expect(await serve(by({ mode: "optional" }), withLists(revocations(3_600)))).toEqual([]);
  const before = await ask(bad, { maxVersion: "TLSv1.2" });
  expect(before.text).toContain("200 OK");
  expect(await proxy.control.update({ secrets: [withLists(revocations(3_600, "bad"))] })).toEqual([]);
  expect(await answer(bad, { maxVersion: "TLSv1.2", session: before.session! })).toBe("closed");
  expect(await answer(bad)).toBe("closed");
  expect(await answer(good)).toContain("200 OK");
  expect(await answer()).toContain("200 OK");
});

test("a list that has expired, is malformed or another's is refused; one that expires closes", async () => {
  const good = authority.issue("good", "DNS:good");
  const other = makeAuthority(folder, "other");
  const refused = async (authorities: object) => JSON.stringify(await serve(by(), authorities));
  expect(await refused(withLists("x"))).toContain("content.revocationLists holds no PEM revocation list");
  const foreign = { ...other.secret, content: { ...other.secret.content, revocationLists: revocations(3_600) } };
  expect(await refused({ ...foreign, name: authority.secret.name })).toContain("is of an issuer that is none of");
  const short = withLists(revocations(4));
  expect(await serve(by(), short)).toEqual([]);
  let last = await ask(good, { maxVersion: "TLSv1.2" });
  expect(last.text).toContain("200 OK");
  const { session } = last;
  const until = Date.now() + 20_000;
  while (last.text !== "closed" && Date.now() < until) {
    last = await ask(good, { maxVersion: "TLSv1.2", session: session! });
    await Bun.sleep(200);
  }
  expect(last.text).toBe("closed");
  expect(await answer(good)).toBe("closed");
  expect(
    JSON.stringify(await proxy.control.update({ secrets: [{ ...short, fingerprint: "ab".repeat(32) }] })),
  ).toContain("has expired on");
}, 40_000);

test("pins, common names and depth are asked of good certificates, too", async () => {
  const good = authority.issue("good", "DNS:good");
  const other = authority.issue("other", "DNS:other");
  const leaf = new X509Certificate(good.cert);
  const key = createHash("sha256")
    .update(leaf.publicKey.export({ type: "spki", format: "der" }))
    .digest("base64");
  for (const demand of [
    { pins: [{ kind: "certificate", sha256: leaf.fingerprint256 }] },
    { pins: [{ kind: "key", sha256: key }] },
    { names: [{ kind: "cn", match: { kind: "regex", value: "^go+d$" } }] },
  ] satisfies Partial<Clients>[]) {
    expect(await serve(by(demand))).toEqual([]);
    expect(await answer(good)).toContain("200 OK");
    expect(await answer(other)).toBe("closed");
  }
  openssl(
    ..."req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout mid.key -out mid.csr -subj /CN=mid".split(" "),
  );
  writeFileSync(join(folder, "ca.ext"), "basicConstraints=critical,CA:TRUE\n");
  openssl(..."x509 -req -in mid.csr -CA root.crt -CAkey root.key -out mid.crt -days 2 -extfile ca.ext".split(" "));
  openssl(
    ..."req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout deep.key -out deep.csr -subj /CN=deep".split(
      " ",
    ),
  );
  openssl(..."x509 -req -in deep.csr -CA mid.crt -CAkey mid.key -out deep.crt -days 2".split(" "));
  // Of the same name as the one between, and self-signed: it must not make the chain look shorter.
  openssl(
    ..."req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout no.key -out no.crt -subj /CN=mid".split(
      " ",
    ),
  );
  const [deep, mid, no, deepKey] = ["deep.crt", "mid.crt", "no.crt", "deep.key"].map((name) =>
    readFileSync(join(folder, name), "utf8"),
  );
  const chain = { cert: `${deep}${mid}`, key: deepKey! };
  expect(await serve(by({ maxIntermediates: 1 }))).toEqual([]);
  expect(await answer(chain)).toContain("200 OK");
  expect(await serve(by({ maxIntermediates: 0 }))).toEqual([]);
  expect(await answer(good)).toContain("200 OK");
  expect(await answer(chain)).toBe("closed");
  expect(await answer({ cert: `${deep}${no}${mid}`, key: deepKey! })).toBe("closed");
});

test("a certificate that nobody verified is told as such, and cannot be made up", async () => {
  const stranger = makeAuthority(folder, "strangers").issue("stranger", "DNS:stranger");
  expect(await serve({ mode: "unverified", tell: ["dns"] })).toEqual([]);
  const forged = "x-unverified-client-cert: DNS=forged\r\nx-forwarded-client-cert: DNS=forged\r\n";
  for (const fields of ["", forged]) {
    const told = await answer(stranger, {}, fields);
    expect(told).toContain('"x-unverified-client-cert":"DNS=stranger"');
    expect(told).not.toContain("x-forwarded-client-cert");
    expect(told).not.toContain("forged");
    const none = await answer(undefined, {}, fields);
    expect(none).toContain("200 OK");
    expect(none).not.toContain("client-cert");
  }
});

test("backends are held to lists, pins and ciphers", async () => {
  const pair = authority.issue("behind", "DNS:behind.example");
  const behind = Bun.serve({
    port: 0,
    hostname: "127.0.0.1",
    tls: pair,
    fetch: () => new Response("inside", { headers: { connection: "close" } }),
  });
  const plain = {
    ...tlsListener(port),
    chains: [{ from: serving.from, when: { kind: "plain" }, serve: { routes: "main" } }],
  };
  const through = async (tlsOf: object, authorities: object = authority.secret) => {
    const known = {
      ...backend("one"),
      tls: { authorities: "secret/test/root", serverName: "behind.example", ...tlsOf },
    };
    const rejected = await proxy.control.update({
      ...{ secrets: [authorities], backends: [known], endpoints: [endpoints("one", behind.port!)] },
      ...{ routeTables: [routeTable([rule("all")])], listeners: [plain] },
    });
    expect(rejected).toEqual([]);
    return (await fetch(`http://127.0.0.1:${port}/`)).status;
  };
  const pin = (sha256: string) => ({ pins: [{ kind: "certificate", sha256 }] });
  try {
    expect(await through(pin(new X509Certificate(pair.cert).fingerprint256))).toBe(200);
    expect(await through(pin("ab".repeat(32)))).toBe(503);
    expect(await through({ ...pin("ab".repeat(32)), authorities: "insecure" })).toBe(503);
    expect(await through({ maxIntermediates: 0 })).toBe(200);
    expect(await through({ maxVersion: "1.2", ciphers: ["ECDHE-ECDSA-AES256-GCM-SHA384"] })).toBe(200);
    expect(await through({ maxVersion: "1.2", ciphers: ["ECDHE-RSA-AES256-GCM-SHA384"] })).toBe(503);
    expect(await through({}, withLists(revocations(3_600)))).toBe(200);
    expect(await through({}, withLists(revocations(3_600, "behind")))).toBe(503);
  } finally {
    behind.stop(true);
  }
});
