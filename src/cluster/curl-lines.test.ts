import { expect, test } from "bun:test";
import type { KubeObject } from "../api/object.ts";
import { curlLines } from "./curl-lines.ts";

const gateway = (listener: object): KubeObject => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "Gateway",
  metadata: { name: "web", namespace: "shop" },
  spec: { listeners: [listener] },
  status: { addresses: [{ value: "10.97.0.1" }] },
});
const route = (spec: object): KubeObject => ({
  apiVersion: "gateway.networking.k8s.io/v1",
  kind: "HTTPRoute",
  metadata: { name: "cart", namespace: "shop" },
  spec: { parentRefs: [{ name: "web" }], ...spec },
  status: { parents: [{ parentRef: { name: "web" }, conditions: [{ type: "Accepted", status: "True" }] }] },
});
const lines = (listener: object, spec: object, more: Partial<Parameters<typeof curlLines>[0]> = {}) =>
  curlLines({
    gateways: [gateway(listener)],
    routes: [route(spec)],
    issuedHere: () => true,
    authority: "/state/ca.crt",
    effectivePort: (port) => port,
    limit: 5,
    ...more,
  });

test("a line a rule, with host, headers and query as the match wants them", () => {
  const spec = {
    hostnames: ["*.example.com"],
    rules: [
      {
        matches: [
          {
            path: { value: "/cart" },
            headers: [{ name: "x-user", value: "a b" }],
            queryParams: [{ name: "q", value: "1" }],
          },
        ],
      },
      { matches: [{ method: "POST" }] },
    ],
  };
  expect(lines({ name: "http", protocol: "HTTP", port: 80 }, spec)).toEqual([
    "curl --resolve www.example.com:80:10.97.0.1 --header 'x-user: a b' 'http://www.example.com/cart?q=1'",
    "curl --resolve www.example.com:80:10.97.0.1 --request POST http://www.example.com/",
  ]);
});

test("HTTPS trusts the stack's authority where it issued the certificate, and nobody elsewhere", () => {
  const https = { name: "https", protocol: "HTTPS", port: 443, hostname: "a.example.com" };
  expect(lines(https, { rules: [{}] })).toEqual([
    "curl --cacert /state/ca.crt --resolve a.example.com:443:10.97.0.1 https://a.example.com/",
  ]);
  expect(lines(https, { rules: [{}] }, { issuedHere: () => false })[0]).toContain("--insecure");
});

test("an IPv6 address stands in brackets, and those in quotes", () => {
  const six = {
    ...gateway({ name: "http", protocol: "HTTP", port: 81 }),
    status: { addresses: [{ value: "fd00:97::1" }] },
  };
  const of = (spec: object) => lines({}, spec, { gateways: [six] });
  expect(of({ rules: [{}] })).toEqual(["curl 'http://[fd00:97::1]:81/'"]);
  expect(of({ hostnames: ["a.example.com"], rules: [{}] })).toEqual([
    "curl --resolve 'a.example.com:81:[fd00:97::1]' http://a.example.com:81/",
  ]);
});

test("ports that had to move are the ones in the line", () => {
  const moved = { effectivePort: (port: number) => port + 8000 };
  expect(lines({ name: "http", protocol: "HTTP", port: 80 }, { rules: [{}] }, moved)).toEqual([
    "curl http://10.97.0.1:8080/",
  ]);
});

test("a route that nobody took has no line", () => {
  const refused = { ...route({ rules: [{}] }), status: { parents: [] } };
  expect(lines({ name: "http", protocol: "HTTP", port: 80 }, {}, { routes: [refused] })).toEqual([]);
});
