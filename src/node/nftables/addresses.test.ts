import { expect, test } from "bun:test";
import fc from "fast-check";
import { contains, parseCidr } from "../../base/cidr.ts";
import { formatIPv4, parseIPv4 } from "../../base/ip.ts";
import { mergedRanges, oneOrSet } from "./addresses.ts";

test("ranges that overlap or touch become one, as nft keeps them", () => {
  expect(mergedRanges(4, ["192.0.2.0/24", "192.0.3.0/24", "192.0.2.128/25"])).toEqual(["192.0.2.0/23"]);
  expect(mergedRanges(4, ["10.0.1.0/24", "10.0.2.0/24"])).toEqual(["10.0.1.0-10.0.2.255"]);
  expect(mergedRanges(4, ["203.0.113.7/25", "10.97.0.1"])).toEqual(["10.97.0.1", "203.0.113.0/25"]);
  expect(mergedRanges(6, ["fd00::/64", "fd00::1"])).toEqual(["fd00::/64"]);
});

test("a range of everything is everything; of the other family and no range are nothing", () => {
  expect(mergedRanges(4, ["10.0.0.0/8", "0.0.0.0/0"])).toBe("everything");
  expect(mergedRanges(6, ["::/1", "8000::/1"])).toBe("everything");
  expect(mergedRanges(4, ["fd00::/64", "nonsense"])).toEqual([]);
});

test("one value stands alone, several in braces", () => {
  expect(oneOrSet(["10.0.0.0/8"])).toBe("10.0.0.0/8");
  expect(oneOrSet(["a", "b"])).toBe("{ a, b }");
});

test("merging changes no answer", () => {
  const near = fc.integer({ min: 0, max: 255 });
  const ranges = fc.array(
    fc.tuple(near, fc.integer({ min: 24, max: 32 })).map(([last, prefix]) => `10.0.0.${last}/${prefix}`),
    { minLength: 1, maxLength: 6 },
  );
  fc.assert(
    fc.property(ranges, near, (list, last) => {
      const address = `10.0.0.${last}`;
      const merged = mergedRanges(4, list) as readonly string[];
      const value = parseIPv4(address)!;
      const inMerged = merged.some((text) => {
        const [from, to] = text.split("-");
        if (to !== undefined) return parseIPv4(from!)! <= value && value <= parseIPv4(to)!;
        return text.includes("/") ? contains(parseCidr(text)!, address) : text === formatIPv4(value);
      });
      expect(inMerged).toBe(list.some((range) => contains(parseCidr(range)!, address)));
    }),
  );
});
