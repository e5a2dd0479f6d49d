import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import type { Filter } from "./filters.ts";
import { emptyModel, type Secret } from "./model.ts";
import { Redacted } from "./redacted.ts";
import { validateModel, validateResource, validateRule } from "./validate.ts";

const from = { kind: "Test", name: "test", field: "" };

/** `field message` of each problem of a filter. */
function problems(filter: object): string[] {
  const rule = {
    from,
    name: "rule",
    match: {},
    filters: [{ from, ...filter } as Filter],
    action: { kind: "respond" as const, status: 200, reason: "" },
  };
  return validateRule(rule).map(({ field, message }) => `${field.replace("filters[0].", "")} ${message}`);
}

const change = { set: [], add: [], remove: [] };
const provider = {
  name: "p",
  issuer: "i",
  audiences: [],
  keys: { backend: "b", authority: "a.example:8080", path: "/jwks?x=1", keep: 60_000 },
  places: [],
  forward: true,
  claimHeaders: [],
};
const auth = {
  kind: "externalAuth",
  service: "s",
  protocol: { kind: "http", authority: "a", path: "/", prefix: true },
  sends: ["*", "cookie"],
  adds: [],
  body: { bytes: 0, partial: false },
  toBackend: [],
  toClient: [],
  timeout: 100,
  whenFailing: "pass",
};
const limit = {
  kind: "localRateLimit",
  bucket: "b",
  key: [],
  requests: 1,
  per: 1000,
  burst: 1,
  status: 429,
  tell: true,
  shared: false,
};
const globalLimit = {
  kind: "globalRateLimit",
  service: "s",
  authority: "a",
  domain: "d",
  descriptors: [[{ key: "k", value: { kind: "source" } }]],
  timeout: 100,
  whenFailing: { status: 500 },
  status: 429,
};
const cors = {
  kind: "cors",
  allowOrigins: [],
  allowMethods: ["GET", "*"],
  allowHeaders: ["X-A"],
  exposeHeaders: [],
  allowCredentials: false,
  otherPreflights: "answer",
};
const compression = {
  kind: "compression",
  codings: ["gzip", "zstd"],
  minBytes: 0,
  types: ["text/*", "image/svg+xml"],
  level: 9,
};
const regex = { kind: "regex", value: "(" };

test("what is well formed passes", () => {
  for (const filter of [
    { kind: "query", change: { ...change, set: [{ name: "any name", value: "ü" }] } },
    { kind: "cookies", domain: { to: "a.b" }, path: { from: "/", to: "" } },
    { kind: "addresses", allow: ["10.0.0.0/8", "::/0"] },
    { kind: "basicAuth", realm: 'a "b"', users: "u" },
    { kind: "jwt", providers: [provider], optional: false },
    auth,
    limit,
    globalLimit,
    cors,
    { kind: "fault", abort: { perMillion: 1, grpcStatus: 16 } },
    { kind: "mirror", backend: "b", perMillion: 0, hostSuffix: "-shadow" },
    { kind: "mirror", backend: "b", perMillion: 0, host: "copies.example:8080", path: "/all", withoutBody: true },
    { kind: "bodyLimit", bytes: 0 },
    { kind: "buffering", request: 1 },
    compression,
    {
      kind: "errorPages",
      pages: [{ statuses: [{ first: 500, last: 599 }], answer: { backend: "b", path: "/x?y", keepStatus: true } }],
    },
    { kind: "rewrite", path: { kind: "regex", pattern: "^/(.*)", value: "\\1" } },
  ]) {
    expect(problems(filter)).toEqual([]);
  }
});

