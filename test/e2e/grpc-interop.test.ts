// The interoperability cases of gRPC (grpc/grpc, doc/interop-test-descriptions.md) through the proxy, over h2c and over TLS, by their
// names there. grpc-js is client and server; where a message's compressed flag must be seen, both are plain HTTP/2 that frames messages
// by itself. Left out: cacheable_unary (needs GET, which no client sends any more), those about credentials of a cloud (compute_engine_creds,
// jwt_token_creds, oauth2_auth_token, per_rpc_creds, google_default_credentials, compute_engine_channel_credentials: headers to a
// proxy), those about a client's own balancing and load reports (pick_first_unary, orca_*), and those that only last long (rpc_soak,
// channel_soak, long_lived_channel: `test/soak`).

import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import http2 from "node:http2";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { gunzipSync, gzipSync } from "node:zlib";
import * as grpc from "@grpc/grpc-js";
import protobuf from "protobufjs";
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

/** The fields of grpc/testing/messages.proto that the cases use, with their numbers there. */
const types = protobuf.parse(`syntax = "proto3";
message Empty {}
message BoolValue { bool value = 1; }
message Payload { int32 type = 1; bytes body = 2; }
message EchoStatus { int32 code = 1; string message = 2; }
message SimpleRequest {
  int32 response_size = 2; Payload payload = 3; BoolValue response_compressed = 6; EchoStatus response_status = 7;
  BoolValue expect_compressed = 8;
}
message SimpleResponse { Payload payload = 1; }
message StreamingInputCallRequest { Payload payload = 1; BoolValue expect_compressed = 2; }
message StreamingInputCallResponse { int32 aggregated_payload_size = 1; }
message ResponseParameters { int32 size = 1; int32 interval_us = 2; BoolValue compressed = 3; }
message StreamingOutputCallRequest {
  repeated ResponseParameters response_parameters = 2; Payload payload = 3; EchoStatus response_status = 7;
}
message StreamingOutputCallResponse { Payload payload = 1; }`).root;

// Messages are written as plain objects; what comes back is looked at field by field.
type Message = any;
const coder = (name: string) => {
  const type = types.lookupType(name);
  return {
    encode: (message: Message) => Buffer.from(type.encode(type.fromObject(message)).finish()),
    decode: (bytes: Buffer): Message => type.decode(bytes),
  };
};

function method(path: string, input: string, output: string, requestStream: boolean, responseStream: boolean) {
  const [request, response] = [coder(input), coder(output)];
  return {
    ...{ path: `/grpc.testing.${path}`, requestStream, responseStream },
    ...{ requestSerialize: request.encode, requestDeserialize: request.decode },
    ...{ responseSerialize: response.encode, responseDeserialize: response.decode },
  };
}

const streamed = ["StreamingOutputCallRequest", "StreamingOutputCallResponse"] as const;
const service = {
  emptyCall: method("TestService/EmptyCall", "Empty", "Empty", false, false),
  unaryCall: method("TestService/UnaryCall", "SimpleRequest", "SimpleResponse", false, false),
  streamingInputCall: method(
    ...(["TestService/StreamingInputCall", "StreamingInputCallRequest", "StreamingInputCallResponse"] as const),
    ...([true, false] as const),
  ),
  streamingOutputCall: method("TestService/StreamingOutputCall", ...streamed, false, true),
  fullDuplexCall: method("TestService/FullDuplexCall", ...streamed, true, true),
};
const unimplemented = {
  unimplementedCall: method("TestService/UnimplementedCall", "Empty", "Empty", false, false),
  otherService: method("UnimplementedService/UnimplementedCall", "Empty", "Empty", false, false),
};

const zeros = (size: number) => ({ payload: { body: Buffer.alloc(size) } });
const initialKey = "x-grpc-test-echo-initial";
const trailingKey = "x-grpc-test-echo-trailing-bin";

/** What the server tells of a call's metadata, as the cases want it: an initial and a trailing field come back. */
function echoed(metadata: grpc.Metadata): { head: grpc.Metadata; tail: grpc.Metadata } {
  const [head, tail] = [new grpc.Metadata(), new grpc.Metadata()];
  for (const value of metadata.get(initialKey)) head.add(initialKey, value);
  for (const value of metadata.get(trailingKey)) tail.add(trailingKey, value);
  return { head, tail };
}

