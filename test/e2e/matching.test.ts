// What a rule takes, and what a limit counts by, through real sockets: each part of a match with requests that fit it and some that
// nearly do, keys of rate limits, and expressions that would take other engines for ever. Needs no privileges.

import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { connect } from "node:http2";
import type { Filter, Match, RouteTable } from "../../src/model/model.ts";
import type { PathNormalization } from "../../src/model/path-normalization.ts";
import { ends, port, proxy, serve, server, setUp, tearDown, url } from "./policy-stack.ts";
import { freePort, from, plainListener, routeTable, rule } from "./proxy-harness.ts";
import { RawClient, rawBackend } from "./proxy-raw.ts";
import { makeSecret, tlsListener } from "./proxy-secrets.ts";

beforeEach(setUp);
afterEach(tearDown);

/** A proxy that answers with the name of the rule that took a request. It believes `x-forwarded-for`. */
async function ruled(rules: Record<string, Match>): Promise<void> {
  const hosts: RouteTable["hosts"] = [
    {
      names: ["*"],
      rules: Object.entries(rules).map(([name, match]) =>
        rule(name, { match, action: { kind: "respond", status: 200, reason: name } }),
      ),
    },
  ];
  await proxy.start();
  const rejected = await proxy.control.update({
    routeTables: [{ name: "main", from, hosts }],
    listeners: [{ ...plainListener(port), trusted: ["127.0.0.1/32"] }],
  });
  expect(rejected).toEqual([]);
}

interface Said {
  readonly method?: string;
  readonly host?: string;
  readonly fields?: readonly string[];
}

/** Which rule takes each target, all on one connection; `404` where none does. */
class Asker {
  readonly #client: RawClient;

  private constructor(client: RawClient) {
    this.#client = client;
  }

  static async connect(): Promise<Asker> {
    return new Asker(await RawClient.connect(port));
  }

  async ask(target: string, { method = "GET", host = "a.example", fields = [] }: Said = {}): Promise<string> {
    const at = this.#client.seen.length;
    this.#client.send(`${[`${method} ${target} HTTP/1.1`, `host: ${host}`, ...fields].join("\r\n")}\r\n\r\n`);
    await this.#client.read((seen) => {
      const [head, body] = seen.slice(at).split("\r\n\r\n");
      return body !== undefined && body.length >= Number(/content-length: (\d+)/i.exec(head!)?.[1]);
    });
    const [head, body] = this.#client.seen.slice(at).split("\r\n\r\n");
    const status = head!.slice(9, 12);
    return status === "200" ? body!.trim() : status;
  }

  close(): void {
    this.#client.close();
  }
}