const wrong: readonly (readonly [object, string])[] = [
  [{ kind: "other" }, 'kind "other" is no kind of filter'],
  [{ kind: "rewrite", path: { kind: "regex", pattern: "(", value: "/" } }, 'path.pattern "(" is no RE2 expression'],
  [{ kind: "rewrite", path: { kind: "regex", pattern: "a", value: "/a b" } }, 'path.value has " " in it'],
  [{ kind: "query", change: { ...change, remove: [""] } }, "change.remove[0] is empty"],
  [
    { kind: "requestHeaders", change: { ...change, set: [{ name: "X-A", value: "" }] } },
    'change.set[0].name header name "X-A" must be in lower case',
  ],
  [{ kind: "cookies", name: regex }, 'name "(" is no RE2 expression'],
  [{ kind: "cookies", domain: { to: "a; Secure" } }, 'domain.to "a; Secure" has a character'],
  [
    { kind: "addresses", deny: ["10.0.0.1"] },
    'deny[0] "10.0.0.1" is no range of addresses (one address is 10.0.0.1/32)',
  ],
  [{ kind: "addresses", status: 200 }, "status 200 is no HTTP status of 400 to 599"],
  [{ kind: "basicAuth", realm: "a\r\nb", users: "u" }, "realm has a character"],
  [{ kind: "basicAuth", realm: "", users: "", userHeader: "a b" }, 'users is empty|userHeader "a b" is no header name'],
  [{ kind: "jwt", providers: [], optional: true }, "providers lists no provider"],
  [
    { kind: "jwt", providers: [{ ...provider, keys: { inline: '{"keys":[{"kty":"oct","k":"x"}]}' } }], optional: true },
    "providers[0].keys.inline holds a key that is not a public",
  ],
  [
    {
      kind: "jwt",
      providers: [{ ...provider, keys: { ...provider.keys, authority: "a b", path: "x", keep: 1 } }],
      optional: true,
    },
    'providers[0].keys.authority "a b" is no host|providers[0].keys.path path "x" does not begin|providers[0].keys.keep 1 is below',
  ],
  [
    { kind: "jwt", providers: [{ ...provider, claimHeaders: [{ claim: "", header: "X" }] }], optional: true },
    "providers[0].claimHeaders[0].claim is empty|providers[0].claimHeaders[0].header header name",
  ],
  [
    { ...auth, service: "", timeout: 0, whenFailing: { status: 200 } },
    "service is empty|timeout 0 is no time of 1 to 3600000 milliseconds|whenFailing.status 200 is no HTTP status of 400 to 599",
  ],
  [
    { ...auth, sends: ["Cookie"], signIn: "/login", body: { bytes: 1e9, partial: true } },
    'sends[0] header name "Cookie"|body.bytes 1000000000 is no whole number|signIn "/login" is no http or https URL',
  ],
  [
    { ...auth, protocol: { kind: "http", authority: "a", path: "/ü", prefix: true, method: "G T" } },
    'protocol.path "/ü" has characters|protocol.method "G T" is no method',
  ],
  [
    { ...limit, bucket: "", requests: 0, burst: 0.5, per: 0, status: 200 },
    "bucket is empty|requests 0 is no whole number of 1|burst 0.5 is no whole|per 0 is no time|status 200 is no HTTP status of 400",
  ],
  [
    { ...limit, key: [{ kind: "header", name: "X" }], when: [{ name: "a", match: regex }] },
    'key[0].name header name "X"|when[0].match "(" is no RE2',
  ],
  [{ ...limit, per: "5" as unknown as number }, "per 5 is no time of 1 to 86400000 milliseconds"],
  [{ ...globalLimit, domain: "", descriptors: [[]] }, "domain is empty|descriptors[0] is empty"],
  [
    { ...cors, allowOrigins: [regex], allowMethods: ["G T"], maxAge: -1 },
    'allowOrigins[0] "(" is no RE2|allowMethods[0] "G T" is no method|maxAge -1 is no whole number',
  ],
  [{ kind: "fault" }, "delay and abort are absent: the fault would do nothing"],
  [
    { kind: "fault", delay: { perMillion: 1_000_001, time: -1 } },
    "delay.perMillion 1000001 is no whole number of 0 to 1000000|delay.time -1 is no time",
  ],
  [{ kind: "fault", abort: { perMillion: 1, grpcStatus: 17 } }, "abort.grpcStatus 17 is no whole number of 0 to 16"],
  [
    { kind: "mirror", backend: "", perMillion: 1, hostSuffix: ":80" },
    'backend is empty|hostSuffix ":80" can be no part',
  ],
  [
    { kind: "mirror", backend: "b", perMillion: 1, host: "a b", hostSuffix: "-x", path: "x" },
    'host "a b" is no host|hostSuffix stands beside host, which is the whole name|path path "x" does not begin',
  ],
  [{ kind: "bodyLimit", bytes: -1 }, "bytes -1 is no whole number"],
  [{ kind: "buffering", response: 0 }, "response 0 is no whole number of 1 to"],
  [
    { ...compression, codings: ["deflate"], types: ["text/html; charset=x", "*/*"] },
    'codings[0] "deflate" is no coding|types[0] "text/html; charset=x" is no media type',
  ],
  [{ ...compression, level: 10 }, "level 10 is no whole number of 1 to 9"],
  [
    {
      kind: "errorPages",
      pages: [{ statuses: [{ first: 200, last: 100 }], answer: { backend: "", path: "x", keepStatus: true } }],
    },
    'pages[0].statuses[0].first 200 is no HTTP status of 300 to 599|pages[0].statuses[0].last 100 is no HTTP status of 300 to 599|pages[0].statuses[0].last 100 is below first, 200|pages[0].answer.backend is empty|pages[0].answer.path path "x" does not begin',
  ],
  [
    {
      kind: "errorPages",
      pages: [
        {
          statuses: [{ first: 500, last: 599 }],
          answer: {
            ...{ backend: "b", path: "/", keepStatus: true },
            headers: [
              { name: "x-namespace", value: "shop" },
              { name: "X-Service-Name", value: "a" },
              { name: "x-code", value: "1" },
            ],
          },
        },
      ],
    },
    'pages[0].answer.headers[1].name header name "X-Service-Name" must be in lower case|pages[0].answer.headers[2].name "x-code" is written by the proxy',
  ],
];

