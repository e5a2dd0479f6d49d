import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { malformed, maxHeadBytes, more } from "./fields.ts";
import { Http1RequestHead, parseRequestHead } from "./request.ts";

function parse(text: string): { result: number; head: Http1RequestHead } {
  const head = new Http1RequestHead();
  return { result: parseRequestHead(Buffer.from(text, "latin1"), 0, head), head };
}

function problem(text: string): string | undefined {
  const { result, head } = parse(text);
  return result === malformed ? head.problem : undefined;
}

const get = (...fields: string[]) =>
  `GET / HTTP/1.1\r\nhost: a\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`;
const post = (...fields: string[]) => get(...fields).replace("GET", "POST");

describe("a request head", () => {
  test("is taken apart", () => {
    const text =
      "POST /orders/7?x=1&y HTTP/1.1\r\nHost: api.example.com:8080\r\nX-A:  one two \t\r\ncontent-length: 5\r\n\r\nhello";
    const { result, head } = parse(text);
    expect(result).toBe(text.length - 5);
    expect(head).toMatchObject({
      method: "POST",
      path: "/orders/7",
      query: "x=1&y",
      authority: "api.example.com:8080",
      length: 5,
      keepAlive: true,
      minor: 1,
    });
    expect(head.headers.get("x-a")).toBe("one two");
  });

  test("needs more at every place where it is cut", () => {
    const text = get("x-a: b", "accept: */*");
    for (let cut = 0; cut < text.length; cut++) expect(parse(text.slice(0, cut)).result).toBe(more);
  });

  test("may have empty lines before it", () => {
    expect(parse(`\r\n\r\n${get()}`).result).toBe(get().length + 4);
    for (const cut of ["\r", "\r\n", "\r\n\r"]) expect(parse(cut).result).toBe(more);
  });

  test("has no field that is a known one with underscores", () => {
    const { head } = parse(get("X_Forwarded_For: 10.0.0.1", "transfer_encoding: chunked", "x_other: y"));
    expect(head.headers.entries().map(([name]) => name)).toEqual(["host", "x_other"]);
    expect(head.length).toBe(0);
  });

  test("has its query behind the first question mark, and none when there is none", () => {
    expect(parse("GET /a?b?c HTTP/1.1\r\nhost: a\r\n\r\n").head).toMatchObject({ path: "/a", query: "b?c" });
    expect(parse("GET /a? HTTP/1.1\r\nhost: a\r\n\r\n").head).toMatchObject({ path: "/a", query: "" });
    expect(parse("GET /a HTTP/1.1\r\nhost: a\r\n\r\n").head.query).toBeUndefined();
  });

  test("in absolute form names the host itself", () => {
    const { head } = parse("GET http://b.example:81/x?y HTTP/1.1\r\nhost: a\r\n\r\n");
    expect(head).toMatchObject({ authority: "b.example:81", path: "/x", query: "y" });
    expect(parse("GET http://b.example HTTP/1.1\r\nhost: a\r\n\r\n").head).toMatchObject({ path: "/" });
    expect(parse("GET http://b.example?y HTTP/1.1\r\nhost: a\r\n\r\n").head).toMatchObject({ path: "/", query: "y" });
  });

  test("in absolute form without a path is about the server, for OPTIONS", () => {
    expect(parse("OPTIONS http://b.example HTTP/1.1\r\nhost: a\r\n\r\n").head).toMatchObject({ path: "*" });
    expect(parse("OPTIONS http://b.example/ HTTP/1.1\r\nhost: a\r\n\r\n").head).toMatchObject({ path: "/" });
  });

  test("in asterisk form is for OPTIONS only", () => {
    expect(parse("OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").head.path).toBe("*");
    expect(problem("GET * HTTP/1.1\r\nhost: a\r\n\r\n")).toBe("bad_request");
  });

  test.each([
    ["GET / HTTP/1.1\nhost: a\r\n\r\n", "a bare LF behind the request line"],
    ["GET / HTTP/1.1\r\nhost: a\n\r\n", "a bare LF behind a field"],
    ["GET / HTTP/1.1\r\nhost: a\r\n\n", "a bare LF as the empty line"],
    ["GET / HTTP/1.1\r\nhost: a\rx: b\r\n\r\n", "a bare CR"],
    ["GET / HTTP/1.1\r\nhost: a\r\nx: a\r\n b\r\n\r\n", "a folded field"],
    ["GET / HTTP/1.1\r\n host: a\r\n\r\n", "a space before the first field"],
    ["GET / HTTP/1.1\r\nhost : a\r\n\r\n", "a space before the colon"],
    ["GET / HTTP/1.1\r\nhost: a\r\n: b\r\n\r\n", "an empty field name"],
    ["GET / HTTP/1.1\r\nhost: a\r\nx\r\n\r\n", "a field without a colon"],
    ["GET / HTTP/1.1\r\nhost: a\r\nx(y): b\r\n\r\n", "a field name that is no token"],
    ["GET / HTTP/1.1\r\nhost: a\r\nx: a\0b\r\n\r\n", "a zero byte in a value"],
    ["GET / HTTP/1.1\r\nhost: a\r\nx: a\x7fb\r\n\r\n", "a DEL in a value"],
    ["GET  / HTTP/1.1\r\nhost: a\r\n\r\n", "two spaces in the request line"],
    ["GET /a b HTTP/1.1\r\nhost: a\r\n\r\n", "a space in the target"],
    ["GET /a\tb HTTP/1.1\r\nhost: a\r\n\r\n", "a tab in the target"],
    ["GET /\xe9 HTTP/1.1\r\nhost: a\r\n\r\n", "a byte outside ASCII in the target"],
    ["GET /#x HTTP/1.1\r\nhost: a\r\n\r\n", "a fragment in the target"],
    ["GET x HTTP/1.1\r\nhost: a\r\n\r\n", "a target that is no path"],
    ["GET ftp://a/ HTTP/1.1\r\nhost: a\r\n\r\n", "an absolute target of another scheme"],
    ["G(T / HTTP/1.1\r\nhost: a\r\n\r\n", "a method that is no token"],
    ["GET /\r\n\r\n", "HTTP/0.9"],
    ["GET / HTTX/1.1\r\nhost: a\r\n\r\n", "another protocol"],
    ["GET / http/1.1\r\nhost: a\r\n\r\n", "a protocol in lower case"],
    ["GET / HTTP/1.1 \r\nhost: a\r\n\r\n", "a space behind the version"],
  ])("%j is refused: %s", (text) => {
    expect(problem(text)).toBe("bad_request");
  });

  test("is refused in other versions", () => {
    expect(problem("GET / HTTP/2.0\r\nhost: a\r\n\r\n")).toBe("version_not_supported");
    expect(parse("GET / HTTP/1.0\r\n\r\n").head).toMatchObject({ minor: 0, keepAlive: false, authority: "" });
  });

  test("must have one host", () => {
    expect(problem("GET / HTTP/1.1\r\n\r\n")).toBe("bad_host");
    expect(problem(get("Host: b"))).toBe("bad_host");
  });

  describe("with CONNECT", () => {
    const connect = (target: string, ...fields: string[]) =>
      `CONNECT ${target} HTTP/1.1\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`;

    test("names a host and a port, and nothing else", () => {
      expect(parse(connect("db.example:5432", "host: db.example:5432")).head).toMatchObject({
        method: "CONNECT",
        authority: "db.example:5432",
        path: "",
        query: undefined,
        upgrade: "",
        tunnelOnly: true,
        hostKept: true,
        length: 0,
      });
      expect(parse(connect("[::1]:443", "host: [::1]:443")).head.authority).toBe("[::1]:443");
      expect(parse("CONNECT a:443 HTTP/1.0\r\n\r\n").head).toMatchObject({ authority: "a:443", tunnelOnly: true });
      for (const target of [
        "a",
        "a:",
        ":443",
        "a:0",
        "a:65536",
        "a:x",
        "u@a:443",
        "a:443?x",
        "http://a:443",
        "/",
        "/a:1",
        "*",
      ])
        expect(problem(connect(target, "host: a:443"))).toBe("bad_request");
    });

    test("agrees with its Host field, which may leave the port out", () => {
      expect(parse(connect("A.example:443", "host: a.example")).head).toMatchObject({
        authority: "A.example:443",
        hostKept: false,
      });
      for (const host of ["b:443", "a:444", "", "b"])
        expect(problem(connect("a:443", `host: ${host}`))).toBe("bad_host");
      expect(problem(connect("a:443"))).toBe("bad_host");
      expect(problem(connect("a:443", "host: a", "host: a"))).toBe("bad_host");
    });

    test("has no content, and asks for no protocol", () => {
      expect(problem(connect("a:443", "host: a", "content-length: 5"))).toBe("bad_framing");
      expect(problem(connect("a:443", "host: a", "transfer-encoding: chunked"))).toBe("bad_framing");
      const { head } = parse(
        connect("a:443", "host: a", "content-length: 0", "connection: upgrade", "upgrade: websocket"),
      );
      expect(head).toMatchObject({ upgrade: "", tunnelOnly: true });
      expect(head.headers.get("content-length")).toBeUndefined();
    });

    test("leaves nothing behind for the next request of its connection", () => {
      const head = new Http1RequestHead();
      parseRequestHead(Buffer.from(connect("a:443", "host: a")), 0, head);
      parseRequestHead(Buffer.from(get()), 0, head);
      expect(head).toMatchObject({ method: "GET", path: "/", upgrade: undefined, tunnelOnly: false, authority: "a" });
    });
  });

  test("is bounded in bytes, fields and target", () => {
    expect(problem(get(`x: ${"a".repeat(maxHeadBytes)}`))).toBe("head_too_large");
    expect(problem(get(`x: ${"a".repeat(maxHeadBytes + 10)}`).slice(0, maxHeadBytes + 8))).toBe("head_too_large");
    expect(problem(get(...Array.from({ length: 100 }, (_, index) => `x-${index}: a`)))).toBe("head_too_large");
    expect(parse(get(...Array.from({ length: 99 }, (_, index) => `x-${index}: a`))).result).toBeGreaterThan(0);
    expect(problem(`GET /${"a".repeat(17_000)} HTTP/1.1\r\nhost: a\r\n\r\n`)).toBe("target_too_long");
  });
});