describe("a rule takes a request", () => {
  test("by a cookie, in whichever field it comes", async () => {
    await ruled({
      exact: { cookies: [{ name: "kind", match: { kind: "exact", value: "beta" } }] },
      folded: { cookies: [{ name: "kind", match: { kind: "prefix", value: "gam", ignoreCase: true } }] },
      expression: { cookies: [{ name: "build", match: { kind: "regex", value: "r[0-9]+" } }] },
      present: { cookies: [{ name: "any", match: { kind: "present" } }] },
    });
    const asker = await Asker.connect();
    const ask = (...fields: string[]) => asker.ask("/", { fields: fields.map((one) => `cookie: ${one}`) });
    expect(await ask("kind=beta")).toBe("exact");
    expect(await ask("x=1; kind=beta; y=2")).toBe("exact");
    expect(await ask("x=1", "kind=beta")).toBe("exact");
    expect(await ask("kind=Beta")).toBe("404");
    expect(await ask("Kind=beta")).toBe("404");
    expect(await ask("mankind=beta")).toBe("404");
    // The first of a name counts.
    expect(await ask("kind=other; kind=beta")).toBe("404");
    expect(await ask("kind=GAMMA")).toBe("folded");
    expect(await ask("build=r12")).toBe("expression");
    expect(await ask("build=r12x")).toBe("404");
    expect(await ask("any=")).toBe("present");
    expect(await asker.ask("/")).toBe("404");
    asker.close();
  });

  test("by its client's address, and unless what is excluded fits", async () => {
    await ruled({
      near: { source: ["10.1.0.0/16", "2001:db8::/32"] },
      far: {
        source: ["10.0.0.0/8"],
        not: [
          { path: { kind: "segments", value: "/admin" } },
          { method: "POST", headers: [{ name: "x-safe", match: { kind: "present" } }] },
        ],
      },
      here: { source: ["127.0.0.1/32"] },
    });
    const asker = await Asker.connect();
    const ask = (client: string, target = "/", said: Said = {}) =>
      asker.ask(target, { ...said, fields: [`x-forwarded-for: ${client}`, ...(said.fields ?? [])] });
    expect(await ask("10.1.2.3")).toBe("near");
    expect(await ask("2001:db8::7")).toBe("near");
    expect(await ask("10.2.0.1")).toBe("far");
    expect(await ask("11.1.0.1")).toBe("404");
    expect(await ask("2001:db9::1")).toBe("404");
    expect(await ask("10.2.0.1", "/administrator")).toBe("far");
    expect(await ask("10.2.0.1", "/admin/x")).toBe("404");
    // All of an exclusion must hold, one of them is enough.
    const length = "content-length: 0";
    expect(await ask("10.2.0.1", "/", { method: "POST", fields: [length] })).toBe("far");
    expect(await ask("10.2.0.1", "/", { fields: ["x-safe: 1"] })).toBe("far");
    expect(await ask("10.2.0.1", "/", { method: "POST", fields: [length, "x-safe: 1"] })).toBe("404");
    // Who says nothing is who connected.
    expect(await asker.ask("/")).toBe("here");
    asker.close();
  });

  test("with letters in any case, where that is said", async () => {
    await ruled({
      exact: { path: { kind: "exact", value: "/Exact", ignoreCase: true } },
      segments: { path: { kind: "segments", value: "/Under", ignoreCase: true } },
      prefix: { path: { kind: "prefix", value: "/Begin", ignoreCase: true } },
      regex: { path: { kind: "regex", value: "/re/[a-c]+", ignoreCase: true } },
      strict: { path: { kind: "segments", value: "/Strict" } },
      header: { headers: [{ name: "x-kind", match: { kind: "suffix", value: "End", ignoreCase: true } }] },
    });
    const asker = await Asker.connect();
    const wanted: Record<string, string> = {
      "/eXACT": "exact",
      "/eXACTs": "404",
      "/uNDER/x": "segments",
      "/uNDERx": "404",
      "/bEGINning": "prefix",
      "/bEGI": "404",
      "/RE/aBc": "regex",
      "/RE/aBcd": "404",
      "/Strict/x": "strict",
      "/strict/x": "404",
    };
    for (const [target, name] of Object.entries(wanted))
      expect([target, await asker.ask(target)]).toEqual([target, name]);
    expect(await asker.ask("/", { fields: ["X-Kind: the END"] })).toBe("header");
    expect(await asker.ask("/", { fields: ["X-Kind: the END."] })).toBe("404");
    asker.close();
  });

  test("by its scheme, which is the connection's, or what a hop in front says that is believed", async () => {
    await ruled({ safe: { scheme: "https" }, plain: { scheme: "http", path: { kind: "segments", value: "/open" } } });
    const asker = await Asker.connect();
    expect(await asker.ask("/open")).toBe("plain");
    expect(await asker.ask("/")).toBe("404");
    expect(await asker.ask("/", { fields: ["x-forwarded-proto: https"] })).toBe("safe");
    // Of the next request on the connection nothing is said.
    expect(await asker.ask("/")).toBe("404");
    await proxy.control.update({ listeners: [plainListener(port)] });
    const other = await Asker.connect();
    expect(await other.ask("/open", { fields: ["x-forwarded-proto: https"] })).toBe("plain");
    other.close();
    asker.close();
  });

  test("by its scheme on listeners with TLS and without, where a session's cookie is secure, too", async () => {
    const main = server();
    const persistence = { carrier: { kind: "cookie", name: "s" }, keeps: "endpoint" } as const;
    await serve([], main, {}, { match: { scheme: "https" }, persistence });
    const secret = makeSecret(proxy.folder, "edge", "edge.example");
    const secure = freePort();
    const listeners = [plainListener(port), tlsListener(secure, [{ kind: "tls" }, secret])];
    expect(await proxy.control.update({ secrets: [secret], listeners })).toEqual([]);
    expect((await fetch(url())).status).toBe(404);
    const answer = await fetch(`https://127.0.0.1:${secure}/`, { tls: { rejectUnauthorized: false } });
    expect(answer.status).toBe(200);
    expect(answer.headers.get("set-cookie")).toMatch(/^s=[\w-]{22}; Path=\/; HttpOnly; SameSite=Lax; Secure$/);
  });

  test("by its host as it came, port and all, which hosts of a table do not look at", async () => {
    await ruled({
      port: { headers: [{ name: "host", match: { kind: "exact", value: "a.example:8443" } }] },
      host: { headers: [{ name: "host", match: { kind: "exact", value: "a.example" } }] },
    });
    const asker = await Asker.connect();
    expect(await asker.ask("/", { host: "a.example:8443" })).toBe("port");
    expect(await asker.ask("/", { host: "a.example" })).toBe("host");
    expect(await asker.ask("/", { host: "a.example:80" })).toBe("404");
    // The absolute form stands above the field (RFC 9112 §3.2.2).
    expect(await asker.ask("http://a.example:8443/", { host: "a.example" })).toBe("port");
    asker.close();
  });
});

