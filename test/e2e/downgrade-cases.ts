// What clients can say in HTTP/2 that would mean something else in HTTP/1.1, as data, and what our proxy does with each.

import { Flag, FrameType, preface } from "../../src/proxy/http2/frame.ts";
import { frame, Peer, settings } from "../../src/proxy/http2/peer.ts";

type Field = readonly [name: string, value: string];

export interface Downgrade {
  readonly name: string;
  readonly fields: readonly Field[];
  readonly data: string | undefined;
  readonly trailers: readonly Field[] | undefined;
  /** A status, or that the stream is reset. */
  readonly outcome: number | "reset";
}

const hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
const connect = { ":method": "CONNECT", ":scheme": undefined as never, ":path": undefined as never };
const base = { ":method": "GET", ":scheme": "http", ":authority": "a", ":path": "/x" };

/** Pseudo-header fields as given, then more. */
function of(
  outcome: Downgrade["outcome"],
  name: string,
  change: Partial<typeof base>,
  more: readonly Field[] = [],
  data?: string,
  trailers?: readonly Field[],
): Downgrade {
  const pseudo = Object.entries({ ...base, ...change }).filter(([, value]) => value !== undefined) as [
    string,
    string,
  ][];
  return { name, fields: [...pseudo, ...more], data, trailers, outcome };
}
const withField = (outcome: Downgrade["outcome"], name: string, value: string, data?: string) =>
  of(outcome, `${JSON.stringify(name)}: ${JSON.stringify(value)}`, { ":method": "POST" }, [[name, value]], data);

const injections = ["\r\nx: y", "\nx: y", "\rx", "\0", `\r\n\r\n${hidden}`];

