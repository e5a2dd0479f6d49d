// gRPC through the proxy: grpc-js as client and as server, all four kinds of call, over h2c and TLS, with statuses, metadata,
// deadlines and cancellation; and what a caller sees of the proxy's own errors.

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as grpc from "@grpc/grpc-js";
import {
  backend,
  endpoints,
  forwardTo,
  freePort,
  ProxyUnderTest,
  plainListener,
  routeTable,
  rule,
} from "./proxy-harness.ts";
import { makeSecret, tlsListener } from "./proxy-secrets.ts";

const asIs = {
  requestSerialize: identity,
  requestDeserialize: identity,
  responseSerialize: identity,
  responseDeserialize: identity,
};
function identity(bytes: Buffer): Buffer {
  return bytes;
}
const method = (name: string, requestStream: boolean, responseStream: boolean) => ({
  path: `/test.Echo/${name}`,
  requestStream,
  responseStream,
  ...asIs,
});
const service = {
  unary: method("Unary", false, false),
  collect: method("Collect", true, false),
  count: method("Count", false, true),
  chat: method("Chat", true, true),
  never: method("Never", false, false),
  drip: method("Drip", false, true),
};

/** What a caller of `never` made the server see. */
let cancelled: Promise<void>;
let sawCancel: () => void;
/** Until when the caller of `never` waits, as its server knows it. */
let deadline: grpc.Deadline;

const server = new grpc.Server();
server.addService(service, {
  unary(call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) {
    const text = call.request.toString();
    if (text.startsWith("fail ")) {
      const metadata = new grpc.Metadata();
      metadata.set("x-why", "asked for");
      done({ code: Number(text.slice(5)), details: "as asked: 100 % ünlucky", metadata });
      return;
    }
    const head = new grpc.Metadata();
    head.set("x-head", String(call.metadata.get("x-say")[0] ?? "nothing"));
    call.sendMetadata(head);
    const trailer = new grpc.Metadata();
    trailer.set("x-trailer", "end");
    done(null, call.request, trailer);
  },
  collect(call: grpc.ServerReadableStream<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) {
    let bytes = 0;
    call.on("data", (chunk: Buffer) => {
      bytes += chunk.length;
    });
    call.on("end", () => done(null, Buffer.from(String(bytes))));
  },
  count(call: grpc.ServerWritableStream<Buffer, Buffer>) {
    for (let number = 0; number < Number(call.request.toString()); number++) call.write(Buffer.from(String(number)));
    call.end();
  },
  chat(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
    call.on("data", (chunk: Buffer) => call.write(Buffer.from(chunk.toString().toUpperCase())));
    call.on("end", () => call.end());
  },
  never(call: grpc.ServerUnaryCall<Buffer, Buffer>) {
    deadline = call.getDeadline();
    call.on("cancelled", () => sawCancel());
  },
  drip(call: grpc.ServerWritableStream<Buffer, Buffer>) {
    call.write(Buffer.from("one"));
  },
} as unknown as grpc.UntypedServiceImplementation);

const Client = grpc.makeGenericClientConstructor(service, "Echo");
type Caller = any;

const logged = "%GRPC_STATUS% %GRPC_STATUS_NUMBER% %TRAILER(X-WHY?X-TRAILER):3% %RESPONSE_CODE% %REQ(X-LINE)%";
const proxy = new ProxyUnderTest();
const folder = mkdtempSync(join(tmpdir(), "fl-t-grpc-"));
const plain = freePort();
const secure = freePort();
let plainClient: Caller;
let secureClient: Caller;

beforeAll(async () => {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  await proxy.start();
  const secret = makeSecret(folder, "grpc", "localhost");
  const rejected = await proxy.control.update({
    secrets: [secret],
    backends: [backend("one", { protocol: "h2c" }), backend("empty", { protocol: "h2c" }), backend("wrong")],
    endpoints: [endpoints("one", port), endpoints("empty"), endpoints("wrong", port)],
    routeTables: [
      routeTable([
        rule("empty", {
          match: { headers: [{ name: "x-to", match: { kind: "exact", value: "empty" } }] },
          action: { kind: "forward", to: [forwardTo("empty")] },
        }),
        rule("wrong", {
          match: { headers: [{ name: "x-to", match: { kind: "exact", value: "wrong" } }] },
          action: { kind: "forward", to: [forwardTo("wrong")] },
        }),
        rule("short", {
          match: {
            path: { kind: "segments", value: "/test.Echo" },
            headers: [{ name: "x-to", match: { kind: "exact", value: "short" } }],
          },
          timeouts: { request: 400 },
        }),
        rule("one", { match: { path: { kind: "segments", value: "/test.Echo" } } }),
      ]),
    ],
    listeners: [
      { ...plainListener(plain), accessLog: { path: join(folder, "calls.log"), format: { text: logged } } },
      tlsListener(secure, [{ kind: "tls" }, secret]),
    ],
  });
  expect(rejected).toEqual([]);
  plainClient = new Client(`127.0.0.1:${plain}`, grpc.credentials.createInsecure());
  const authority = readFileSync(join(folder, "grpc.crt"));
  secureClient = new Client(`localhost:${secure}`, grpc.credentials.createSsl(authority));
});