/** Calls that were cancelled, as the server sees it. */
let cancelled = 0;

const server = new grpc.Server();
server.addService(service, {
  emptyCall: (_call: Message, done: grpc.sendUnaryData<Message>) => done(null, {}),
  unaryCall(call: grpc.ServerUnaryCall<Message, Message>, done: grpc.sendUnaryData<Message>) {
    const { responseSize, responseStatus } = call.request;
    const { head, tail } = echoed(call.metadata);
    call.sendMetadata(head);
    if (responseStatus?.code) done({ code: responseStatus.code, details: responseStatus.message, metadata: tail });
    else done(null, zeros(responseSize), tail);
  },
  streamingInputCall(call: grpc.ServerReadableStream<Message, Message>, done: grpc.sendUnaryData<Message>) {
    let size = 0;
    call.on("data", ({ payload }: Message) => {
      size += payload.body.length;
    });
    call.on("cancelled", () => cancelled++);
    call.on("end", () => done(null, { aggregatedPayloadSize: size }));
  },
  streamingOutputCall(call: grpc.ServerWritableStream<Message, Message>) {
    for (const { size } of call.request.responseParameters) call.write(zeros(size));
    call.end();
  },
  fullDuplexCall(call: grpc.ServerDuplexStream<Message, Message>) {
    const { head, tail } = echoed(call.metadata);
    call.sendMetadata(head);
    call.on("cancelled", () => cancelled++);
    call.on("data", ({ responseParameters, responseStatus }: Message) => {
      if (responseStatus?.code) call.emit("error", { code: responseStatus.code, details: responseStatus.message });
      for (const { size } of responseParameters) call.write(zeros(size));
    });
    call.on("end", () => call.end(tail));
  },
} as unknown as grpc.UntypedServiceImplementation);

// ------------------------------------------------------------------------------- A server that looks at compressed flags

/** One message in gRPC's framing. */
function framed(bytes: Buffer, compressed: boolean): Buffer {
  const content = compressed ? gzipSync(bytes) : bytes;
  const head = Buffer.alloc(5);
  head[0] = compressed ? 1 : 0;
  head.writeUInt32BE(content.length, 1);
  return Buffer.concat([head, content]);
}

function unframed(bytes: Buffer): { compressed: boolean; bytes: Buffer }[] {
  const messages: { compressed: boolean; bytes: Buffer }[] = [];
  for (let at = 0; at < bytes.length; ) {
    const end = at + 5 + bytes.readUInt32BE(at + 1);
    const content = bytes.subarray(at + 5, end);
    messages.push({ compressed: bytes[at] === 1, bytes: bytes[at] === 1 ? gunzipSync(content) : Buffer.from(content) });
    at = end;
  }
  return messages;
}

function whole(stream: http2.Http2Stream): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    stream.on("data", (chunk: Buffer) => chunks.push(chunk));
    stream.on("end", () => resolve(Buffer.concat(chunks)));
    stream.on("error", reject);
  });
}

