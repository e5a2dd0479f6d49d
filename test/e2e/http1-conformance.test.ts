// What RFC 9112 (and, where it points there, RFC 9110) demands of whoever passes messages on, one case a demand, as data: what a
// client sends, what the backend answers, and what must and must not arrive on either side. Where we are stricter than the
// RFC, by refusing, the case says so. Malformed requests are in `smuggling-cases.ts`; what is not kept is in docs/proxy.md.

import { afterAll, beforeAll, expect, test } from "bun:test";
import { converse, readMessages } from "./http-reference.ts";
import { forwardAll, freePort, ProxyUnderTest } from "./proxy-harness.ts";

interface Case {
  /** RFC 9112's section, or one of RFC 9110 with its number before it. */
  readonly section: string;
  readonly demand: string;
  /** Bytes from the client; `@` is the path. */
  readonly request: string;
  /** Bytes from the backend; what it answers when nothing is said here is a plain 200. */
  readonly answer: string;
  /** The backend closes behind its answer. */
  readonly closes: boolean;
  /** What the client's bytes match, and do not. */
  readonly client: readonly RegExp[];
  readonly clientNot: readonly RegExp[];
  readonly backend: readonly RegExp[];
  readonly backendNot: readonly RegExp[];
}

const plain = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

function demand(section: string, text: string, more: Partial<Case>): Case {
  return {
    section,
    demand: text,
    request: get(),
    answer: plain,
    closes: false,
    client: [],
    clientNot: [],
    backend: [],
    backendNot: [],
    ...more,
  };
}

const get = (...fields: readonly string[]) => message("GET", "@", "1.1", fields);
const head = (...fields: readonly string[]) => message("HEAD", "@", "1.1", fields);
function message(method: string, target: string, version: string, fields: readonly string[], body = ""): string {
  return `${method} ${target} HTTP/${version}\r\nhost: a\r\n${fields.map((one) => `${one}\r\n`).join("")}\r\n${body}`;
}
const answer = (status: string, fields: readonly string[], body = "") =>
  `HTTP/1.1 ${status}\r\n${fields.map((one) => `${one}\r\n`).join("")}\r\n${body}`;

const ok = [/^HTTP\/1\.1 200 /];
/** The next request of the connection is answered. */
const goesOn = [/x-next: 1/];
const bad = [/^HTTP\/1\.1 502 /, /x-fairlead-reason: upstream_malformed/];

