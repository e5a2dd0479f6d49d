// Scenarios of `side-by-side-policies.test.ts`: what callers of gRPC are told by the proxy itself, and gRPC-Web.

import type { Rule } from "../../src/model/model.ts";
import { type Difference, shown } from "./beside.ts";
import { challenge, externalAuth, jwt, rateLimit } from "./beside-access.ts";
import { type Ask, forward, type Scenario } from "./beside-scenario.ts";
import { from } from "./proxy-harness.ts";

const grpcAsk: Ask = {
  method: "POST",
  headers: { "content-type": "application/grpc", te: "trailers" },
  body: frame("hi"),
};
const texts: Difference = {
  why: "the words of an error are each proxy's own",
  ours: [[/"grpc-message: [^"]*",?/g, ""]],
  envoys: [[/"grpc-message: [^"]*",?/g, ""]],
};
const withTexts = (why: string, ours: Difference["ours"], envoys: Difference["envoys"] = []): Difference => ({
  why: `${why}; ${texts.why}`,
  ours: [...texts.ours!, ...ours!],
  envoys: [...texts.envoys!, ...envoys],
});
const local = (name: string, more: Partial<Rule>, ask: Ask = {}, differs = texts): Scenario => ({
  name: `gRPC: ${name}`,
  rules: [more],
  run: async (side) => {
    const results: unknown[] = [];
    for (let count = 0; count < 2; count++) {
      const answer = await side.raw({ ...grpcAsk, ...ask, headers: { ...grpcAsk.headers, ...ask.headers } });
      await answer.arrayBuffer();
      const type = answer.headers.get("content-type");
      results.push({ status: answer.status, type, headers: shown(answer.headers) });
    }
    return results;
  },
  differs,
});
const rpc: readonly Scenario[] = [
  local("no rule takes it", { match: { headers: [{ name: "x-a", match: { kind: "present" } }] } }),
  local("nobody can be reached", { action: forward("gone") }),
  local("there is nobody", { action: forward("empty") }),
  local(
    "its time is over",
    { action: forward("one"), timeouts: { request: 100 } },
    { headers: { "x-hold": "300" } },
    withTexts("what took too long is DEADLINE_EXCEEDED (google.rpc.Code 4); Envoy goes by the 504 alone: UNAVAILABLE", [
      [/grpc-status: 4"/g, 'grpc-status: 14"'],
    ]),
  ),
  local(
    "a token is missing",
    { filters: [jwt(false)] },
    {},
    withTexts(challenge.why, challenge.ours, challenge.envoys),
  ),
  local("a service says no", { filters: [externalAuth({})] }, { headers: { "x-auth": "no" } }),
  local(
    "a rate is too high",
    { filters: [rateLimit({ bucket: "rpc", burst: 1, tell: false })] },
    {},
    withTexts("who is refused is told when to come again (RFC 6585 §4)", [[/,"retry-after: 600"/g, ""]]),
  ),
  local(
    "a body is too large",
    { filters: [{ kind: "bodyLimit", from, bytes: 1 }] },
    {},
    withTexts(
      "what is larger than a limit is RESOURCE_EXHAUSTED (google.rpc.Code 8); Envoy goes by the 413, of which gRPC has no code: UNKNOWN",
      [[/grpc-status: 8"/g, 'grpc-status: 2"']],
    ),
  ),
  local("a fault with a status of HTTP", {
    filters: [{ kind: "fault", from, abort: { perMillion: 1_000_000, status: 429 } }],
  }),
  local("a fault with one of gRPC", {
    filters: [{ kind: "fault", from, abort: { perMillion: 1_000_000, grpcStatus: 9 } }],
  }),
  local("an answer of the proxy's own", { action: { kind: "respond", status: 404, reason: "", body: "none" } }),
];

function frame(text: string): Uint8Array {
  const head = Buffer.alloc(5);
  head.writeUInt32BE(text.length, 1);
  return Buffer.concat([head, Buffer.from(text)]);
}
/** Pieces that may each end in padding. */
function decoded(text: string): Buffer {
  return Buffer.concat((text.match(/[^=]+=*/g) ?? []).map((piece) => Buffer.from(piece, "base64")));
}

/** Messages as text, and trailers as a sorted list. */
function frames(body: Uint8Array): unknown[] {
  const bytes = Buffer.from(body);
  const all: unknown[] = [];
  for (let at = 0; at < bytes.length; ) {
    const length = bytes.readUInt32BE(at + 1);
    const text = bytes.toString("latin1", at + 5, at + 5 + length);
    all.push(
      bytes[at]! & 0x80
        ? text
            .split("\r\n")
            .filter(Boolean)
            .map((line) => line.replace(/: */, ": "))
            .sort()
        : text,
    );
    at += 5 + length;
  }
  return all;
}
const web = (name: string, target: string, type: string, message: string, differs = texts): Scenario => ({
  name: `gRPC-Web: ${name}`,
  rules: [
    {
      filters: [
        { kind: "grpcWeb", from },
        { kind: "rewrite", from, path: { kind: "full", value: "/test.Echo/Unary" } },
      ],
      action: forward(target),
    },
  ],
  run: async (side) => {
    const text = type.includes("text");
    const bytes = frame(message);
    const headers = { "content-type": type, "x-grpc-web": "1", accept: type };
    const body = text ? Buffer.from(bytes).toString("base64") : bytes;
    const answer = await side.raw({ method: "POST", headers, body });
    const got = Buffer.from(await answer.arrayBuffer());
    return {
      status: answer.status,
      type: answer.headers.get("content-type"),
      headers: shown(answer.headers),
      frames: frames(text ? decoded(got.toString("latin1")) : got),
    };
  },
  differs,
});
const browsers: readonly Scenario[] = [
  web("a message", "echo", "application/grpc-web+proto", "hello"),
  web("a message as text", "echo", "application/grpc-web-text+proto", "hello"),
  web("an error", "echo", "application/grpc-web", "fail"),
  web(
    "there is nobody",
    "empty",
    "application/grpc-web",
    "hello",
    withTexts(
      "an error of the proxy's own is an answer of gRPC-Web, with 200 and the type that was asked in; Envoy leaves the 503",
      [[/"status":200,"type":"application\/grpc-web"/g, '"status":503,"type":"application/grpc-web+proto"']],
    ),
  ),
];

export const ofGrpc: readonly Scenario[] = [...rpc, ...browsers];
