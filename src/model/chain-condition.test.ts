import { expect, test } from "bun:test";
import { type Arrival, chainRefusal, describeCondition } from "./chain-condition.ts";
import type { ChainCondition } from "./model.ts";

const to = (address: string, port = 443, more: Partial<Arrival> = {}): Arrival => ({
  destination: { address, port },
  ...more,
});

test("a chain says in words why it does not serve a connection", () => {
  const when: ChainCondition = {
    kind: "tls",
    destination: ["10.0.0.0/8", "2001:db8::/32"],
    destinationPorts: [443, 8443],
    source: ["192.0.2.0/24"],
    protocols: ["istio", "h2"],
  };
  const tls = { protocols: ["http/1.1", "h2"] };
  const source = "192.0.2.7";
  expect(chainRefusal(when, to("10.1.2.3", 443, { tls, source }))).toBeUndefined();
  expect(chainRefusal(when, to("2001:db8::1", 8443, { tls, source: "::ffff:192.0.2.7" }))).toBeUndefined();
  const refusals = [
    to("10.1.2.3", 443, { source }),
    to("11.1.2.3", 443, { tls, source }),
    to("10.1.2.3", 80, { tls, source }),
    to("10.1.2.3", 443, { tls, source: "198.51.100.1" }),
    to("10.1.2.3", 443, { tls }),
    to("10.1.2.3", 443, { tls: {}, source }),
  ].map((arrival) => chainRefusal(when, arrival));
  expect(refusals).toEqual([
    "serves TLS, and this connection is not",
    "serves connections to 10.0.0.0/8, 2001:db8::/32, and this one is to 11.1.2.3",
    "serves port 443, 8443, and this connection is to port 80",
    "serves clients of 192.0.2.0/24, and this one is 198.51.100.1",
    "serves clients of 192.0.2.0/24, and this one is not known",
    "serves clients that offer istio, h2, and this one offers none",
  ]);
  expect(describeCondition(when)).toBe(
    "tls; to 10.0.0.0/8, 2001:db8::/32, port 443, port 8443; from 192.0.2.0/24; offering istio, h2",
  );
});

test("server names are looked at first, and plain chains take no TLS", () => {
  const sni = { kind: "sni", names: ["*.example"], destinationPorts: [443] } as const;
  expect(chainRefusal(sni, to("10.0.0.1", 443, { tls: { serverName: "A.Example" } }))).toBeUndefined();
  expect(chainRefusal(sni, to("10.0.0.1", 80, { tls: {} }))).toContain("this connection has no server name");
  expect(chainRefusal({ kind: "plain" }, to("10.0.0.1", 80, { tls: {} }))).toContain("this one is TLS");
  expect(describeCondition(sni)).toBe("sni *.example; to port 443");
  expect(describeCondition({ kind: "plain" })).toBe("plain");
});