const flags = http2.createServer();
flags.on("stream", async (stream: http2.ServerHttp2Stream, headers) => {
  const body = await whole(stream).catch(() => Buffer.alloc(0));
  const messages = unframed(body);
  const path = headers[":path"]!;
  const input = coder(
    path.endsWith("/UnaryCall")
      ? "SimpleRequest"
      : path.endsWith("InputCall")
        ? "StreamingInputCallRequest"
        : streamed[0],
  );
  const asked = messages.map(({ bytes }) => input.decode(bytes));
  const head = { ":status": 200, "content-type": "application/grpc", "grpc-encoding": "gzip" };
  if (
    messages.some(
      ({ compressed }, index) => asked[index].expectCompressed && asked[index].expectCompressed.value !== compressed,
    )
  ) {
    stream.respond({ ...head, "grpc-status": "3", "grpc-message": "another flag was expected" }, { endStream: true });
    return;
  }
  stream.respond(head, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  const [first] = asked;
  if (path.endsWith("/UnaryCall"))
    stream.write(
      framed(coder("SimpleResponse").encode(zeros(first.responseSize)), first.responseCompressed?.value === true),
    );
  else if (path.endsWith("InputCall")) {
    const aggregatedPayloadSize = asked.reduce((sum, { payload }) => sum + payload.body.length, 0);
    stream.write(framed(coder("StreamingInputCallResponse").encode({ aggregatedPayloadSize }), false));
  } else {
    for (const { size, compressed } of first.responseParameters)
      stream.write(framed(coder(streamed[1]).encode(zeros(size)), compressed?.value === true));
  }
  stream.end();
});

const Client = grpc.makeGenericClientConstructor({ ...service, ...unimplemented }, "TestService");
const proxy = new ProxyUnderTest();
const folder = mkdtempSync(join(tmpdir(), "fl-t-grpc-interop-"));
const plain = freePort();
const secure = freePort();
const closing: (() => unknown)[] = [];

beforeAll(async () => {
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  await new Promise<void>((resolve) => flags.listen(0, "127.0.0.1", resolve));
  await proxy.start();
  const secret = makeSecret(folder, "grpc", "localhost");
  const rejected = await proxy.control.update({
    secrets: [secret],
    backends: [backend("one", { protocol: "h2c" }), backend("flags", { protocol: "h2c" })],
    endpoints: [endpoints("one", port), endpoints("flags", (flags.address() as { port: number }).port)],
    routeTables: [
      routeTable([
        rule("flags", {
          match: { headers: [{ name: "x-to", match: { kind: "exact", value: "flags" } }] },
          action: { kind: "forward", to: [forwardTo("flags")] },
        }),
        rule("all"),
      ]),
    ],
    listeners: [plainListener(plain), tlsListener(secure, [{ kind: "tls" }, secret])],
  });
  expect(rejected).toEqual([]);
});

afterAll(async () => {
  for (const close of closing) close();
  server.forceShutdown();
  flags.close();
  await proxy.stop();
  rmSync(folder, { recursive: true, force: true });
});

interface Outcome {
  readonly head: grpc.Metadata | undefined;
  readonly messages: readonly Message[];
  readonly status: grpc.StatusObject;
}

/** Everything that comes of a call of any kind. `drive` is given the call, and each message as it comes. */
function outcome(
  call: Message,
  drive: (call: Message, message: Message | undefined, count: number) => void,
): Promise<Outcome> {
  return new Promise((resolve) => {
    let head: grpc.Metadata | undefined;
    const messages: Message[] = [];
    call.on("metadata", (metadata: grpc.Metadata) => {
      head = metadata;
    });
    call.on("data", (message: Message) => {
      messages.push(message);
      drive(call, message, messages.length);
    });
    call.on("error", () => {});
    call.on("status", (status: grpc.StatusObject) => resolve({ head, messages, status }));
    drive(call, undefined, 0);
  });
}

const nothing = () => {};

/** A call with one answer. */
function unary(
  start: (done: (error: unknown, message?: Message) => void) => Message,
  drive = nothing as (call: Message) => void,
) {
  let answer: Message;
  const call = start((_error, message) => {
    answer = message;
  });
  return outcome(call, (call) => drive(call)).then(async (all) => {
    // The answer is given in the turn of the status.
    await new Promise((resolve) => setImmediate(resolve));
    return { ...all, messages: answer === undefined ? [] : [answer] };
  });
}

const sizes = ({ messages }: Outcome) => messages.map(({ payload }) => payload?.body.length);

for (const how of ["h2c", "TLS"] as const) {
  describe(`over ${how}`, () => {
    let client: Message;
    let session: http2.ClientHttp2Session;

    beforeAll(() => {
      const authority = readFileSync(join(folder, "grpc.crt"));
      client =
        how === "h2c"
          ? new Client(`127.0.0.1:${plain}`, grpc.credentials.createInsecure())
          : new Client(`localhost:${secure}`, grpc.credentials.createSsl(authority));
      session =
        how === "h2c"
          ? http2.connect(`http://127.0.0.1:${plain}`)
          : http2.connect(`https://localhost:${secure}`, { ca: authority });
      closing.push(
        () => client.close(),
        () => session.destroy(),
      );
    });

    test("empty_unary", async () => {
      const { messages, status } = await unary((done) => client.emptyCall({}, done));
      expect([messages.length, status.code]).toEqual([1, 0]);
    });

    const large = { responseSize: 314_159, ...zeros(271_828) };

    test("large_unary", async () => {
      expect(sizes(await unary((done) => client.unaryCall(large, done)))).toEqual([314_159]);
    });

    test("concurrent_large_unary", async () => {
      const all = await Promise.all(Array.from({ length: 30 }, () => unary((done) => client.unaryCall(large, done))));
      expect(all.flatMap(sizes)).toEqual(all.map(() => 314_159));
    }, 60_000);

    test("client_streaming", async () => {
      const { messages } = await unary(
        (done) => client.streamingInputCall(done),
        (call) => {
          for (const size of [27_182, 8, 1_828, 45_904]) call.write(zeros(size));
          call.end();
        },
      );
      expect(messages[0].aggregatedPayloadSize).toBe(74_922);
    });

    const answers = [31_415, 9, 2_653, 58_979];

    test("server_streaming", async () => {
      const call = client.streamingOutputCall({ responseParameters: answers.map((size) => ({ size })) });
      const all = await outcome(call, nothing);
      expect([all.status.code, sizes(all)]).toEqual([0, answers]);
    });

    test("ping_pong", async () => {
      const asked = [27_182, 8, 1_828, 45_904];
      const all = await outcome(client.fullDuplexCall(), (call, _message, count) => {
        if (count === asked.length) call.end();
        else call.write({ responseParameters: [{ size: answers[count] }], ...zeros(asked[count]!) });
      });
      expect([all.status.code, sizes(all)]).toEqual([0, answers]);
    });

    test("empty_stream", async () => {
      const all = await outcome(client.fullDuplexCall(), (call) => call.end());
      expect([all.status.code, all.messages.length]).toEqual([0, 0]);
    });

    test("cancel_after_begin", async () => {
      const before = cancelled;
      const call = client.streamingInputCall(() => {});
      // The case lets metadata go out first.
      const ended = outcome(call, (call) => setTimeout(() => call.cancel(), 50));
      expect((await ended).status.code).toBe(grpc.status.CANCELLED);
      while (cancelled === before) await Bun.sleep(5);
    });

    test("cancel_after_first_response", async () => {
      const before = cancelled;
      const all = await outcome(client.fullDuplexCall(), (call, message) => {
        if (message) call.cancel();
        else call.write({ responseParameters: [{ size: 31_415 }], ...zeros(27_182) });
      });
      expect([all.status.code, sizes(all)]).toEqual([grpc.status.CANCELLED, [31_415]]);
      while (cancelled === before) await Bun.sleep(5);
    });

    test("timeout_on_sleeping_server", async () => {
      const call = client.fullDuplexCall({ deadline: Date.now() + 1 });
      const { status } = await outcome(call, (call) => call.write(zeros(27_182)));
      expect(status.code).toBe(grpc.status.DEADLINE_EXCEEDED);
    });

    test("custom_metadata", async () => {
      const metadata = new grpc.Metadata();
      metadata.set(initialKey, "test_initial_metadata_value");
      metadata.set(trailingKey, Buffer.from("ababab", "hex"));
      const both = [
        await unary((done) => client.unaryCall(large, metadata, done)),
        await outcome(client.fullDuplexCall(metadata), (call, message) =>
          message ? call.end() : call.write({ responseParameters: [{ size: 314_159 }], ...zeros(271_828) }),
        ),
      ];
      for (const all of both) {
        expect(sizes(all)).toEqual([314_159]);
        expect(all.head?.get(initialKey)).toEqual(["test_initial_metadata_value"]);
        expect(all.status.metadata.get(trailingKey)).toEqual([Buffer.from("ababab", "hex")]);
      }
    });

    const failing = (message: string) => ({ responseStatus: { code: 2, message } });

    test("status_code_and_message", async () => {
      for (const { status } of [
        await unary((done) => client.unaryCall(failing("test status message"), done)),
        await outcome(client.fullDuplexCall(), (call, message) => {
          if (!message) call.write(failing("test status message"));
        }),
      ])
        expect([status.code, status.details]).toEqual([2, "test status message"]);
    });

    test("special_status_message", async () => {
      const special = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈\t\n";
      const { status } = await unary((done) => client.unaryCall(failing(special), done));
      expect([status.code, status.details]).toEqual([2, special]);
    });

    test("unimplemented_method and unimplemented_service", async () => {
      for (const name of ["unimplementedCall", "otherService"]) {
        const { status } = await unary((done) => client[name]({}, done));
        expect(status.code).toBe(grpc.status.UNIMPLEMENTED);
      }
    });

    /** A call whose messages are framed here: what came back, and the flags of it. */
    async function byHand(name: string, requests: readonly (readonly [Buffer, boolean])[], output: string) {
      const stream = session.request({
        ...{ ":method": "POST", ":path": `/grpc.testing.TestService/${name}`, "x-to": "flags", te: "trailers" },
        ...{ "content-type": "application/grpc", "grpc-encoding": "gzip", "grpc-accept-encoding": "gzip" },
      });
      let status: unknown;
      const told = (headers: http2.IncomingHttpHeaders) => {
        status = headers["grpc-status"] ?? status;
      };
      stream.on("response", told);
      stream.on("trailers", told);
      const body = whole(stream);
      for (const [bytes, compressed] of requests) stream.write(framed(bytes, compressed));
      stream.end();
      const messages = unframed(await body);
      const closed = stream.closed || new Promise((resolve) => stream.once("close", resolve));
      await closed;
      return {
        status: Number(status),
        flags: messages.map(({ compressed }) => compressed),
        messages: messages.map(({ bytes }) => coder(output).decode(bytes)),
      };
    }
    const simple = coder("SimpleRequest").encode;

    test("client_compressed_unary", async () => {
      const of = (value: boolean) => simple({ expectCompressed: { value }, ...large });
      const call = (bytes: Buffer, compressed: boolean) => byHand("UnaryCall", [[bytes, compressed]], "SimpleResponse");
      expect((await call(of(true), false)).status).toBe(grpc.status.INVALID_ARGUMENT);
      for (const value of [true, false]) {
        const { status, messages } = await call(of(value), value);
        expect([status, messages[0]?.payload.body.length]).toEqual([0, 314_159]);
      }
    });

    test("server_compressed_unary", async () => {
      for (const value of [true, false]) {
        const request = simple({ responseCompressed: { value }, ...large });
        const { status, flags, messages } = await byHand("UnaryCall", [[request, false]], "SimpleResponse");
        expect([status, flags, messages[0]?.payload.body.length]).toEqual([0, [value], 314_159]);
      }
    });

    test("client_compressed_streaming", async () => {
      const of = (value: boolean, size: number) =>
        coder("StreamingInputCallRequest").encode({ expectCompressed: { value }, ...zeros(size) });
      const call = (...requests: (readonly [Buffer, boolean])[]) =>
        byHand("StreamingInputCall", requests, "StreamingInputCallResponse");
      expect((await call([of(true, 27_182), false])).status).toBe(grpc.status.INVALID_ARGUMENT);
      const { status, messages } = await call([of(true, 27_182), true], [of(false, 45_904), false]);
      expect([status, messages[0]?.aggregatedPayloadSize]).toEqual([0, 73_086]);
    });

    test("server_compressed_streaming", async () => {
      const request = coder(streamed[0]).encode({
        responseParameters: [
          { compressed: { value: true }, size: 31_415 },
          { compressed: { value: false }, size: 92_653 },
        ],
      });
      const { status, flags, messages } = await byHand("StreamingOutputCall", [[request, false]], streamed[1]);
      expect([status, flags]).toEqual([0, [true, false]]);
      expect(messages.map(({ payload }) => payload.body.length)).toEqual([31_415, 92_653]);
    });
  });
}
