import { expect, test } from "bun:test";
import type { Filter } from "../model/filters.ts";
import { filterInWords } from "./filter-in-words.ts";

const from = { kind: "Test", name: "test", field: "" };
const change = { set: [{ name: "a", value: "1" }], add: [], remove: ["b"] };

test("every filter is a line that people can read", () => {
  const words: [Filter, string][] = [
    [{ kind: "requestHeaders", from, change }, "set a: 1, remove b"],
    [{ kind: "query", from, change }, "set a=1, remove b"],
    [
      { kind: "rewrite", from, host: "h", path: { kind: "regex", pattern: "a+", value: "/b" } },
      "host → h, path /a+/ → /b",
    ],
    [
      { kind: "cookies", from, domain: { from: "a", to: "" }, secure: true, sameSite: "Lax" },
      "Domain a → none, Secure, SameSite=Lax",
    ],
    [{ kind: "addresses", from, allow: ["a", "b", "c", "d"], deny: ["e"] }, "not from e, only from a, b, c and 1 more"],
    [{ kind: "addresses", from, allow: [] }, "only from nobody"],
    [{ kind: "basicAuth", from, realm: "r", users: "u" }, 'users of u, realm "r"'],
    [
      {
        kind: "localRateLimit",
        from,
        bucket: "b",
        key: [{ kind: "source" }, { kind: "header", name: "x" }],
        requests: 1,
        per: 1000,
        burst: 5,
        status: 429,
        tell: true,
        shared: false,
      },
      "1 requests in 1000 ms, 5 at once, by source and header x; else 429",
    ],
    [
      {
        kind: "fault",
        from,
        delay: { perMillion: 5000, time: 10 },
        abort: { perMillion: 1_000_000, grpcStatus: 14 },
      },
      "0.5 % wait 10 ms, 100 % get gRPC status 14",
    ],
    [{ kind: "mirror", from, backend: "b", perMillion: 10_000 }, "1 % copied to b"],
    [{ kind: "bodyLimit", from, bytes: 5 }, "bodies of at most 5 bytes"],
    [{ kind: "buffering", from, response: 5 }, "answers whole, up to 5 bytes"],
    [{ kind: "compression", from, codings: ["br"], minBytes: 1, types: ["text/*"] }, "br for text/* from 1 bytes"],
    [
      {
        kind: "errorPages",
        from,
        pages: [
          {
            statuses: [
              { first: 404, last: 404 },
              { first: 500, last: 599 },
            ],
            answer: { backend: "b", path: "/", keepStatus: true },
          },
        ],
      },
      "404, 500-599 → b",
    ],
  ];
  for (const [filter, wanted] of words) expect(filterInWords(filter)).toBe(wanted);
});