afterAll(async () => {
  plainClient?.close();
  secureClient?.close();
  server.forceShutdown();
  await proxy.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Answer {
  readonly value: string | undefined;
  readonly error: grpc.ServiceError | undefined;
  readonly head: grpc.Metadata | undefined;
  readonly status: grpc.StatusObject;
}

function unary(client: Caller, text: string, headers: Record<string, string> = {}, name = "unary"): Promise<Answer> {
  const metadata = new grpc.Metadata();
  for (const [name, value] of Object.entries(headers)) metadata.set(name, value);
  return new Promise((resolve) => {
    let value: string | undefined;
    let error: grpc.ServiceError | undefined;
    let head: grpc.Metadata | undefined;
    const call = client[name](Buffer.from(text), metadata, (failed: grpc.ServiceError | null, bytes?: Buffer) => {
      value = bytes?.toString();
      error = failed ?? undefined;
    });
    call.on("metadata", (got: grpc.Metadata) => {
      head = got;
    });
    call.on("status", (status: grpc.StatusObject) => setImmediate(() => resolve({ value, error, head, status })));
  });
}

for (const [how, client] of [
  ["h2c", () => plainClient],
  ["TLS", () => secureClient],
] as const) {
  describe(`over ${how}`, () => {
    test("a unary call, with metadata both ways and in the trailers", async () => {
      const answer = await unary(client(), "hello", { "x-say": "something" });
      expect(answer.value).toBe("hello");
      expect(answer.head?.get("x-head")).toEqual(["something"]);
      expect(answer.status.code).toBe(grpc.status.OK);
      expect(answer.status.metadata.get("x-trailer")).toEqual(["end"]);
    });

    test("a stream from the client", async () => {
      const pieces = 200;
      const size = await new Promise<string>((resolve, reject) => {
        const call = client().collect((error: Error | null, bytes: Buffer) =>
          error ? reject(error) : resolve(bytes.toString()),
        );
        for (let piece = 0; piece < pieces; piece++) call.write(Buffer.alloc(10_000, "x"));
        call.end();
      });
      expect(size).toBe(String(pieces * 10_000));
    });

    test("a stream from the server", async () => {
      const numbers = await new Promise<string[]>((resolve, reject) => {
        const seen: string[] = [];
        const call = client().count(Buffer.from("1000"));
        call.on("data", (bytes: Buffer) => seen.push(bytes.toString()));
        call.on("end", () => resolve(seen));
        call.on("error", reject);
      });
      expect(numbers).toEqual(Array.from({ length: 1000 }, (_, number) => String(number)));
    });

    test("both at once, message by message", async () => {
      const call = client().chat();
      const next = () =>
        new Promise<string>((resolve) => call.once("data", (bytes: Buffer) => resolve(bytes.toString())));
      for (const word of ["one", "two", "three"]) {
        const answer = next();
        call.write(Buffer.from(word));
        expect(await answer).toBe(word.toUpperCase());
      }
      const ended = new Promise<void>((resolve) => call.on("end", resolve));
      call.end();
      call.resume();
      await ended;
    });

    test("a status that is an error, with its message and metadata", async () => {
      const { error } = await unary(client(), `fail ${grpc.status.FAILED_PRECONDITION}`);
      expect(error).toMatchObject({ code: grpc.status.FAILED_PRECONDITION, details: "as asked: 100 % ünlucky" });
      expect(error!.metadata.get("x-why")).toEqual(["asked for"]);
    });
  });
}

test("a deadline reaches the server as a cancellation", async () => {
  ({ promise: cancelled, resolve: sawCancel } = Promise.withResolvers<void>());
  const error = await new Promise<grpc.ServiceError>((resolve) => {
    plainClient.never(Buffer.from(""), { deadline: Date.now() + 300 }, (failed: grpc.ServiceError) => resolve(failed));
  });
  expect(error.code).toBe(grpc.status.DEADLINE_EXCEEDED);
  await cancelled;
});

describe("how long a call may take", () => {
  /** A call whose client does not count time itself. */
  const patient = async (headers: Record<string, string>) => {
    ({ promise: cancelled, resolve: sawCancel } = Promise.withResolvers<void>());
    const session = http2.connect(`http://127.0.0.1:${plain}`);
    const began = Date.now();
    const stream = session.request({
      ":method": "POST",
      ":path": "/test.Echo/Never",
      "content-type": "application/grpc",
      te: "trailers",
      ...headers,
    });
    stream.end(Buffer.alloc(5));
    const head = await new Promise<http2.IncomingHttpHeaders>((resolve, reject) => {
      stream.on("response", resolve);
      stream.on("error", reject);
    });
    session.destroy();
    return { head, took: Date.now() - began, left: Number(deadline) - began };
  };

  test("is what the caller says, where the rule says nothing", async () => {
    const { head, took, left } = await patient({ "grpc-timeout": "300m" });
    // The proxy or, a moment before, the server, which was told the same.
    expect(head).toMatchObject({ ":status": 200, "grpc-status": "4" });
    expect(took).toBeGreaterThanOrEqual(290);
    await cancelled;
    // The server counts from when it got the call.
    expect(left).toBeLessThan(took + 300);
  });

  test("is at most what the rule says, and the server knows it", async () => {
    const { head, left } = await patient({ "grpc-timeout": "1H", "x-to": "short" });
    expect(head["grpc-status"]).toBe("4");
    expect(left).toBeLessThan(60_000);
  });

  test("is over at once when nothing is left", async () => {
    const { head } = await patient({ "grpc-timeout": "0m" });
    expect(head["grpc-status"]).toBe("4");
  });

  test("ends a stream that has begun with the same status", async () => {
    const metadata = new grpc.Metadata();
    metadata.set("x-to", "short");
    const seen: string[] = [];
    const status = await new Promise<grpc.StatusObject>((resolve) => {
      const call = plainClient.drip(Buffer.from(""), metadata);
      call.on("data", (bytes: Buffer) => seen.push(bytes.toString()));
      call.on("error", () => {});
      call.on("status", resolve);
    });
    expect(seen).toEqual(["one"]);
    expect(status.code).toBe(grpc.status.DEADLINE_EXCEEDED);
    expect(status.metadata.get("x-fairlead-reason")).toEqual(["request_timeout"]);
  });
});

test("a cancelled call is cancelled at the server, and the connection serves the next", async () => {
  ({ promise: cancelled, resolve: sawCancel } = Promise.withResolvers<void>());
  const { promise, resolve } = Promise.withResolvers<grpc.ServiceError>();
  const call = plainClient.never(Buffer.from(""), (failed: grpc.ServiceError) => resolve(failed));
  setTimeout(() => call.cancel(), 100);
  expect((await promise).code).toBe(grpc.status.CANCELLED);
  await cancelled;
  expect((await unary(plainClient, "again")).value).toBe("again");
});

describe("the proxy's own errors are statuses", () => {
  test("no rule", async () => {
    const other = new (grpc.makeGenericClientConstructor(
      { unary: { ...service.unary, path: "/other.Service/Call" } },
      "Other",
    ))(`127.0.0.1:${plain}`, grpc.credentials.createInsecure());
    const { error } = await unary(other, "x");
    other.close();
    expect(error).toMatchObject({ code: grpc.status.UNIMPLEMENTED, details: "no rule takes this request" });
    expect(error!.metadata.get("x-fairlead-reason")).toEqual(["no_route"]);
  });

  test("no endpoints", async () => {
    const { error } = await unary(plainClient, "x", { "x-to": "empty" });
    expect(error).toMatchObject({ code: grpc.status.UNAVAILABLE, details: "the backend has no endpoints" });
  });

  test("a backend that does not speak what it is said to speak", async () => {
    const { error } = await unary(plainClient, "x", { "x-to": "wrong" });
    expect(error!.code).toBe(grpc.status.UNAVAILABLE);
  });
});

test("a hundred calls at once share few connections to the backend", async () => {
  const answers = await Promise.all(Array.from({ length: 100 }, (_, index) => unary(plainClient, String(index))));
  expect(answers.map(({ value }) => value)).toEqual(Array.from({ length: 100 }, (_, index) => String(index)));
  const stats = (await (await proxy.get("/stats")).json()) as { backends: { name: string; connections: number }[] };
  expect(stats.backends.find(({ name }) => name === "one")!.connections).toBeLessThanOrEqual(2);
});

test("a line of the access log has the status of a call, wherever it was said, and trailers", async () => {
  const calls = [
    ["hello", { "x-say": "a" }, "OK 0 end 200"],
    // All that there is of it is a head, with what would have been trailers.
    ["fail 5", {}, "NotFound 5 - 200"],
    ["hello", { "x-to": "empty" }, "Unavailable 14 - 200"],
  ] as const;
  for (const [index, [text, headers]] of calls.entries())
    await unary(plainClient, text, { ...headers, "x-line": `line-${index}` });
  const lines = async () =>
    (
      await Bun.file(join(folder, "calls.log"))
        .text()
        .catch(() => "")
    ).split("\n");
  const deadline = Date.now() + 20_000;
  for (;;) {
    const found = (await lines()).filter((line) => line.includes("line-"));
    if (found.length === calls.length || Date.now() > deadline) {
      expect(found).toEqual(calls.map(([, , line], index) => `${line} line-${index}`));
      return;
    }
    await Bun.sleep(50);
  }
}, 30_000);
