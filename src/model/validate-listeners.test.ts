import { expect, test } from "bun:test";
import type { FilterChain, Listener, TlsContext } from "./model.ts";
import { validateResource } from "./validate.ts";

const from = { kind: "Gateway", namespace: "shop", name: "edge", field: "spec.listeners[0]" };
const plain: FilterChain = { from, when: { kind: "plain" }, serve: { routes: "main" } };
const to = { from, weight: 1, target: { backend: "a" }, filters: [] };
const good: Listener = {
  name: "l",
  from,
  scope: "gateway",
  address: "10.0.0.1",
  port: 443,
  transport: "tcp",
  chains: [plain],
};

const problems = (more: Partial<Listener>) =>
  validateResource("listeners", { ...good, ...more }).map(({ field, message }) => `${field} ${message}`);
const inChain = (more: Partial<FilterChain>) => problems({ chains: [{ ...plain, ...more }] });
const inTls = (more: Partial<TlsContext>) =>
  inChain({ when: { kind: "tls" }, tls: { certificates: ["secret/a"], alpn: [], ...more } });

test("plain, terminated and passed through on one port is well formed", () => {
  const tls = { certificates: ["secret/a"], alpn: ["h2"] };
  const chains: FilterChain[] = [
    { from, when: { kind: "sni", names: ["db.example"] }, serve: { tcp: [to] } },
    { from, when: { kind: "sni", names: ["*.example"] }, tls, serve: { routes: "main" } },
    { from, when: { kind: "tls" }, tls, serve: { tcp: [to], idleTimeout: 0 } },
    plain,
  ];
  expect(problems({ chains, proxyProtocol: true, trusted: ["10.0.0.0/8"] })).toEqual([]);
});

test("addresses, chains and what they serve are checked", () => {
  expect(problems({ address: "localhost" })).toEqual(['address "localhost" is no IP address']);
  expect(problems({ port: 0 })).toHaveLength(1);
  expect(problems({ pathNormalization: "MERGE_SLASHES" })).toEqual([]);
  expect(problems({ pathNormalization: "merge" as "BASE" })).toEqual([
    'pathNormalization "merge" is none of NONE, BASE, MERGE_SLASHES, DECODE_AND_MERGE_SLASHES',
  ]);
  expect(problems({ chains: [] })).toEqual(["chains has none: nothing could be served"]);
  expect(inChain({ when: { kind: "sni", names: [] } })[0]).toContain("lists no server name");
  expect(inChain({ when: { kind: "tls" } })[0]).toContain(
    "cannot be served from a TLS connection that is not terminated",
  );
  expect(inChain({ tls: { certificates: ["a"], alpn: [] } })[0]).toContain("connections without TLS");
  expect(inChain({ serve: { tcp: [to], idleTimeout: -1 } })[0]).toContain("idleTimeout -1 is no number");
  const filters = [{ kind: "bodyLimit", from, bytes: 1 }] as never;
  expect(inChain({ serve: { tcp: [{ ...to, filters }] } })[0]).toContain("passed on unread");
});

test("what TLS asks for is checked", () => {
  expect(inTls({})).toEqual([]);
  expect(inTls({ certificates: [] })[0]).toContain("lists no certificate");
  expect(inTls({ minVersion: "1.3", maxVersion: "1.2" })[0]).toContain("is above maxVersion");
  expect(inTls({ minVersion: "1.1" as never })[0]).toEndWith(
    'tls.minVersion "1.1" is no version of TLS that is spoken here: it is "1.2" or "1.3"; leave it out for 1.2',
  );
  expect(inTls({ maxVersion: 1.3 as never })[0]).toContain("tls.maxVersion 1.3 is no version of TLS");
  expect(inTls({ ciphers: [] })[0]).toContain("lists none");
  expect(inTls({ ciphers: ["ALL:!x"] })[0]).toContain("no OpenSSL name");
  const clients = { mode: "require", authorities: "secret/ca" } as const;
  expect(inTls({ clients: { ...clients, tell: ["hash", "uri"] } })).toEqual([]);
  expect(inTls({ clients: { ...clients, mode: "may" as never } })[0]).toContain(
    "none of require, optional, unverified",
  );
  expect(inTls({ clients: { ...clients, authorities: "" } })[0]).toContain("authorities is empty");
  expect(inTls({ clients: { mode: "optional" } })[0]).toContain("authorities is missing: name a Secret");
  expect(inTls({ clients: { mode: "unverified", tell: ["cert"] } })).toEqual([]);
  expect(inTls({ clients: { ...clients, mode: "unverified" } })[0]).toContain(
    "authorities is there, but mode unverified",
  );
  const pins = [
    { kind: "certificate", sha256: "ab".repeat(32) },
    { kind: "key", sha256: `${"A".repeat(43)}=` },
  ] as const;
  expect(inTls({ clients: { ...clients, pins, maxIntermediates: 0 } })).toEqual([]);
  expect(inTls({ clients: { ...clients, pins: [{ ...pins[0], kind: "key" }] } })[0]).toContain("no SHA-256 in base64");
  expect(inTls({ clients: { ...clients, pins: [{ ...pins[1], kind: "certificate" }] } })[0]).toContain("hexadecimal");
  expect(inTls({ clients: { ...clients, pins: [] } })[0]).toContain("pins lists none");
  expect(inTls({ clients: { ...clients, maxIntermediates: -1 } })[0]).toContain("-1 is no whole number of 0 to 20");
  expect(inTls({ clients: { ...clients, tell: ["chain" as never] } })[0]).toContain("none of hash, subject");
  const names = [{ kind: "uri", match: { kind: "regex", value: "(" } }] as const;
  expect(inTls({ clients: { ...clients, names } })[0]).toStartWith("chains[0].tls.clients.names[0].match");
});

