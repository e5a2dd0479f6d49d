// Prometheus' text format.

import { expect, test } from "bun:test";
import { family, histogram, labels } from "./exposition.ts";

test("labels are escaped", () => {
  expect(labels({ route: 'a"b\\c\nd', backend: "" })).toBe('route="a\\"b\\\\c\\nd",backend=""');
});

test("a histogram counts upwards, and one that counted nothing is left out", () => {
  expect(family("t", "histogram", "Times.")).toBe("# HELP t Times.\n# TYPE t histogram\n");
  const counts = [3, 0, 2];
  expect(histogram("t", 'a="b"', ["0.5", "1"], (bucket) => counts[bucket]!, 7.5)).toBe(
    't_bucket{a="b",le="0.5"} 3\nt_bucket{a="b",le="1"} 3\nt_bucket{a="b",le="+Inf"} 5\nt_sum{a="b"} 7.5\nt_count{a="b"} 5\n',
  );
  expect(histogram("t", 'a="b"', ["0.5", "1"], () => 0, 0)).toBe("");
});
