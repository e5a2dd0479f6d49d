import { describe, expect, test } from "bun:test";
import { parseCidr } from "../base/cidr.ts";
import { AddressPool } from "./addresses.ts";

const pool = (range: string) => new AddressPool(parseCidr(range)!);

describe("the addresses of a node's pods", () => {
  test("come in turn, and one that was given back is the last to come again", () => {
    const addresses = pool("10.244.0.0/29");
    expect(["a", "b", "c"].map((owner) => addresses.take(owner))).toEqual(["10.244.0.2", "10.244.0.3", "10.244.0.4"]);
    addresses.release("b");
    expect(["d", "e", "f", "g"].map((owner) => addresses.take(owner))).toEqual([
      "10.244.0.5",
      "10.244.0.6",
      "10.244.0.3",
      undefined,
    ]);
  });

  test("stay with their pods over a restart, and new ones come behind them", () => {
    const addresses = pool("10.244.3.0/24");
    expect(addresses.take("old", "10.244.3.77")).toBe("10.244.3.77");
    expect(addresses.take("new")).toBe("10.244.3.78");
    expect(addresses.take("old")).toBe("10.244.3.77");
  });

  test("of another range are not taken over", () => {
    expect(pool("10.244.3.0/24").take("moved", "10.244.9.7")).toBe("10.244.3.2");
  });
});