describe("the end of a request's body", () => {
  test("is told by one Content-Length or by chunked, and not there without them", () => {
    expect(parse(post("content-length: 0")).head.length).toBe(0);
    expect(parse(post("content-length: 12")).head.length).toBe(12);
    expect(parse(post("transfer-encoding: Chunked")).head.length).toBe(-1);
    expect(parse(post()).head.length).toBe(0);
  });

  test.each([
    [["content-length: 5", "content-length: 6"]],
    [["content-length: 5", "content-length: 5"]],
    [["content-length: 5, 5"]],
    [["content-length: +5"]],
    [["content-length: -1"]],
    [["content-length: 0x5"]],
    [["content-length: 5 5"]],
    [["content-length:"]],
    [["content-length: 9999999999999999999"]],
    [["content-length: 5", "transfer-encoding: chunked"]],
    [["transfer-encoding: chunked", "transfer-encoding: chunked"]],
    [["transfer-encoding: chunked, chunked"]],
    [["transfer-encoding: chunked, gzip"]],
    [["transfer-encoding: identity"]],
    [["transfer-encoding: xchunked"]],
    [["transfer-encoding: \x0bchunked"]],
    [["transfer-encoding:"]],
  ])("cannot be told from %j", (fields) => {
    expect(["bad_framing", "bad_request"]).toContain(problem(post(...fields)) ?? "accepted");
  });

  test("with other codings before chunked is not supported", () => {
    expect(problem(post("transfer-encoding: gzip, chunked"))).toBe("coding_not_supported");
  });

  test("is not chunked in HTTP/1.0", () => {
    expect(problem("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n")).toBe("bad_framing");
  });
});