const cases: readonly Case[] = [
  // Messages and start lines.
  demand("2.2", "empty lines before a request are skipped", {
    request: `\r\n\r\n${get()}`,
    client: [...ok, ...goesOn],
  }),
  demand("2.2", "white space before the first field is refused", {
    request: "GET @ HTTP/1.1\r\n host: a\r\n\r\n",
    client: [/^HTTP\/1\.1 400 /],
    backendNot: [/./],
  }),
  demand("2.3", "what is sent on says our own version", {
    request: message("GET", "@", "1.0", []),
    backend: [/^GET @ HTTP\/1\.1\r\n/],
  }),
  demand("2.3", "a later minor version is served as HTTP/1.1", { request: message("GET", "@", "1.7", []), client: ok }),
  demand("3.1", "methods have a case, and unknown ones pass", {
    request: message("get", "@", "1.1", []),
    backend: [/^get @ /],
  }),
  demand("3.2.1", "the target goes on byte by byte", {
    request: message("GET", "@/%7e/..//;a=b/?x=%2F&y=[z]|`", "1.1", []),
    backend: [/^GET @\/%7e\/\.\.\/\/;a=b\/\?x=%2F&y=\[z\]\|` HTTP/],
  }),
  demand("3.2", "HTTP/1.1 without a Host is refused", {
    request: "GET @ HTTP/1.1\r\n\r\n",
    client: [/^HTTP\/1\.1 400 /],
    backendNot: [/./],
  }),
  demand("3.2", "two Hosts are refused", { request: get("host: a"), client: [/^HTTP\/1\.1 400 /], backendNot: [/./] }),
  demand("3.2.2", "the absolute form is taken, and its host stands above Host", {
    request: message("GET", "http://b:81@?c", "1.1", []),
    backend: [/^GET @\?c HTTP/, /\r\nhost: b:81\r\n/],
    backendNot: [/\r\nhost: a\r\n/i],
  }),
  demand("3.2.4", "OPTIONS * is passed on as that", {
    request: message("OPTIONS", "*", "1.1", ["x-case: @"]),
    backend: [/^OPTIONS \* HTTP/],
  }),
  demand("3.2.4", "OPTIONS of a host without a path becomes OPTIONS *", {
    request: message("OPTIONS", "http://b", "1.1", ["x-case: @"]),
    backend: [/^OPTIONS \* HTTP/, /\r\nhost: b\r\n/],
  }),
  demand("4", "an answer of HTTP/1.0 goes on as ours", {
    answer: "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    client: [/^HTTP\/1\.1 200 OK\r\n/, ...goesOn],
  }),
  demand("4", "a status without a phrase keeps its space", {
    answer: answer("299 ", ["content-length: 0"]),
    client: [/^HTTP\/1\.1 299 \r\n/],
  }),
  demand("4", "an answer whose status is no number is a bad gateway", {
    answer: "HTTP/1.1 2x0 OK\r\n\r\n",
    client: bad,
  }),
  demand("4", "an answer of another protocol is a bad gateway", {
    answer: "SSH-2.0-OpenSSH_9.2\r\nand more\r\n",
    client: bad,
  }),
  // Fields.
  demand("4", "what is no answer is a bad gateway at once, however short", { answer: "xyz\r\n\r\n", client: bad }),
  demand("9110 5.4", "a head of an answer that is too large is a bad gateway, though it came whole", {
    answer: answer("200 OK", [`x: ${"y".repeat(70 * 1024)}`, "content-length: 0"]),
    client: bad,
  }),
  demand("5", "names keep their letters, values their inner spaces, repeated fields their order", {
    request: get("X-MiXed: a  b", "x-list: 1", "x-other: o", "x-list: 2"),
    answer: answer("200 OK", ["Set-Cookie: a=1", "X-UPPER: a  b", "set-cookie: b=2", "content-length: 0"]),
    backend: [/\r\nX-MiXed: a {2}b\r\nx-list: 1\r\nx-other: o\r\nx-list: 2\r\n/],
    client: [/Set-Cookie: a=1\r\nX-UPPER: a {2}b\r\nset-cookie: b=2\r\n/],
  }),
  demand("5.1", "white space before a colon in an answer never goes on (refused, where it could be taken away)", {
    answer: answer("200 OK", ["x : y", "content-length: 0"]),
    client: bad,
    clientNot: [/x : y/],
  }),
  demand("5.2", "a folded answer never goes on (refused, where it could be unfolded)", {
    answer: answer("200 OK", ["x: y", " z", "content-length: 0"]),
    client: bad,
  }),
  demand("2.2", "bare CR in an answer never goes on", {
    answer: answer("200 OK", ["x: y\rz", "content-length: 0"]),
    client: bad,
  }),
  demand("2.2", "bare LF in an answer is refused", { answer: "HTTP/1.1 200 OK\ncontent-length: 0\n\n", client: bad }),
  demand("9110 5.5", "NUL in an answer never goes on", {
    answer: answer("200 OK", ["x: y\0z", "content-length: 0"]),
    client: bad,
  }),
  demand("9110 5.3", "fields that nobody knows pass both ways", {
    request: get("x-unknown: 1"),
    answer: answer("200 OK", ["y-unknown: 2", "content-length: 0"]),
    backend: [/\r\nx-unknown: 1\r\n/],
    client: [/\r\ny-unknown: 2\r\n/],
  }),
  // Where a body ends.
  demand("6.1", "Transfer-Encoding beside Content-Length in an answer is refused", {
    answer: answer("200 OK", ["transfer-encoding: chunked", "content-length: 5"], "0\r\n\r\n"),
    client: bad,
  }),
  demand("6.1", "a coding in an answer that we do not know is refused", {
    answer: answer("200 OK", ["transfer-encoding: gzip"], "xx"),
    closes: true,
    client: bad,
  }),
  demand("6.1", "Transfer-Encoding in an answer of HTTP/1.0 is refused", {
    answer: "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    client: bad,
  }),
  demand("6.1", "a 204 has no Transfer-Encoding", {
    answer: answer("204 No Content", ["transfer-encoding: chunked"]),
    clientNot: [/^HTTP\/1\.1 204[\s\S]*transfer-encoding/i],
  }),
  demand("6.1", "a client of HTTP/1.0 is never sent chunks", {
    request: message("GET", "@", "1.0", []),
    answer: answer("200 OK", ["transfer-encoding: chunked"], "2\r\nok\r\n0\r\n\r\n"),
    client: [/^HTTP\/1\.1 200 [\s\S]*\r\n\r\nok$/],
    clientNot: [/transfer-encoding/i],
  }),
  demand("6.2", "a 204 has no Content-Length", {
    answer: answer("204 No Content", ["content-length: 0"]),
    client: [/^HTTP\/1\.1 204 /, ...goesOn],
    clientNot: [/^HTTP\/1\.1 204 [^\r]*\r\n([^\r]+\r\n)*content-length/i],
  }),
  demand("6.2", "only one way to end a body is sent on", {
    request: message("POST", "@", "1.1", ["transfer-encoding: chunked"], "2\r\nok\r\n0\r\n\r\n"),
    backend: [/transfer-encoding: chunked\r\n/],
    backendNot: [/content-length/],
  }),
  demand("6.3", "two lengths in an answer are refused", {
    answer: answer("200 OK", ["content-length: 2", "content-length: 3"], "okk"),
    client: bad,
  }),
  demand("6.3", "a length in an answer that is none is refused", {
    answer: answer("200 OK", ["content-length: +2"], "ok"),
    client: bad,
  }),
  demand("6.3", "a HEAD's answer has no body, whatever its length says", {
    request: head(),
    answer: answer("200 OK", ["content-length: 1000"]),
    client: [/content-length: 1000\r\n/, ...goesOn],
  }),
  demand("6.3", "a HEAD's answer has no body, also chunked", {
    request: head(),
    answer: answer("200 OK", ["transfer-encoding: chunked"]),
    client: [...ok, ...goesOn],
    clientNot: [/\r\n0\r\n/],
  }),
  demand("6.3", "a 304 has no body, whatever its length says", {
    answer: answer("304 Not Modified", ["content-length: 1000", "etag: x"]),
    client: [/^HTTP\/1\.1 304 /, ...goesOn],
  }),
  demand("6.3", "an answer without a length ends with its connection, and the client's goes on", {
    answer: answer("200 OK", [], "ok"),
    closes: true,
    client: [/transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n/, ...goesOn],
  }),
  demand("6.3", "a request without a length has no body", { request: get(), client: goesOn }),
  demand("8", "an answer that is shorter than its length is not made whole", {
    answer: answer("200 OK", ["content-length: 10"], "ok"),
    closes: true,
    client: [/content-length: 10\r\n[\s\S]*\r\n\r\nok$/],
    clientNot: goesOn,
  }),
  demand("8", "chunks that do not end are not made whole", {
    answer: answer("200 OK", ["transfer-encoding: chunked"], "2\r\nok\r\n"),
    closes: true,
    clientNot: [/0\r\n\r\n/, ...goesOn],
  }),
  demand("8", "a request that ends before its length is not made whole", {
    request: message("POST", "@", "1.1", ["content-length: 500"], "ok"),
    clientNot: ok,
    backendNot: [/./],
  }),
  demand("6.3", "bytes behind an answer are nobody's", {
    answer: `${plain}HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\npoisoned`,
    client: [...ok, ...goesOn],
    clientNot: [/poisoned/],
  }),
  // Codings.
  demand("7.1", "chunks of a request are read, extensions left out", {
    request: message("POST", "@", "1.1", ["transfer-encoding: Chunked"], '2;a="b"\r\nok\r\n0;c\r\n\r\n'),
    backend: [/\r\n\r\n2\r\nok\r\n0\r\n\r\n$/],
  }),
  demand("7.1", "chunks of an answer are read, extensions left out", {
    answer: answer("200 OK", ["transfer-encoding: chunked"], "2;a=b\r\nok\r\n0\r\n\r\n"),
    client: [/\r\n\r\n2\r\nok\r\n0\r\n\r\n/, ...goesOn],
  }),
  demand("7.1.2", "trailers of a request go on behind the body, never into the head", {
    request: message(
      "POST",
      "@",
      "1.1",
      ["transfer-encoding: chunked", "trailer: x-sum"],
      "2\r\nok\r\n0\r\nx-sum: 7\r\n\r\n",
    ),
    backend: [/\r\n0\r\nx-sum: 7\r\n\r\n$/],
  }),
  demand("7.1.2", "trailers that frame or route are left out", {
    answer: answer(
      "200 OK",
      ["transfer-encoding: chunked"],
      "2\r\nok\r\n0\r\nx-sum: 7\r\ncontent-length: 5\r\nhost: b\r\n\r\n",
    ),
    client: [/\r\n0\r\nx-sum: 7\r\n\r\n/],
    clientNot: [/content-length: 5/],
  }),
  demand("7.1", "a malformed chunk of an answer is not passed on as an end", {
    answer: answer("200 OK", ["transfer-encoding: chunked"], "2\r\nok\r\nxyz\r\n"),
    clientNot: [/\r\n0\r\n\r\n/, ...goesOn],
  }),
  demand("7.4", "TE is for one hop", {
    request: get("te: trailers, gzip;q=0.5", "connection: te"),
    backendNot: [/\r\nte:/i],
  }),
  // Connections.
  demand("9110 7.6.1", "Connection and what it names are for one hop", {
    request: get("connection: x-one, keep-alive", "x-one: 1", "keep-alive: timeout=5", "proxy-connection: keep-alive"),
    answer: answer("200 OK", ["connection: x-two", "x-two: 2", "keep-alive: timeout=5", "content-length: 0"]),
    backendNot: [/x-one|keep-alive|connection/i],
    clientNot: [/^HTTP\/1\.1 200 OK\r\n([^\r]+\r\n)*(x-two|keep-alive|connection)/i],
    client: goesOn,
  }),
  demand("9.3", "HTTP/1.1 keeps its connection", { client: [...ok, ...goesOn] }),
  demand("9.3", "HTTP/1.0 closes its connection", {
    request: message("GET", "@", "1.0", []),
    client: [/connection: close\r\n/],
    clientNot: goesOn,
  }),
  demand("9.3", "a backend of HTTP/1.0 is not asked twice on one connection", {
    answer: "HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
    closes: true,
    client: [...ok, ...goesOn],
  }),
  demand("9.6", "behind close nothing is taken", {
    request: get("Connection: Close"),
    client: [/connection: close\r\n/],
    clientNot: goesOn,
  }),
  demand("9.6", "a backend's close is for its own connection", {
    answer: answer("200 OK", ["connection: close", "content-length: 2"], "ok"),
    closes: true,
    client: goesOn,
    clientNot: [/^HTTP\/1\.1 200 OK\r\n([^\r]+\r\n)*connection/],
  }),
  // What RFC 9110 asks of intermediaries.
  demand("9110 6.6.1", "an answer without a date gets one, and one with a date keeps it", {
    answer: answer("200 OK", ["date: Tue, 01 Jan 2030 00:00:00 GMT", "content-length: 0"]),
    client: [/^HTTP\/1\.1 200 OK\r\ndate: Tue, 01 Jan 2030 00:00:00 GMT\r\ncontent-length: 0\r\n\r\n/],
  }),
  demand("9110 7.8", "an upgrade that was not asked for is refused", {
    answer: answer("101 Switching Protocols", ["upgrade: x", "connection: upgrade"]),
    client: [/^HTTP\/1\.1 502 /],
    clientNot: [/ 101 /],
  }),
  demand("9110 10.1.1", "an expectation that we do not know is refused", {
    request: get("expect: magic"),
    client: [/^HTTP\/1\.1 417 /],
    backendNot: [/./],
  }),
  demand("9110 15.2", "interim answers are passed on before the final one", {
    answer: `${answer("103 Early Hints", ["link: </a>"])}${plain}`,
    client: [/^HTTP\/1\.1 103 Early Hints\r\nlink: <\/a>\r\n\r\nHTTP\/1\.1 200 OK\r\n/, ...goesOn],
  }),
  demand("9110 15.2", "interim answers are not for clients of HTTP/1.0", {
    request: message("GET", "@", "1.0", []),
    answer: `${answer("103 Early Hints", ["link: </a>"])}${plain}`,
    client: ok,
    clientNot: [/ 103 /],
  }),
  demand("9110 15", "a status that nobody knows passes", {
    answer: answer("799 Odd", ["content-length: 0"]),
    client: [/^HTTP\/1\.1 799 Odd\r\n/],
  }),
  demand("9110 8.6", "no length is put on an answer that had none and has no body", {
    request: head(),
    answer: answer("200 OK", ["etag: x"]),
    clientNot: [/^HTTP\/1\.1 200 OK\r\n([^\r]+\r\n)*content-length: [1-9]/i],
    client: [/etag: x/],
  }),
];

const proxy = new ProxyUnderTest();
const port = freePort();
const nextTarget = "/next";
/** What the backend got for each case: the request of its path, as bytes. */
const got: string[] = [];
let cleanup = () => {};

beforeAll(async () => {
  const listener = Bun.listen<{ text: string; done: number }>({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      open(socket) {
        socket.data = { text: "", done: 0 };
      },
      data(socket, bytes) {
        const data = socket.data;
        data.text += bytes.toString("latin1");
        const { messages, rest } = readMessages(data.text, "request");
        const raw = data.text.slice(0, data.text.length - rest.length);
        for (const { start } of messages) {
          if (start.startsWith(`GET ${nextTarget} `)) {
            socket.write("HTTP/1.1 200 OK\r\ncontent-length: 0\r\nx-next: 1\r\n\r\n");
            continue;
          }
          const index = Number(/\/case-(\d+)/.exec(raw)![1]);
          got[index] = raw;
          socket.write(Buffer.from(cases[index]!.answer, "latin1"));
          if (cases[index]!.closes) socket.end();
        }
        data.text = rest;
      },
      error() {},
    },
  });
  cleanup = () => listener.stop(true);
  await proxy.start();
  await forwardAll(proxy, port, listener.port);
});

afterAll(async () => {
  await proxy.stop();
  cleanup();
});

test.each(
  cases.map(
    (one, index) =>
      [
        `RFC ${one.section.startsWith("9110") ? one.section.replace(" ", " §") : `9112 §${one.section}`}: ${one.demand}`,
        one,
        index,
      ] as const,
  ),
)("%s", async (_name, one, index) => {
  const path = `/case-${index}`;
  const here = (pattern: RegExp) => new RegExp(pattern.source.replaceAll("@", path), pattern.flags);
  const next = `GET ${nextTarget} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`;
  const { text } = await converse(
    port,
    one.request.replaceAll("@", path) + next,
    one.request.includes(": 500") ? 500 : 20_000,
  );
  for (const pattern of one.client) expect(text).toMatch(here(pattern));
  for (const pattern of one.clientNot) expect(text).not.toMatch(here(pattern));
  for (const pattern of one.backend) expect(got[index]).toMatch(here(pattern));
  for (const pattern of one.backendNot) expect(got[index] ?? "").not.toMatch(here(pattern));
});