test("what a chain asks of connections is checked", () => {
  const tls = { certificates: ["secret/a"], alpn: [] };
  const all = { destination: ["10.0.0.0/8"], destinationPorts: [80], source: ["::/0"], protocols: ["h2"] };
  expect(inChain({ when: { kind: "tls", ...all }, tls })).toEqual([]);
  expect(inChain({ when: { kind: "plain", destination: ["10.0.0.1"] } })).toEqual([
    'chains[0].when.destination[0] "10.0.0.1" is no range of addresses (one address is 10.0.0.1/32)',
  ]);
  expect(inChain({ when: { kind: "plain", source: [] } })[0]).toContain("leave it out to take all");
  expect(inChain({ when: { kind: "plain", destinationPorts: [0] } })[0]).toStartWith(
    "chains[0].when.destinationPorts[0]",
  );
  expect(inChain({ when: { kind: "plain", destinationPorts: [] } })[0]).toContain("leave it out to take all");
  expect(inChain({ when: { kind: "plain", protocols: ["h2"] } })[0]).toContain("which only TLS has");
  expect(inChain({ when: { kind: "tls", protocols: [""] }, tls })[0]).toContain("no protocol of ALPN");
  expect(inChain({ when: { kind: "tls", protocols: [] }, tls })[0]).toContain("lists none");
});

test("a udp listener has one address and one plain chain of backends", () => {
  const udp = { transport: "udp", chains: [{ ...plain, serve: { tcp: [to] } }] } as const;
  expect(problems(udp)).toEqual([]);
  expect(problems({ ...udp, address: "::" })[0]).toContain("answers must come from the one that was asked");
  expect(problems({ ...udp, chains: [plain] })[0]).toContain("must be plain and serve backends");
  expect(problems({ ...udp, chains: [...udp.chains, ...udp.chains] })[0]).toContain("can only be one");
  expect(problems({ ...udp, proxyProtocol: true })[0]).toContain("has none");
  expect(problems({ ...udp, originalDestination: true })[0]).toContain("takes what TPROXY sends it");
  const chains = [{ ...plain, serve: { tcp: [], original: true } }, udp.chains[0]];
  expect(problems({ ...udp, transparent: true, address: "::", chains })).toEqual([]);
  const when = { kind: "plain", source: ["10.0.0.0/8"] } as const;
  expect(problems({ ...udp, chains: [{ ...plain, when, serve: { tcp: [to] } }] })[0]).toContain(
    "source is for connections",
  );
});

test("original destinations are for listeners that ask for them, and namespaces are paths", () => {
  const chains: FilterChain[] = [{ ...plain, serve: { tcp: [], original: true } }];
  expect(problems({ chains, originalDestination: true, namespace: "/run/netns/pod" })).toEqual([]);
  expect(problems({ chains })[0]).toContain("needs originalDestination");
  expect(problems({ chains, transparent: true })).toEqual([]);
  expect(problems({ transparent: true, originalDestination: true })[0]).toContain("beside originalDestination");
  const serving = (serve: FilterChain["serve"]) => problems({ transparent: true, chains: [{ ...plain, serve }] });
  expect(serving({ tcp: [], original: true, originalSource: { mark: 1337 } })).toEqual([]);
  expect(serving({ tcp: [], original: true, originalSource: { mark: 0 } })[0]).toContain("0 is no mark of packets");
  expect(serving({ tcp: [to], originalSource: {} })[0]).toContain("backends say it of themselves");
  expect(
    problems({ chains: [{ ...plain, serve: { tcp: [to], original: true } }], originalDestination: true })[0],
  ).toContain("is beside original");
  const without = { original: true } as unknown as FilterChain["serve"];
  expect(serving(without)[0]).toContain(
    "chains[0].serve.tcp is no list of backends (beside original: an empty one, [])",
  );
  expect(problems({ namespace: "pod" })[0]).toContain("no path of a network namespace");
});
