import { expect, test } from "bun:test";
import { decide } from "./decide.ts";
import type { DecideRequest } from "./decision.ts";
import { emptyModel, type FilterChain, type Listener, type Model } from "./model.ts";

const from = { kind: "Test", name: "t", field: "" };
const chains: FilterChain[] = [
  {
    from,
    when: { kind: "plain", destination: ["10.0.0.0/8"], destinationPorts: [8080] },
    serve: { tcp: [{ from, weight: 1, target: { backend: "one" }, filters: [] }] },
  },
  { from, when: { kind: "tls", protocols: ["istio"] }, serve: { tcp: [], original: true } },
  { from, when: { kind: "plain", source: ["192.0.2.0/24"] }, serve: { tcp: [], original: true } },
];
const listener: Listener = {
  ...{ name: "taken", from, scope: "gateway", address: "0.0.0.0", port: 15_001, transport: "tcp" },
  transparent: true,
  chains,
};
const model: Model = { ...emptyModel, listeners: new Map([["taken", listener]]) };

const decided = (address: string, port: number, more: Partial<DecideRequest> = {}) =>
  decide(model, {
    ...{ address: "0.0.0.0", port: 15_001, method: "GET", authority: "a", target: "/", headers: [] },
    destination: { address, port },
    ...more,
  });

test("a connection is served by where it wanted to go and where it comes from, and goes on to there", () => {
  expect(decided("10.1.1.1", 8080).chain).toBe(chains[0]!);
  const { outcome, trail } = decided("10.1.1.1", 80, { source: "192.0.2.1" });
  expect(outcome).toEqual({ kind: "original", address: "10.1.1.1", port: 80 });
  expect(trail.map(({ name, reason }) => `${name}: ${reason}`)).toEqual([
    "taken: listens on 0.0.0.0:15001",
    "plain; to 10.0.0.0/8, port 8080: serves port 8080, and this connection is to port 80",
    "tls; offering istio: serves TLS, and this connection is not",
    "plain; from 192.0.2.0/24: takes connections without TLS",
  ]);
  expect(decided("10.1.1.1", 443, { tls: { protocols: ["istio"] } }).outcome.kind).toBe("original");
  expect(decided("10.1.1.1", 443, { tls: {} }).outcome.kind).toBe("closed");
});

test("one that wanted to come here goes nowhere, and without a word of it the listener's address is where it went", () => {
  const here = { kind: "closed", reason: "it wanted to go nowhere else" } as const;
  expect(decided("192.0.2.9", 15_001, { source: "192.0.2.1" }).outcome).toEqual(here);
  const asked = { address: "0.0.0.0", port: 15_001, method: "GET", authority: "a", target: "/", headers: [] };
  expect(decide(model, { ...asked, source: "192.0.2.1" }).outcome).toEqual(here);
});