export const downgrades: readonly Downgrade[] = [
  // Line ends and NUL wherever a value can stand.
  ...injections.flatMap((what) => [
    of("reset", `${JSON.stringify(what)} in a value`, {}, [["x-a", `b${what}`]]),
    of("reset", `${JSON.stringify(what)} in a name`, {}, [[`x-a${what}`, "b"]]),
    of("reset", `${JSON.stringify(what)} in a cookie`, {}, [["cookie", `a=b${what}`]]),
    of("reset", `${JSON.stringify(what)} in the path`, { ":path": `/x${what}` }),
    of("reset", `${JSON.stringify(what)} in the authority`, { ":authority": `a${what}` }),
    of("reset", `${JSON.stringify(what)} in the method`, { ":method": `GET${what}` }),
    of("reset", `${JSON.stringify(what)} in the scheme`, { ":scheme": `http${what}` }),
    of("reset", `${JSON.stringify(what)} in a trailer`, { ":method": "POST" }, [], "ok", [["x-sum", `1${what}`]]),
    of("reset", `${JSON.stringify(what)} in a trailer's name`, { ":method": "POST" }, [], "ok", [[`x${what}`, "1"]]),
  ]),
  // What would be another start line.
  of("reset", "a space in the path", { ":path": "/x HTTP/1.1" }),
  of("reset", "a space in the method", { ":method": "GET /hidden HTTP/1.1" }),
  of("reset", "a space in the authority", { ":authority": "a b" }),
  of("reset", "an empty method", { ":method": "" }),
  of("reset", "an empty path", { ":path": "" }),
  of("reset", "a path without a slash", { ":path": "x" }),
  of("reset", "the absolute form in the path", { ":path": "http://b/x" }),
  of("reset", "an asterisk for a GET", { ":path": "*" }),
  of("reset", "a fragment", { ":path": "/x#y" }),
  of(200, "a path that begins with two slashes", { ":path": "//b/x" }),
  of(200, "an encoded line end", { ":path": "/x%0d%0ay" }),
  // Names that mean something else in HTTP/1.1.
  of("reset", "a colon in a name", {}, [["x: y", "z"]]),
  of("reset", "a colon at the end of a name", {}, [["content-length:", "5"]]),
  of("reset", "a space in a name", {}, [["content-length ", "5"]]),
  of("reset", "an empty name", {}, [["", "y"]]),
  of("reset", "capitals in a name", {}, [["Content-Length", "5"]]),
  of("reset", "a pseudo-header field behind a field", {}, [
    ["x", "y"],
    [":path", "/hidden"],
  ]),
  of("reset", "an unknown pseudo-header field", {}, [[":x", "y"]]),
  of("reset", "a second path", {}, [[":path", "/hidden"]]),
  of("reset", "a name outside ASCII", {}, [["\xe9", "y"]]),
  of("reset", "a tab before a value", {}, [["x", "\ty"]]),
  of("reset", "a space behind a value", {}, [["x", "y "]]),
  of(200, "a name with an underscore", {}, [["x_y", "z"]]),
  of(200, "transfer_encoding is dropped", { ":method": "POST" }, [["transfer_encoding", "chunked"]], hidden),
  of(200, "bytes outside ASCII in a value", {}, [["x", "\xe9\xff"]]),
  // Framing that belongs to HTTP/1.1.
  withField("reset", "transfer-encoding", "chunked", `0\r\n\r\n${hidden}`),
  withField("reset", "transfer-encoding", "identity"),
  withField("reset", "connection", "content-length"),
  withField("reset", "connection", "close"),
  withField("reset", "keep-alive", "timeout=5"),
  withField("reset", "proxy-connection", "close"),
  withField("reset", "upgrade", "h2c"),
  withField("reset", "te", "chunked"),
  withField(200, "te", "trailers", "ok"),
  withField("reset", "content-length", "0", hidden),
  withField("reset", "content-length", "5", hidden),
  withField("reset", "content-length", "500", hidden),
  withField("reset", "content-length", "+2", "ok"),
  withField("reset", "content-length", "2, 2", "ok"),
  withField("reset", "content-length", "0x2", "ok"),
  withField("reset", "content-length", "", "ok"),
  withField(200, "content-length", "2", "ok"),
  of(
    "reset",
    "two lengths",
    { ":method": "POST" },
    [
      ["content-length", "2"],
      ["content-length", "3"],
    ],
    "ok",
  ),
  of("reset", "a length in the trailers that is another", { ":method": "POST" }, [], "ok", [["content-length:", "5"]]),
  of(200, "a length in the trailers is dropped", { ":method": "POST" }, [], "ok", [["content-length", "5"]]),
  of("reset", "a pseudo-header field in the trailers", { ":method": "POST" }, [], "ok", [[":path", "/hidden"]]),
  of(200, "a body that looks like a request", { ":method": "POST" }, [], hidden),
  of(200, "a GET with a body that looks like a request", {}, [], hidden),
  // Which host.
  of("reset", "a Host beside another authority", {}, [["host", "b"]]),
  of(200, "a Host beside the same authority", {}, [["host", "a"]]),
  of(400, "userinfo in the authority", { ":authority": "b@a" }),
  of(400, "a slash in the authority", { ":authority": "a/b" }),
  of(400, "an empty authority", { ":authority": "" }),
  of(501, "CONNECT", { ...connect, ":authority": "a:80" }),
  of(501, "CONNECT for a protocol", { ":method": "CONNECT", ":protocol": "connect-udp" } as never),
  of(501, "CONNECT whose content looks like a request", { ...connect, ":authority": "a:80" }, [], hidden),
  of("reset", "CONNECT without a port", connect),
  of("reset", "CONNECT with a path", { ...connect, ":authority": "a:80", ":path": "/x" }),
  of("reset", "CONNECT with a length", { ...connect, ":authority": "a:80" }, [["content-length", "4"]]),
];

/** Says it on a connection of its own: the status of the answer, or how the stream ended. */
export async function ask(port: number, { fields, data, trailers }: Downgrade): Promise<number | "reset" | "closed"> {
  const peer = new Peer();
  const bare = data === undefined && trailers === undefined;
  const bytes = [preface, settings(), peer.headers(1, fields, bare)];
  if (data !== undefined)
    bytes.push(frame(FrameType.data, trailers ? 0 : Flag.endStream, 1, Buffer.from(data, "latin1")));
  if (trailers) bytes.push(peer.headers(1, trailers));
  let settle = () => {};
  const done = new Promise<void>((resolve) => {
    settle = resolve;
  });
  const socket = await Bun.connect({
    hostname: "127.0.0.1",
    port,
    socket: {
      data(_socket, chunk) {
        peer.write(chunk, 0, chunk.length);
        const ended = peer.frames.some(
          ({ type, flags, id }) =>
            (id === 1 && (type === FrameType.rstStream || (type <= 1 && (flags & Flag.endStream) !== 0))) ||
            type === FrameType.goaway,
        );
        if (ended) settle();
      },
      close: () => settle(),
      error: () => settle(),
    },
  });
  socket.write(Buffer.concat(bytes));
  await done;
  socket.terminate();
  const status = peer.heads.find(({ id }) => id === 1)?.fields.find(([name]) => name === ":status")?.[1];
  if (status !== undefined) return Number(status);
  return peer.reset(1) === undefined ? "closed" : "reset";
}
