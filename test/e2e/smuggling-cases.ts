// What attackers send to make two parsers disagree about where a request ends, as data: the bytes, what our proxy does with them,
// and where NGINX, HAProxy or Envoy take in front of us what we refuse, with the reason. `@@@@` stands for the case's own path.

import type { PeerName } from "./http-peers.ts";

export interface SmugglingCase {
  readonly name: string;
  readonly bytes: string;
  /** Statuses in the order in which the client gets them. */
  readonly status: readonly number[];
  /** How many requests a backend gets. */
  readonly forwarded: number;
}

/** A request that must never be taken for one when it stands in the body of another. */
export const hidden = "GET /@@@@-hidden HTTP/1.1\r\nhost: a\r\n\r\n";

const refused = (status: number, name: string, bytes: string): SmugglingCase => ({
  name,
  bytes,
  status: [status],
  forwarded: 0,
});
/** Taken, and sent on in the one plain spelling. */
const taken = (name: string, bytes: string, count = 1): SmugglingCase => ({
  name,
  bytes,
  status: Array.from({ length: count }, () => 200),
  forwarded: count,
});
/** What begins like another protocol's bytes is closed without a word: its client would not understand one. */
const silent = (name: string, bytes: string): SmugglingCase => ({ name, bytes, status: [], forwarded: 0 });
/** The first part is a request, the rest of the connection is refused. */
const begun = (name: string, bytes: string, status: readonly number[]): SmugglingCase => ({
  name,
  bytes,
  status,
  forwarded: status.filter((one) => one === 200).length,
});

const post = (fields: string, body: string) => `POST /@@@@ HTTP/1.1\r\nhost: a\r\n${fields}\r\n\r\n${body}`;
const get = (fields: string, path = "/@@@@") => `GET ${path} HTTP/1.1\r\nhost: a\r\n${fields}\r\n\r\n`;
const chunked = (body: string, more = "") => post(`transfer-encoding: chunked${more}`, body);
const hiddenLength = `content-length: ${hidden.length}`;

