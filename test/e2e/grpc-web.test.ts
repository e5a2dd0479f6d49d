// gRPC-Web through the proxy: what a browser sends, over HTTP/1.1 and HTTP/2, binary and as text, and a server of grpc-js behind.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import http2 from "node:http2";
import * as grpc from "@grpc/grpc-js";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  from,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";

const identity = (bytes: Buffer) => bytes;
const method = (name: string, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream: false,
  responseStream,
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
});

const server = new grpc.Server();
server.addService({ unary: method("Unary", false), count: method("Count", true), drip: method("Drip", true) }, {
  unary(call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) {
    if (call.request.toString() === "fail") {
      done({ code: grpc.status.FAILED_PRECONDITION, details: "as asked" });
      return;
    }
    const trailer = new grpc.Metadata();
    trailer.set("x-trailer", String(call.metadata.get("x-say")[0] ?? "nothing"));
    done(null, call.request, trailer);
  },
  count(call: grpc.ServerWritableStream<Buffer, Buffer>) {
    for (let number = 0; number < Number(call.request.toString()); number++) call.write(Buffer.from(String(number)));
    call.end();
  },
  drip(call: grpc.ServerWritableStream<Buffer, Buffer>) {
    call.write(Buffer.from("first"));
  },
} as unknown as grpc.UntypedServiceImplementation);

const proxy = new ProxyUnderTest();
const front = freePort();
const origin = "https://shop.example";