test("paths are taken as they came, or as the listener makes them: so rules, filters and backends see them", async () => {
  // By bytes: what reads URLs makes others of such paths.
  const main = rawBackend((socket, text) => {
    const body = `seen ${/^\S+ (\S+) /.exec(text)?.[1]}`;
    socket.end(`HTTP/1.1 200 OK\r\ncontent-length: ${body.length}\r\nconnection: close\r\n\r\n${body}`);
  });
  ends.push(main.stop);
  await serve([], main);
  const admin = rule("admin", {
    match: { path: { kind: "segments", value: "/admin" } },
    filters: [{ kind: "addresses", from, allow: [] }],
  });
  const asTheyCame = ["/%61dmin", "/x/../admin?q=/../", "//admin/1", "/x%2F..%2fadmin", "/x/../../admin", "/b/./c"];
  const under = async (pathNormalization: PathNormalization | undefined) => {
    const listener = { ...plainListener(port), ...(pathNormalization && { pathNormalization }) };
    const rejected = await proxy.control.update({
      routeTables: [routeTable([admin, rule("all")])],
      listeners: [listener],
    });
    expect(rejected).toEqual([]);
    const asker = await Asker.connect();
    const answers: string[] = [];
    for (const target of asTheyCame) answers.push(await asker.ask(target));
    asker.close();
    return answers;
  };
  expect(await under(undefined)).toEqual(asTheyCame.map((path) => `seen ${path}`));
  expect(await under("BASE")).toEqual(["403", "403", "seen //admin/1", "seen /x%2F..%2fadmin", "400", "seen /b/c"]);
  expect(await under("MERGE_SLASHES")).toEqual(["403", "403", "403", "seen /x%2F..%2fadmin", "400", "seen /b/c"]);
  expect(await under("DECODE_AND_MERGE_SLASHES")).toEqual(["403", "403", "403", "403", "400", "seen /b/c"]);
  // Over HTTP/2, too.
  const client = connect(`http://127.0.0.1:${port}`);
  const statusOf = (path: string) =>
    new Promise((resolve, reject) => {
      const stream = client.request({ ":path": path });
      stream.on("response", ({ ":status": status }) => resolve(status)).on("error", reject);
      stream.resume();
    });
  expect([await statusOf("/x/..%2Fadmin"), await statusOf("/../x"), await statusOf("/x")]).toEqual([403, 400, 200]);
  client.destroy();
  expect(await under("NONE")).toEqual(asTheyCame.map((path) => `seen ${path}`));
});