/** Content-Length and Transfer-Encoding together, and in every spelling. */
const lengths: readonly SmugglingCase[] = [
  refused(400, "CL.TE", post("content-length: 6\r\ntransfer-encoding: chunked", `0\r\n\r\n${hidden}`)),
  refused(400, "TE.CL", post("transfer-encoding: chunked\r\ncontent-length: 4", `0\r\n\r\n${hidden}`)),
  refused(400, "CL.TE with a body of the length", post(`${hiddenLength}\r\ntransfer-encoding: chunked`, hidden)),
  refused(400, "two equal Content-Length", post("content-length: 2\r\ncontent-length: 2", "ok")),
  refused(400, "two different Content-Length", post(`content-length: 0\r\n${hiddenLength}`, hidden)),
  refused(400, "a list of equal lengths", post("content-length: 2, 2", "ok")),
  refused(400, "a list of different lengths", post(`content-length: 0, ${hidden.length}`, hidden)),
  ...(
    [
      "+2",
      "-2",
      "-0",
      "0x2",
      "2.0",
      "2 2",
      "2e0",
      "",
      ",2",
      "2,",
      "2;",
      "\x0b2",
      "2\x0c",
      "two",
      "\xb2",
      "18446744073709551618",
      "4294967298000000000",
      "99999999999999999999999999",
      "0000000000000000000000000002",
    ] as const
  ).map((value) => refused(400, `Content-Length ${JSON.stringify(value)}`, post(`content-length: ${value}`, "ok"))),
  taken("Content-Length with spaces and tabs around", post("content-length: \t 2\t ", "ok")),
  taken("Content-Length with leading zeros", post("content-length: 002", "ok")),
  taken("Content-Length in capitals", post("CONTENT-LENGTH: 2", "ok")),
  taken("a GET with a body", get(`${hiddenLength}`) + hidden),
  taken("a HEAD with a body", `DELETE /@@@@ HTTP/1.1\r\nhost: a\r\n${hiddenLength}\r\n\r\n${hidden}`),
  refused(400, "a space before the colon of Content-Length", post(`content-length : ${hidden.length}`, hidden)),
  refused(400, "a tab before the colon of Transfer-Encoding", post("transfer-encoding\t: chunked", "0\r\n\r\n")),
  taken("Transfer-Encoding in capitals", post("TRANSFER-ENCODING: CHUNKED", "2\r\nok\r\n0\r\n\r\n")),
  taken(
    "Transfer-Encoding with spaces and tabs around",
    post("transfer-encoding: \t chunked \t", "2\r\nok\r\n0\r\n\r\n"),
  ),
  ...(
    [
      "xchunked",
      "chunk",
      "identity",
      "chunked, chunked",
      "chunked, identity",
      "chunked, gzip",
      "chunked;q=1",
      '"chunked"',
      "'chunked'",
      "\x0bchunked",
      "chunked\x0c",
      "chunked\0",
      "chunked\xa0",
      "ch\u0075nked x",
      "",
      ",",
      ", chunked",
      "chunked,",
    ] as const
  ).map((value) =>
    refused(
      400,
      `Transfer-Encoding ${JSON.stringify(value)}`,
      post(`transfer-encoding: ${value}`, `0\r\n\r\n${hidden}`),
    ),
  ),
  refused(501, "Transfer-Encoding gzip, chunked", chunkedAs("gzip, chunked")),
  refused(501, "Transfer-Encoding identity, chunked", chunkedAs("identity, chunked")),
  refused(
    400,
    "two fields Transfer-Encoding",
    post("transfer-encoding: chunked\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
  ),
  refused(
    400,
    "two fields Transfer-Encoding, identity",
    post("transfer-encoding: identity\r\ntransfer-encoding: chunked", "0\r\n\r\n"),
  ),
  refused(
    400,
    "Transfer-Encoding in HTTP/1.0",
    "POST /@@@@ HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
  ),
  taken("Transfer_Encoding is no Transfer-Encoding", post(`transfer_encoding: chunked\r\n${hiddenLength}`, hidden)),
  taken("Content_Length is no Content-Length", post(`content_length: 0\r\n${hiddenLength}`, hidden)),
  taken("X-Transfer-Encoding is none", post(`x-transfer-encoding: chunked\r\n${hiddenLength}`, hidden)),
  taken("Connection cannot take Content-Length away", post(`connection: content-length\r\n${hiddenLength}`, hidden)),
  taken(
    "Connection cannot take Transfer-Encoding away",
    chunked(`${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`, "\r\nconnection: transfer-encoding"),
  ),
  taken("Connection cannot take Host away", get("connection: host")),
  taken("TE and Trailer are for one hop", get("te: trailers, chunked\r\ntrailer: content-length")),
];

function chunkedAs(value: string): string {
  return post(`transfer-encoding: ${value}`, `0\r\n\r\n${hidden}`);
}

const lines: readonly SmugglingCase[] = [
  ...(["content-length", "transfer-encoding", "host", "x-other"] as const).map((name) =>
    refused(400, `a folded ${name}`, `POST /@@@@ HTTP/1.1\r\nx: y\r\n${name}:\r\n 2\r\n\r\nok`),
  ),
  refused(400, "a folded line that looks like a length", post(`x: y\r\n ${hiddenLength}`, hidden)),
  refused(400, "a folded line behind a tab", post("x: y\r\n\ttransfer-encoding: chunked", `0\r\n\r\n${hidden}`)),
  refused(400, "the first field is folded", `GET /@@@@ HTTP/1.1\r\n host: a\r\n\r\n`),
  refused(400, "only LF", `GET /@@@@ HTTP/1.1\nhost: a\n\n`),
  refused(400, "LF behind the request line", `GET /@@@@ HTTP/1.1\nhost: a\r\n\r\n`),
  refused(400, "LF behind a field", `POST /@@@@ HTTP/1.1\r\nhost: a\r\nx: y\n${hiddenLength}\r\n\r\n${hidden}`),
  refused(400, "LF at the end of the head", `GET /@@@@ HTTP/1.1\r\nhost: a\r\n\n`),
  refused(400, "CR alone at the end of the head", `GET /@@@@ HTTP/1.1\r\nhost: a\r\n\rX`),
  refused(400, "CR in a value", get("x: y\rcontent-length: 5")),
  refused(400, "CR CR LF", `GET /@@@@ HTTP/1.1\r\r\nhost: a\r\n\r\n`),
  refused(400, "CR CR LF behind a field", get("x: y\r")),
  refused(400, "NUL in a value", get("x: y\0z")),
  refused(400, "a control character in a value", get("x: y\x01z")),
  refused(400, "DEL in a value", get("x: y\x7fz")),
  refused(400, "a space before a colon", get("x : y")),
  refused(400, "a space in a name", get("x y: z")),
  refused(400, "an empty name", get(": y")),
  refused(400, "a line without a colon", get("x")),
  refused(400, "NUL in a name", get("x\0: y")),
  refused(400, "a name outside ASCII", get("\xe9: y")),
  refused(400, "a bracket in a name", get("x(y): z")),
  refused(400, "a colon in the place of a field", get(":path: /other")),
  taken("a name with an underscore", get("x_y: z")),
  taken("bytes outside ASCII in a value", get("x: \xe9\x80\xff")),
  taken("an empty line before the request", `\r\n\r\n${get("x: y")}`),
  refused(400, "LF before the request", `\n${get("x: y")}`),
  refused(400, "a space before the request", ` ${get("x: y")}`),
];

const requestLines: readonly SmugglingCase[] = [
  ...(
    [
      ["two spaces before the target", "GET  /@@@@ HTTP/1.1"],
      ["a tab for a space", "GET\t/@@@@ HTTP/1.1"],
      ["a second version", "GET /@@@@ HTTP/1.1 HTTP/1.1"],
      ["a space at the end of the line", "GET /@@@@ HTTP/1.1 "],
      ["a version of two digits", "GET /@@@@ HTTP/1.10"],
      ["a version without a minor", "GET /@@@@ HTTP/1"],
      ["a sign in the version", "GET /@@@@ HTTP/+1.1"],
      ["a fragment", "GET /@@@@#x HTTP/1.1"],
      ["NUL in the target", "GET /@@@@\0x HTTP/1.1"],
      ["a byte outside ASCII in the target", "GET /@@@@\xe9 HTTP/1.1"],
      ["a control character in the target", "GET /@@@@\x01 HTTP/1.1"],
      ["a target that is no path", "GET @@@@ HTTP/1.1"],
      ["an asterisk for a GET", "GET * HTTP/1.1"],
      ["another scheme", "GET ftp://a/@@@@ HTTP/1.1"],
      ["the absolute form without a host", "GET http:///@@@@ HTTP/1.1"],
      ["the absolute form with one slash", "GET http:/a/@@@@ HTTP/1.1"],
      ["userinfo in the absolute form", "GET http://b@a/@@@@ HTTP/1.1"],
      ["a colon in the method", "GET: /@@@@ HTTP/1.1"],
      ["a bracket in the method", "G(T /@@@@ HTTP/1.1"],
    ] as const
  ).map(([name, line]) => refused(400, name, `${line}\r\nhost: a\r\n\r\n`)),
  silent("two spaces behind the target", "GET /@@@@  HTTP/1.1\r\nhost: a\r\n\r\n"),
  silent("a space in the target", "GET /@@@@ x HTTP/1.1\r\nhost: a\r\n\r\n"),
  silent("a lower-case version", "GET /@@@@ http/1.1\r\nhost: a\r\n\r\n"),
  refused(505, "a version 2.0 without its preface", "GET /@@@@ HTTP/2.0\r\nhost: a\r\n\r\n"),
  refused(501, "CONNECT", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n"),
  refused(
    501,
    "CONNECT, and a request behind it",
    `CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\nGET /@@@@ HTTP/1.1\r\nhost: a\r\n\r\n`,
  ),
  refused(400, "CONNECT with a path", "CONNECT /@@@@ HTTP/1.1\r\nhost: a\r\n\r\n"),
  refused(400, "CONNECT without a port", "CONNECT a HTTP/1.1\r\nhost: a\r\n\r\n"),
  refused(400, "CONNECT with another Host", "CONNECT a:80 HTTP/1.1\r\nhost: b:80\r\n\r\n"),
  refused(400, "CONNECT with a length", "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\ncontent-length: 4\r\n\r\n@@@@"),
  refused(
    400,
    "CONNECT with a transfer coding",
    "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
  ),
  taken("the absolute form stands above Host", "GET http://b/@@@@ HTTP/1.1\r\nhost: a\r\n\r\n"),
  taken("the absolute form without a path", "GET http://b?@@@@ HTTP/1.1\r\nhost: a\r\n\r\n"),
  taken("a path that begins with two slashes", "GET //b/@@@@ HTTP/1.1\r\nhost: a\r\n\r\n"),
  taken("a later minor version", "GET /@@@@ HTTP/1.9\r\nhost: a\r\n\r\n"),
  taken("HTTP/1.0", "GET /@@@@ HTTP/1.0\r\nhost: a\r\n\r\n"),
  taken("an encoded line end in the target", "GET /@@@@%0d%0ax:%20y HTTP/1.1\r\nhost: a\r\n\r\n"),
];

const hosts: readonly SmugglingCase[] = [
  refused(400, "no Host", "GET /@@@@ HTTP/1.1\r\nx: y\r\n\r\n"),
  refused(400, "two Hosts", "GET /@@@@ HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n"),
  refused(400, "two equal Hosts", "GET /@@@@ HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n"),
  refused(400, "the second Host has a space before its colon", "GET /@@@@ HTTP/1.1\r\nhost: a\r\nhost : b\r\n\r\n"),
  ...(
    ["", "a b", "a, b", "a/b", "b@a", "a?b", "a#b", "a:80:90", "a:port", "a:99999", "[::1", "a\\b", "a\x00b"] as const
  ).map((value) => refused(400, `Host ${JSON.stringify(value)}`, `GET /@@@@ HTTP/1.1\r\nhost: ${value}\r\n\r\n`)),
  taken("an encoded byte in Host", "GET /@@@@ HTTP/1.1\r\nhost: a%2f\r\n\r\n"),
  taken("Host with a port", "GET /@@@@ HTTP/1.1\r\nhost: a:80\r\n\r\n"),
  taken("X_Forwarded_For is not passed on as one", get("x_forwarded_for: 10.0.0.1")),
];

const chunks: readonly SmugglingCase[] = [
  taken("a chunk extension", chunked("2;a=b\r\nok\r\n0\r\n\r\n")),
  taken("a quoted chunk extension", chunked('2;a="b;c"\r\nok\r\n0\r\n\r\n')),
  taken("an extension of the last chunk", chunked("2\r\nok\r\n0;a\r\n\r\n")),
  taken("a size with leading zeros", chunked("0002\r\nok\r\n0\r\n\r\n")),
  taken("a last chunk of many zeros", chunked("2\r\nok\r\n000\r\n\r\n")),
  taken("capital digits", chunked("A\r\n0123456789\r\n0\r\n\r\n")),
  taken("trailers", chunked("2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n")),
  taken(
    "trailers that frame are dropped",
    chunked(`2\r\nok\r\n0\r\n${hiddenLength}\r\ntransfer-encoding: chunked\r\nhost: b\r\n\r\n`),
  ),
  taken("a hidden request in a chunk", chunked(`${hidden.length.toString(16)}\r\n${hidden}\r\n0\r\n\r\n`)),
  ...(
    [
      ["0x in a size", "0x2\r\nok\r\n0\r\n\r\n"],
      ["a plus before a size", "+2\r\nok\r\n0\r\n\r\n"],
      ["a minus before a size", "-2\r\nok\r\n0\r\n\r\n"],
      ["a space before a size", " 2\r\nok\r\n0\r\n\r\n"],
      ["a space in a size", "2 0\r\nok\r\n0\r\n\r\n"],
      ["a word behind a size", "2 a\r\nok\r\n0\r\n\r\n"],
      ["no size", "\r\nok\r\n0\r\n\r\n"],
      ["only an extension", ";a\r\nok\r\n0\r\n\r\n"],
      ["a size that is no number", "g\r\nok\r\n0\r\n\r\n"],
      ["a size of 2^64 + 2", "10000000000000002\r\nok\r\n0\r\n\r\n"],
      ["a size of 2^32 + 2 in zeros", "0000000000000000000100000002\r\nok\r\n0\r\n\r\n"],
      ["a size of 64 bits", "FFFFFFFFFFFFFFFE\r\nok\r\n0\r\n\r\n"],
      ["an underscore in a size", "1_0\r\n0123456789abcdef\r\n0\r\n\r\n"],
      ["a decimal point in a size", "2.0\r\nok\r\n0\r\n\r\n"],
      ["LF behind a size", "2\nok\r\n0\r\n\r\n"],
      ["LF behind a chunk", "2\r\nok\n0\r\n\r\n"],
      ["CR alone behind a size", "2\rok\r\n0\r\n\r\n"],
      ["LF in an extension", `2;a\nok\r\n0\r\n\r\n`],
      ["CR in an extension", "2;a\rb\r\nok\r\n0\r\n\r\n"],
      ["NUL in an extension", "2;a\0\r\nok\r\n0\r\n\r\n"],
      ["more data than the size says", "2\r\nokok\r\n0\r\n\r\n"],
      ["less data than the size says", `5\r\nok\r\n0\r\n\r\n${hidden}`],
      ["no line end behind a chunk", "2\r\nok0\r\n\r\n"],
      ["a bad trailer", "2\r\nok\r\n0\r\nx y\r\n\r\n"],
      ["a request in the place of trailers", `0\r\n${hidden}`],
      ["a folded trailer", "2\r\nok\r\n0\r\nx: y\r\n z\r\n\r\n"],
      ["LF behind the last chunk", `2\r\nok\r\n0\n\r\n`],
      ["LF at the end of trailers", "2\r\nok\r\n0\r\nx: y\n\n"],
      ["an extension without an end", `2;${"a".repeat(5000)}\r\nok\r\n0\r\n\r\n`],
      ["trailers without an end", `2\r\nok\r\n0\r\n${"x: y\r\n".repeat(3000)}\r\n`],
    ] as const
  ).map(([name, body]) => refused(400, name, chunked(body))),
];

const upgrades: readonly SmugglingCase[] = [
  taken(
    "an h2c upgrade is not passed on",
    `${get("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__")}`,
  ),
  taken(
    "an h2c upgrade in capitals is not passed on",
    get("connection: Upgrade, HTTP2-Settings\r\nupgrade: H2C\r\nhttp2-settings: AAMAAABkAAQAAP__"),
  ),
  taken(
    "an h2c upgrade, and a request behind it as if it were its first frames",
    `${get("connection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__")}${get("x: y")}`,
    2,
  ),
  taken("an upgrade with a body is none", post(`connection: upgrade\r\nupgrade: websocket\r\n${hiddenLength}`, hidden)),
  taken(
    "an upgrade that the backend does not take, and a request behind it",
    get(
      "connection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 99\r\nsec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==",
    ) + get("x: y"),
    2,
  ),
  taken("Upgrade without Connection is not passed on", get("upgrade: websocket")),
  taken("Connection: upgrade without Upgrade", get("connection: upgrade")),
  refused(417, "another expectation", get("expect: 200-ok")),
];

const oversized: readonly SmugglingCase[] = [
  refused(431, "101 fields", get(Array.from({ length: 100 }, (_, index) => `x-${index}: y`).join("\r\n"))),
  refused(431, "a value of 70 KiB", get(`x: ${"y".repeat(70 * 1024)}`)),
  refused(431, "a name of 70 KiB", get(`${"x".repeat(70 * 1024)}: y`)),
  refused(414, "a target of 17 KiB", get("x: y", `/@@@@${"x".repeat(17 * 1024)}`)),
  refused(400, "a method of 100 KiB", `${"G".repeat(100 * 1024)} /@@@@ HTTP/1.1\r\nhost: a\r\n\r\n`),
];

const pipelines: readonly SmugglingCase[] = [
  taken("two requests", get("x: y") + get("x: y"), 2),
  taken("a request behind a body", post("content-length: 2", "ok") + get("x: y"), 2),
  taken("a request behind chunks", chunked("2\r\nok\r\n0\r\n\r\n") + get("x: y"), 2),
  taken("nothing is taken behind Connection: close", get("connection: close") + hidden),
  taken("nothing is taken behind close in a list", get("connection: keep-alive, close") + hidden),
  begun("rubbish behind a request", `${get("x: y")}rubbish\r\n\r\n`, [200, 400]),
  begun("one byte more than Content-Length says", `${post("content-length: 2", "ok")}k\r\n\r\n`, [200, 400]),
];

export const smugglingCases: readonly SmugglingCase[] = [
  ...lengths,
  ...lines,
  ...requestLines,
  ...hosts,
  ...chunks,
  ...upgrades,
  ...oversized,
  ...pipelines,
];

/**
 * What peers in front of us take and we refuse. Harmless, because they send their own plain spelling on: what we get has one
 * reading. A peer that takes more than this fails the test until somebody has looked.
 */
export const lenient: readonly {
  readonly reason: string;
  readonly peers: readonly PeerName[];
  readonly cases: readonly string[];
}[] = [
  {
    reason: "Transfer-Encoding wins over Content-Length, which is dropped (RFC 9112 §6.1)",
    peers: ["haproxy"],
    cases: ["CL.TE", "TE.CL", "CL.TE with a body of the length"],
  },
  {
    reason: "a request behind a CONNECT that was refused is one; here the connection ends",
    peers: ["haproxy"],
    cases: ["CONNECT, and a request behind it"],
  },
  {
    reason: "equal lengths are one (RFC 9112 §6.3)",
    peers: ["haproxy"],
    cases: ["two equal Content-Length", "a list of equal lengths"],
  },
  {
    reason: "any number of leading zeros",
    peers: ["nginx", "haproxy"],
    cases: ['Content-Length "0000000000000000000000000002"'],
  },
  {
    reason: "an empty member of a list is none (RFC 9110 §5.6.1)",
    peers: ["haproxy"],
    cases: ['Transfer-Encoding "chunked,"'],
  },
  {
    reason: "folded lines are joined (RFC 9112 §5.2)",
    peers: ["haproxy", "envoy"],
    cases: [
      "a folded host",
      "a folded content-length",
      "a folded transfer-encoding",
      "a folded x-other",
      "a folded line that looks like a length",
      "a folded line behind a tab",
    ],
  },
  {
    reason: "LF ends a line (RFC 9112 §2.2)",
    peers: ["nginx", "haproxy", "envoy"],
    cases: [
      "only LF",
      "LF behind the request line",
      "LF behind a field",
      "LF at the end of the head",
      "LF before the request",
      "LF behind a size",
      "LF behind a chunk",
      "LF in an extension",
      "LF behind the last chunk",
      "LF at the end of trailers",
    ],
  },
  {
    reason: "CR without LF is white space (RFC 9112 §2.2)",
    peers: ["nginx", "envoy"],
    cases: ["CR in a value", "CR CR LF", "CR CR LF behind a field"],
  },
  {
    reason: "field lines that cannot be read are left out",
    peers: ["nginx"],
    cases: ["a line without a colon", "a name outside ASCII", "a bracket in a name"],
  },
  {
    reason: "any white space separates the parts of the request line (RFC 9112 §3)",
    peers: ["nginx", "haproxy", "envoy"],
    cases: [
      "two spaces before the target",
      "two spaces behind the target",
      "a tab for a space",
      "a space at the end of the line",
    ],
  },
  {
    reason: "the version is not looked at closely; HTTP/1.1 is what is sent on",
    peers: ["nginx", "haproxy"],
    cases: ["a version of two digits", "a version 2.0 without its preface"],
  },
  { reason: "the scheme of the absolute form is not looked at", peers: ["nginx"], cases: ["another scheme"] },
  { reason: "userinfo is taken off", peers: ["envoy"], cases: ["userinfo in the absolute form"] },
  { reason: "one Host of several is sent on", peers: ["haproxy", "envoy"], cases: ["two equal Hosts", "two Hosts"] },
  {
    reason: "what stands behind the digits of a chunk's size is skipped",
    peers: ["nginx", "haproxy", "envoy"],
    cases: [
      "a space in a size",
      "a word behind a size",
      "NUL in an extension",
      "an extension without an end",
      "more data than the size says",
    ],
  },
  {
    reason: "trailers are skipped, or joined when folded",
    peers: ["nginx", "haproxy", "envoy"],
    cases: ["a bad trailer", "a request in the place of trailers", "a folded trailer", "trailers without an end"],
  },
  { reason: "expectations are not looked at", peers: ["nginx"], cases: ["another expectation"] },
];

/** What backends refuse of what we send on: both see one request, and nothing follows it. */
export const refusedBehind: typeof lenient = [
  { reason: "no tabs around a length", peers: ["nginx"], cases: ["Content-Length with spaces and tabs around"] },
  {
    reason: "upgrades are refused unless configured",
    peers: ["envoy"],
    cases: ["an upgrade that the backend does not take, and a request behind it"],
  },
];

export function noted(table: typeof lenient, peer: PeerName, name: string): boolean {
  return table.some(({ peers, cases }) => peers.includes(peer) && cases.includes(name));
}
