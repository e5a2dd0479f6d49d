// Scenarios of `side-by-side-policies.test.ts`: copies, tokens, services that are asked, rates and lengths.

import type { Filter } from "../../src/model/filters.ts";
import type { Difference } from "./beside.ts";
import { type Ask, each, filtered, type Scenario, type Side, seen } from "./beside-scenario.ts";
import { from } from "./proxy-harness.ts";
import { eventually } from "./stack.ts";
import { issuer, tokens } from "./tokens.ts";

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

export const challenge: Difference = {
  why: "a refusal says no more than RFC 6750 §3 asks for: no realm that names the request's own URL; and a token for another audience is as invalid as any (401, RFC 6750 §3.1), where Envoy says 403",
  ours: [[/(www-authenticate: Bearer)[^,]*?(?="\])/g, "$1"]],
  envoys: [
    [/(www-authenticate: Bearer)[^\]]*?(?="\])/g, "$1"],
    [/"status":403/g, '"status":401'],
  ],
};
export const jwt = (optional: boolean, more: object = {}): Filter => ({
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

export const externalAuth = (more: object): Filter =>
  ({
    kind: "externalAuth",
    from,
    service: "auth",
    protocol: { kind: "http", path: "/check", prefix: true },
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
const questions: Difference = {
  why: "of a question the pseudo fields are among the headers whatever `sends` says, and the body is there as text and as bytes (Envoy: one of them, by `pack_as_bytes`); a header that the service wants appended is there also when the request had none (HeaderValueOption.append); Envoy leaves it out then",
  ours: [
    [/ x-tags: b,/g, ""],
    [/(\[\\":[a-z]+\\",\\"[^"\\]*\\"\],?)/g, ""],
    [/\\"rawBody\\":\\"[^"]*\\"/g, '\\"rawBody\\":\\"\\"'],
  ],
  envoys: [[/x-tags: a,b/g, "x-tags: a, b"]],
};
const differing = (differs: Difference, scenario: Scenario): Scenario => ({ ...scenario, differs });
const asked: readonly Scenario[] = [
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
  filtered("cannot be reached", [externalAuth({ service: "gone", whenFailing: { status: 503 } })], {}),
  filtered(
    "cannot be reached, which lets pass",
    [externalAuth({ service: "gone", whenFailing: "pass" })],
    {},
    { method: "POST", body: "x" },
  ),
  ...[
    filtered("over gRPC", [externalAuth(overGrpc)], ...answers, saying("yes", { headers: { "x-tags": "a" } })),
    filtered(
      "over gRPC, with the body",
      [externalAuth({ ...overGrpc, body: { bytes: 5, partial: true } })],
      saying("no", { method: "POST", body: "hello" }),
      saying("no", { method: "POST", body: "hello!" }),
    ),
    filtered("over gRPC, and its failing lets pass", [externalAuth({ ...overGrpc, whenFailing: "pass" })], ...answers),
  ].map((one) => differing(questions, one)),
  filtered("over gRPC, cannot be reached", [externalAuth({ ...overGrpc, service: "gone-grpc" })], {}),
].map((one) => ({ ...one, name: `a service is asked: ${one.name}` }));

export const rateLimit = (more: object): Filter =>
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
    flags: {
      why: "a body whose length nobody said is passed on as it comes, until it is too long; Envoy's filter holds all of it back",
      ours: [[/"\d+ B ([^"]*) HTTP\/1\.1 -"\]$/, '"$1 - -"]']],
    },
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

export const access: readonly Scenario[] = [...copies, ...claimed, ...asked, ...rates];