describe("a rate limit counts by", () => {
  const limit = (more: Partial<Extract<Filter, { kind: "localRateLimit" }>>): Filter => ({
    ...{ kind: "localRateLimit", from, bucket: "one", key: [], requests: 1, per: 3_600_000, burst: 1, status: 429 },
    ...{ tell: false, shared: false },
    ...more,
  });

  test("cookie, parameter, method, path, host, a constant, and several of them", async () => {
    const keys = {
      cookie: [{ kind: "cookie", name: "s" }],
      query: [{ kind: "query", name: "q" }],
      method: [{ kind: "method" }],
      path: [{ kind: "path" }],
      host: [{ kind: "host" }],
      constant: [{ kind: "constant", value: "all" }],
      several: [{ kind: "cookie", name: "s" }, { kind: "path" }],
    } satisfies Record<string, Extract<Filter, { kind: "localRateLimit" }>["key"]>;
    const main = server();
    await serve([limit({})], main);
    const first = { method: "GET", target: "/a?q=1", host: "a.example", cookie: "s=1" };
    /** Requests that differ from the first in one thing, and the keys to which that makes them another's. */
    const others: [Partial<typeof first>, (keyof typeof keys)[]][] = [
      [{ cookie: "s=2" }, ["cookie", "several"]],
      [{ target: "/a?q=2" }, ["query"]],
      [{ method: "PUT" }, ["method"]],
      [{ target: "/b?q=1" }, ["path", "several"]],
      [{ host: "b.example" }, ["host"]],
      [{ cookie: "t=1; s=1" }, []],
    ];
    const ask = async (one: Partial<typeof first>) => {
      const { method, target, host, cookie } = { ...first, ...one };
      return (await fetch(url(target), { method, headers: { host, cookie } })).status;
    };
    for (const [name, key] of Object.entries(keys)) {
      const filters = [limit({ bucket: name, key })];
      await proxy.control.update({ routeTables: [routeTable([rule("all", { filters })])] });
      expect([name, await ask({}), await ask({})]).toEqual([name, 200, 429]);
      for (const [other, apart] of others) {
        const wanted = apart.includes(name as keyof typeof keys) ? 200 : 429;
        expect([name, other, await ask(other)]).toEqual([name, other, wanted]);
      }
    }
  });

  test("those requests only that `when` takes", async () => {
    const when = [
      { name: "x-kind", match: { kind: "prefix" as const, value: "bulk" } },
      { name: "host", match: { kind: "suffix" as const, value: ".example" } },
    ];
    await serve([limit({ when })], server());
    const ask = async (host: string, kind = "bulk upload") =>
      (await fetch(url(), { headers: { host, "x-kind": kind } })).status;
    expect([await ask("a.example"), await ask("a.example"), await ask("b.example")]).toEqual([200, 429, 429]);
    expect([await ask("a.example", "other"), await ask("a.test")]).toEqual([200, 200]);
  });
});

test("an expression that back-tracking engines need for ever for is answered at once, and a long path costs in proportion", async () => {
  await ruled({
    evil: { path: { kind: "regex", value: "/(a+)+(a|aa)*b" } },
    value: { headers: [{ name: "x-evil", match: { kind: "regex", value: "(x+x+)+y" } }] },
    rest: { path: { kind: "prefix", value: "/" } },
  });
  const asker = await Asker.connect();
  const time = async (length: number) => {
    const begun = performance.now();
    expect(await asker.ask(`/${"a".repeat(length)}`)).toBe("rest");
    return performance.now() - begun;
  };
  expect(await asker.ask(`/${"a".repeat(5000)}b`)).toBe("evil");
  expect(await asker.ask("/", { fields: [`x-evil: ${"x".repeat(5000)}y`] })).toBe("value");
  expect(await asker.ask("/", { fields: [`x-evil: ${"x".repeat(5000)}`] })).toBe("rest");
  const best = async (length: number) => Math.min(await time(length), await time(length), await time(length));
  const [short, long] = [await best(1000), await best(8000)];
  // Eight times as long, with room for what does not depend on it; what doubles with each letter would not end at all.
  expect(long).toBeLessThan(40 * Math.max(short, 1));
  asker.close();
});