for (const [filter, messages] of wrong) {
  test(`${(filter as { kind: string }).kind}: ${messages}`, () => {
    const found = problems(filter);
    for (const message of messages.split("|")) expect(found.find((one) => one.startsWith(message))).toBeDefined();
    expect(found.length).toBe(messages.split("|").length);
  });
}

const usersOf = (lines: string): Secret => ({
  name: "users",
  from,
  fingerprint: "00".repeat(32),
  content: { kind: "users", lines: new Redacted(lines) },
});

test("a Secret of users is refused with the number of its bad line, not with its content", () => {
  const hash = `{SHA}${"a".repeat(27)}=`;
  expect(validateResource("secrets", usersOf(`ann:${hash}`))).toEqual([]);
  const [problem] = validateResource("secrets", usersOf(`ann:${hash}\nbob:hunter2`));
  expect(problem!.field).toBe("content.lines");
  expect(problem!.message).toStartWith("line 2 has a hash that is not taken");
  expect(problem!.message).not.toContain("hunter2");
  expect(validateResource("secrets", usersOf("# nobody\n"))[0]!.message).toBe("names no user");
});

test("the examples of docs/policies.md are well formed", () => {
  const lines = readFileSync(new URL("../../docs/policies.md", import.meta.url), "utf8").split("\n");
  const kinds = new Set<string>();
  let text = "";
  for (const line of lines) {
    if (text === "" && !line.startsWith("    { ")) continue;
    text += line;
    let example: { kind: string };
    try {
      example = JSON.parse(text);
    } catch {
      if (line === "") throw new Error(`is no JSON: ${text}`);
      continue;
    }
    text = "";
    expect([example.kind, ...problems(example)]).toEqual([example.kind]);
    kinds.add(example.kind);
  }
  expect(kinds.size).toBe(17);
});

test("docs/policies.md names every field of every policy", () => {
  const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
  const page = read("../../docs/policies.md");
  const model = read("./model.ts");
  const parts = ["Rule", "Match", "Forward", "Redirect", "Respond", "HeaderChange", "Timeouts", "Backend"].map(
    (name) => new RegExp(`export interface ${name} \\{\\n[^]*?\\n\\}`).exec(model)![0],
  );
  const matches = model.match(/export type (?:Path|String)Match =\n(?: {2}.*\n)+/g)!;
  const source = [read("./filters.ts"), read("./upstream-policies.ts"), ...parts, ...matches].join("\n");
  const fields = new Set([...source.matchAll(/readonly (\w+)\??:/g)].map(([, field]) => field!));
  expect(fields.size).toBeGreaterThan(150);
  // In code, or as a key of an example.
  const code = [...page.matchAll(/`([^`\n]+)`/g), ...page.matchAll(/"(\w+)":/g)].map(([, text]) => text!);
  const named = new Set(code.flatMap((text) => text.match(/\w+/g) ?? []));
  expect([...fields].filter((field) => !named.has(field))).toEqual([]);
});

test("what filters name must be there, and be of the right kind", () => {
  const filters: Filter[] = [
    { kind: "mirror", from, backend: "copies", perMillion: 1 },
    { kind: "basicAuth", from, realm: "r", users: "users" },
  ];
  const action = { kind: "respond" as const, status: 200, reason: "" };
  const table = {
    name: "t",
    from,
    hosts: [{ names: ["*"], rules: [{ from, name: "r", match: {}, filters, action }] }],
  };
  const model = { ...emptyModel, routeTables: new Map([["t", table]]) };
  expect(validateModel(model).map(({ field, message }) => `${field} ${message}`)).toEqual([
    "hosts[0].rules[0].filters[0].backend backend copies is not known",
    "hosts[0].rules[0].filters[1].users secret users is not known",
  ]);
  const certificates = "-----BEGIN CERTIFICATE-----";
  const secret: Secret = { ...usersOf(""), content: { kind: "authorities", certificates } };
  const other = { ...model, secrets: new Map([["users", secret]]) };
  expect(validateModel(other).at(-1)!.message).toBe("secret users holds authorities, not users");
});