describe("Connection", () => {
  const connection = (...fields: string[]) => parse(get(...fields)).head;

  test("says whether the connection is kept", () => {
    expect(connection().keepAlive).toBe(true);
    expect(connection("connection: close").keepAlive).toBe(false);
    expect(connection("connection: Keep-Alive").keepAlive).toBe(true);
    expect(connection("connection: keep-alive, close").keepAlive).toBe(false);
    expect(connection("connection: close", "connection: keep-alive").keepAlive).toBe(false);
    expect(parse("GET / HTTP/1.0\r\nconnection: keep-alive\r\n\r\n").head.keepAlive).toBe(true);
  });

  test("takes away what it names, but not what routing and framing rest on", () => {
    const head = connection("connection: x-a, host, x-forwarded-for", "x-a: 1", "x-b: 2", "x-forwarded-for: 3");
    expect(head.headers.get("x-a")).toBeUndefined();
    expect(head.headers.get("x-b")).toBe("2");
    expect(head.headers.get("x-forwarded-for")).toBe("3");
    expect(head.headers.get("host")).toBe("a");
  });

  test("with upgrade asks for a tunnel, but never for h2c, with a body or in HTTP/1.0", () => {
    expect(connection("connection: Upgrade", "upgrade: websocket").upgrade).toBe("websocket");
    expect(connection("upgrade: websocket").upgrade).toBeUndefined();
    expect(connection("connection: upgrade", "upgrade: h2c").upgrade).toBeUndefined();
    expect(parse(post("connection: upgrade", "upgrade: websocket", "content-length: 3")).head.upgrade).toBeUndefined();
  });
});

test("an expectation other than 100-continue is refused", () => {
  expect(problem(post("expect: 200-ok"))).toBe("expectation_failed");
  expect(parse(post("expect: 100-Continue")).head.expectContinue).toBe(true);
});

test("no input makes the parser throw or read past its end", () => {
  const piece = fc.constantFrom(
    "GET ",
    "/",
    " HTTP/1.1",
    "\r\n",
    "\n",
    "\r",
    ":",
    " ",
    "host: a",
    "a",
    "\0",
    "content-length: 1",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, fc.string()), { maxLength: 20 }), (pieces) => {
      const text = pieces.join("");
      const { result } = parse(text);
      expect(result).toBeLessThanOrEqual(text.length);
    }),
    { numRuns: 2000 },
  );
});