beforeAll(async () => {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  await proxy.start();
  const cors = {
    ...{
      kind: "cors" as const,
      from,
      allowOrigins: [{ kind: "exact" as const, value: origin }],
      allowMethods: ["POST"],
    },
    ...{ allowHeaders: ["content-type", "x-grpc-web"], exposeHeaders: ["grpc-status", "grpc-message"] },
    ...{ allowCredentials: false, otherPreflights: "answer" as const },
  };
  const filters = [cors, { kind: "grpcWeb" as const, from }];
  const rejected = await proxy.control.update({
    backends: [backend("one", { protocol: "h2c" }), backend("empty", { protocol: "h2c" })],
    endpoints: [endpoints("one", port), endpoints("empty")],
    routeTables: [
      routeTable([
        rule("drip", {
          match: { path: { kind: "exact", value: "/test.Echo/Drip" } },
          timeouts: { request: 400 },
          filters,
        }),
        rule("empty", {
          match: { path: { kind: "exact", value: "/test.Echo/Empty" } },
          action: { kind: "forward", to: [forwardTo("empty")] },
          filters,
        }),
        rule("one", { filters }),
      ]),
    ],
    listeners: [plainListener(front)],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  server.forceShutdown();
  await proxy.stop();
});

interface Answer {
  readonly status: number;
  readonly headers: Readonly<Record<string, string | undefined>>;
  readonly body: Buffer;
}
type Send = (path: string, headers: Record<string, string>, body: Uint8Array | string) => Promise<Answer>;

async function overHttp1(path: string, headers: Record<string, string>, body: Uint8Array | string): Promise<Answer> {
  const answer = await fetch(`http://127.0.0.1:${front}${path}`, { method: "POST", headers, body: Buffer.from(body) });
  return {
    status: answer.status,
    headers: Object.fromEntries(answer.headers.entries()),
    body: Buffer.from(await answer.arrayBuffer()),
  };
}

async function overHttp2(path: string, headers: Record<string, string>, body: Uint8Array | string): Promise<Answer> {
  const session = http2.connect(`http://127.0.0.1:${front}`);
  try {
    return await new Promise<Answer>((resolve, reject) => {
      const stream = session.request({ ":method": "POST", ":path": path, ...headers });
      const chunks: Buffer[] = [];
      let head: http2.IncomingHttpHeaders = {};
      stream.on("response", (fields) => {
        head = fields;
      });
      stream.on("data", (chunk: Buffer) => chunks.push(chunk));
      stream.on("trailers", () => reject(new Error("trailers, which browsers cannot read")));
      stream.on("end", () =>
        resolve({ status: Number(head[":status"]), headers: head as Answer["headers"], body: Buffer.concat(chunks) }),
      );
      stream.on("error", reject);
      stream.end(body);
    });
  } finally {
    session.destroy();
  }
}

function message(text: string): Buffer {
  const bytes = Buffer.alloc(5 + text.length);
  bytes.writeUInt32BE(text.length, 1);
  bytes.write(text, 5);
  return bytes;
}

/** Messages and, of the last one, trailers. */
function read(body: Buffer): { messages: string[]; trailers: Record<string, string> | undefined } {
  const messages: string[] = [];
  let trailers: Record<string, string> | undefined;
  for (let at = 0; at < body.length; ) {
    const length = body.readUInt32BE(at + 1);
    const text = body.toString("utf8", at + 5, at + 5 + length);
    expect(trailers).toBeUndefined();
    if (body[at] === 0x80) {
      const lines = text.split("\r\n").filter((line) => line !== "");
      trailers = Object.fromEntries(lines.map((line) => line.split(": ") as [string, string]));
    } else messages.push(text);
    at += 5 + length;
  }
  return { messages, trailers };
}

/** Undoes base64 piece by piece, as browsers' clients do. */
function untext(body: Buffer): Buffer {
  const pieces = body.toString("latin1").match(/[^=]+={0,2}/g) ?? [];
  return Buffer.concat(pieces.map((piece) => Buffer.from(piece, "base64")));
}

const forms = [
  ["binary", "application/grpc-web+proto", (text: string) => message(text), (body: Buffer) => body],
  ["text", "application/grpc-web-text+proto", (text: string) => message(text).toString("base64"), untext],
] as const;

for (const [version, send] of [
  ["HTTP/1.1", overHttp1],
  ["HTTP/2", overHttp2],
] as readonly (readonly [string, Send])[]) {
  for (const [form, type, encode, decode] of forms) {
    describe(`${form} over ${version}`, () => {
      const headers = { "content-type": type, "x-grpc-web": "1" };

      test("a unary call", async () => {
        const answer = await send("/test.Echo/Unary", { ...headers, "x-say": "hi", origin }, encode("hello"));
        expect(answer.status).toBe(200);
        expect(answer.headers["content-type"]).toBe(type);
        expect(answer.headers["access-control-allow-origin"]).toBe(origin);
        const { messages, trailers } = read(decode(answer.body));
        expect(messages).toEqual(["hello"]);
        expect(trailers).toMatchObject({ "grpc-status": "0", "x-trailer": "hi" });
      });

      test("a large message", async () => {
        const text = "0123456789".repeat(60_000);
        const answer = await send("/test.Echo/Unary", headers, encode(text));
        expect(read(decode(answer.body)).messages[0] === text).toBeTrue();
      });

      test("a stream from the server", async () => {
        const answer = await send("/test.Echo/Count", headers, encode("300"));
        const { messages, trailers } = read(decode(answer.body));
        expect(messages).toEqual(Array.from({ length: 300 }, (_, number) => String(number)));
        expect(trailers?.["grpc-status"]).toBe("0");
      });

      test("a call that fails at the server", async () => {
        const answer = await send("/test.Echo/Unary", headers, encode("fail"));
        expect(answer.headers["content-type"]).toBe(type);
        const told = answer.headers["grpc-status"] === undefined ? read(decode(answer.body)).trailers : answer.headers;
        expect(told).toMatchObject({ "grpc-status": "9", "grpc-message": "as%20asked" });
      });

      test("a call that the proxy cannot serve", async () => {
        const answer = await send("/test.Echo/Empty", headers, encode("x"));
        expect(answer.status).toBe(200);
        expect(answer.headers).toMatchObject({ "content-type": type, "grpc-status": "14" });
      });

      test("a stream that takes too long ends with its status", async () => {
        const answer = await send("/test.Echo/Drip", headers, encode(""));
        const { messages, trailers } = read(decode(answer.body));
        expect(messages).toEqual(["first"]);
        expect(trailers).toMatchObject({ "grpc-status": "4", "x-fairlead-reason": "request_timeout" });
      });
    });
  }
}

test("text may be padded where a piece of it ended, and be answered in binary", async () => {
  const bytes = message("hello");
  const text = [bytes.subarray(0, 5), bytes.subarray(5, 6), bytes.subarray(6)].map((piece) => piece.toString("base64"));
  const headers = { "content-type": "application/grpc-web-text", accept: "application/grpc-web+proto" };
  const answer = await overHttp1("/test.Echo/Unary", headers, text.join(""));
  expect(read(answer.body).messages).toEqual(["hello"]);
});

test("text that is no base64 is refused", async () => {
  const answer = await overHttp1("/test.Echo/Unary", { "content-type": "application/grpc-web-text" }, "{not base64}");
  expect(answer.headers).toMatchObject({ "grpc-status": "13", "x-fairlead-reason": "bad_request" });
});

test("a preflight is answered by cors, and gRPC itself passes", async () => {
  const preflight = await fetch(`http://127.0.0.1:${front}/test.Echo/Unary`, {
    method: "OPTIONS",
    headers: { origin, "access-control-request-method": "POST", "access-control-request-headers": "x-grpc-web" },
  });
  expect(preflight.headers.get("access-control-allow-origin")).toBe(origin);
  const Client = grpc.makeGenericClientConstructor({ unary: method("Unary", false) }, "Echo");
  const client = new Client(`127.0.0.1:${front}`, grpc.credentials.createInsecure());
  const value = await new Promise<string>((resolve, reject) =>
    client.unary!(Buffer.from("plain"), (error: Error | null, bytes: Buffer) =>
      error ? reject(error) : resolve(bytes.toString()),
    ),
  );
  client.close();
  expect(value).toBe("plain");
});
