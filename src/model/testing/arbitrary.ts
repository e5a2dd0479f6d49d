// Generators of small models and requests for property tests (fast-check), made of the rules of `arbitrary-rules.ts`, so that
// requests hit; every model is valid (`validateModel` finds nothing in it). For tests only: nothing that runs imports it.

import fc from "fast-check";
import type { DecideRequest } from "../decision.ts";
import type { Backend, Endpoints, Listener, Model, Secret } from "../model.ts";
import { Redacted } from "../redacted.ts";
import { arbitraryRouteTable, backendPool, from, pathPool, valuePool } from "./arbitrary-rules.ts";

const authorityPool = [
  "example.com",
  "api.example.com",
  "API.Example.com",
  "api.example.com:8080",
  "api.example.com.",
  "v1.api.example.com",
  "deep.v1.api.example.com",
  "notexample.com",
  "xapi.example.com",
  "other.org",
  "127.0.0.1:80",
  "[::1]:80",
  "",
  "a b",
];
const targetPool = [
  ...pathPool,
  "",
  "*",
  "/a?x=v2",
  "/a?x=v1&x=v2",
  "/a/b?y=v2&x=V2",
  "/a?x",
  "/a?x=a%2Cb",
  "/a?X=v2",
  "/a/b/?",
  "/b",
  "//",
  "//a",
  "/%61/./b",
  "/b/../a",
  "/b/%2e%2e%2Fa",
  "/a/../../b",
  "http://api.example.com",
  "http://other.org/a?x=v2",
  "https://EXAMPLE.com:8443/a/b",
];
const secret: Secret = {
  name: "secret/test/certificate",
  from,
  fingerprint: "00".repeat(32),
  content: {
    kind: "certificate",
    certificate: "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n",
    privateKey: new Redacted("-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n"),
  },
};

const backends: readonly Backend[] = backendPool.map((name) => ({
  name,
  from,
  protocol: "http1",
  balance: { kind: "roundRobin" },
  connectTimeout: 1000,
}));
const endpoints: readonly Endpoints[] = [
  { backend: backendPool[0]!, from, endpoints: [{ address: "10.244.0.1", port: 8080, weight: 1 }] },
  {
    backend: backendPool[1]!,
    from,
    endpoints: [
      { address: "10.244.0.2", port: 8080, weight: 1 },
      { address: "10.244.0.3", port: 8080, weight: 2 },
    ],
  },
  { backend: backendPool[2]!, from, endpoints: [] },
  { backend: backendPool[3]!, from, endpoints: [{ address: "10.244.0.4", port: 8080, weight: 0 }] },
];

export const arbitraryAddress = "10.97.0.1";
/** Nothing listens on it but the listener on all addresses of port 80. */
export const otherAddress = "10.97.0.2";

/** A model with a plain and a TLS port on one address, and port 80 on all addresses. Only the missing backend dangles. */
export function arbitraryModel(options: { maxRules?: number } = {}): fc.Arbitrary<Model> {
  const tls = { certificates: [secret.name], alpn: ["http/1.1"] };
  const listeners: readonly Listener[] = [
    {
      name: "plain",
      from,
      scope: "gateway",
      address: arbitraryAddress,
      port: 80,
      transport: "tcp",
      chains: [{ from, when: { kind: "plain" }, serve: { routes: "plain" } }],
    },
    {
      name: "any",
      from,
      scope: "gateway",
      address: "0.0.0.0",
      port: 80,
      transport: "tcp",
      pathNormalization: "MERGE_SLASHES",
      chains: [{ from, when: { kind: "plain" }, serve: { routes: "any" } }],
    },
    {
      name: "tls",
      from,
      scope: "gateway",
      address: arbitraryAddress,
      port: 8443,
      transport: "tcp",
      pathNormalization: "DECODE_AND_MERGE_SLASHES",
      chains: [
        { from, when: { kind: "sni", names: ["api.example.com"] }, tls, serve: { routes: "exact" } },
        { from, when: { kind: "sni", names: ["*.example.com"] }, tls, serve: { routes: "wildcard" } },
        { from, when: { kind: "tls" }, tls, serve: { routes: "plain" } },
      ],
    },
  ];
  return fc
    .tuple(...["plain", "any", "exact", "wildcard"].map((name) => arbitraryRouteTable(name, options)))
    .map((tables) => ({
      secrets: new Map([[secret.name, secret]]),
      backends: new Map(backends.map((backend) => [backend.name, backend])),
      endpoints: new Map(endpoints.map((entry) => [entry.backend, entry])),
      routeTables: new Map(tables.map((table) => [table.name, table])),
      listeners: new Map(listeners.map((listener) => [listener.name, listener])),
    }));
}

/** Targets of CONNECT; those with a path are for a protocol (RFC 8441). */
const connectPool = ["api.example.com:80", "v1.api.example.com:8080", "other.org:443", "[::1]:80", "/a/b", "/"];

const headers = fc.array(
  fc.oneof(
    fc.tuple(fc.constantFrom("x-a", "X-A", "x-b", "x-c"), fc.constantFrom(...valuePool)),
    fc.constantFrom(["origin", "v2"] as [string, string], ["content-length", "4"], ["content-length", "11"]),
    fc.constant(["access-control-request-method", "GET"] as [string, string]),
    fc.tuple(fc.constantFrom("cookie", "Cookie"), fc.constantFrom("c=v2", "d=1; c=v1", "c=v2; c=v1", "C=v2", "c")),
  ),
  { maxLength: 4 },
);

/** A request that likely hits something in a model of {@link arbitraryModel}. */
export const arbitraryRequest: fc.Arbitrary<DecideRequest> = fc
  .record({
    where: fc.constantFrom(
      { address: arbitraryAddress, port: 80 },
      { address: arbitraryAddress, port: 80 },
      { address: otherAddress, port: 80 },
      { address: arbitraryAddress, port: 8443, tls: { serverName: "api.example.com" } },
      { address: arbitraryAddress, port: 8443, tls: { serverName: "v1.api.example.com" } },
      { address: arbitraryAddress, port: 8443, tls: { serverName: "other.org" } },
      { address: arbitraryAddress, port: 8443, tls: {} },
      { address: arbitraryAddress, port: 8443 },
      { address: arbitraryAddress, port: 81 },
    ),
    what: fc.oneof(
      {
        weight: 9,
        arbitrary: fc.record({
          method: fc.constantFrom("GET", "GET", "GET", "POST", "POST", "OPTIONS", "get", "TRACE"),
          target: fc.constantFrom(...targetPool),
        }),
      },
      { weight: 1, arbitrary: fc.record({ method: fc.constant("CONNECT"), target: fc.constantFrom(...connectPool) }) },
    ),
    authority: fc.constantFrom(...authorityPool),
    headers,
    source: fc.constantFrom("10.1.2.3", "10.2.0.1", "192.168.0.1", "172.16.0.1"),
  })
  .map(({ where, what, ...rest }) => ({ ...where, ...what, ...rest }));
