import { describe, expect, test } from "bun:test";
import { type PacketPlace, parsePacketQuestion } from "./packet-question.ts";

const address = (text: string): PacketPlace => ({ kind: "address", address: text });

describe("a packet as people write it", () => {
  test.each([
    ["tcp 10.244.1.5:40000 -> 10.96.0.20:80", "TCP", address("10.244.1.5"), 40_000, address("10.96.0.20"), 80],
    ["udp 10.244.1.5 -> 10.96.0.10:53", "UDP", address("10.244.1.5"), undefined, address("10.96.0.10"), 53],
    ["  SCTP 10.0.0.1:1->10.0.0.2:2 ", "SCTP", address("10.0.0.1"), 1, address("10.0.0.2"), 2],
    ["tcp [fd00:0::5]:4000 -> [FD00::1]:80", "TCP", address("fd00::5"), 4000, address("fd00::1"), 80],
    ["tcp fd00::5 → [fd00::1]:80", "TCP", address("fd00::5"), undefined, address("fd00::1"), 80],
    ["tcp [fd00::5] -> [fd00::1]:80", "TCP", address("fd00::5"), undefined, address("fd00::1"), 80],
    [
      "tcp node -> node:30080",
      "TCP",
      { kind: "node", name: undefined },
      undefined,
      { kind: "node", name: undefined },
      30_080,
    ],
    [
      "tcp 10.0.0.1 -> node/node-2:30080",
      "TCP",
      address("10.0.0.1"),
      undefined,
      { kind: "node", name: "node-2" },
      30_080,
    ],
    [
      "tcp shop/cart-abc12 -> shop/cart:80",
      "TCP",
      { kind: "object", namespace: "shop", name: "cart-abc12" },
      undefined,
      { kind: "object", namespace: "shop", name: "cart" },
      80,
    ],
  ] as const)("%s", (text, protocol, from, fromPort, to, toPort) => {
    expect(parsePacketQuestion(text)).toEqual({
      protocol,
      source: { place: from, port: fromPort },
      destination: { place: to, port: toPort },
    });
  });

  test.each([
    ["tcp 10.0.0.1", "it is not written as PROTOCOL SOURCE -> DESTINATION"],
    ["icmp 10.0.0.1 -> 10.0.0.2:80", 'there is no protocol "icmp" for Services; there are tcp, udp and sctp'],
    ["tcp 10.0.0.1 -> 10.0.0.2", 'the destination "10.0.0.2" has no port'],
    ["tcp 10.0.0.1 -> 10.0.0.2:70000", "70000 is no port; ports are 1 to 65535"],
    ["tcp 10.0.0.1:0 -> 10.0.0.2:80", "0 is no port; ports are 1 to 65535"],
    ["tcp 10.0.0 -> 10.0.0.2:80", '"10.0.0" is no address, node, node/NAME or NAMESPACE/NAME'],
    ["tcp 10.0.0.1 -> a/b/c:80", '"a/b/c:80" is no address, node, node/NAME or NAMESPACE/NAME'],
    ["tcp fd00::5 -> 10.0.0.2:80", "source and destination are of different IP families"],
    ["tcp fd00::5 -> fd00::1", 'the destination "fd00::1" has no port'],
    ["tcp fd00::zz:80 -> [fd00::1]:80", "write IPv6 addresses with ports as [fd00::1]:80"],
  ])("%s is refused", (text, why) => {
    expect(() => parsePacketQuestion(text)).toThrow(why);
  });
});
