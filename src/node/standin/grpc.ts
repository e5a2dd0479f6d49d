// What a stand-in answers to gRPC (gRPC over HTTP/2): grpc.health.v1.Health, by which it is always well, and the echo service that
// Gateway API's conformance tests ask (conformance/echo-basic/grpcecho.proto): who answers, and what came. Pure; the messages are few
// and small, so that they are written by hand (Protocol Buffers, Encoding). Reflection is not there.

import type { StandInPod } from "./protocol.ts";

export const GrpcCode = { ok: 0, invalidArgument: 3, unimplemented: 12, unavailable: 14 } as const;

const echoService = "/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/";
const healthService = "/grpc.health.v1.Health/";

export interface GrpcCall {
  /** `/package.Service/Method`. */
  readonly path: string;
  readonly authority: string;
  /** Names in lower case, in the order they came. */
  readonly headers: readonly (readonly [string, string])[];
  readonly body: Buffer;
}

export interface GrpcAnswer {
  readonly code: number;
  readonly text?: string;
  /** A message; without one the answer is nothing but its status. */
  readonly message?: Buffer;
  /** It goes on until its client, or the pod, ends. */
  readonly stays?: boolean;
}

/** HealthCheckResponse.ServingStatus. */
export const serving = uint(1, 1);
export const notServing = uint(1, 2);

export function answerCall(call: GrpcCall, pod: Pick<StandInPod, "namespace" | "name">): GrpcAnswer {
  const known = call.path.startsWith(echoService) || call.path.startsWith(healthService);
  if (!known) return unimplemented(call.path);
  const problem = messageProblem(call.body);
  if (problem) return problem;
  switch (call.path) {
    case `${healthService}Check`:
      return { code: GrpcCode.ok, message: framed(serving) };
    case `${healthService}Watch`:
      return { code: GrpcCode.ok, message: framed(serving), stays: true };
    case `${echoService}Echo`:
    case `${echoService}EchoTwo`:
      return { code: GrpcCode.ok, message: framed(echo(call, pod)) };
    default:
      return unimplemented(call.path);
  }
}

function unimplemented(path: string): GrpcAnswer {
  return { code: GrpcCode.unimplemented, text: `a stand-in has no method ${path}` };
}

/** Whether a body is one message that is not compressed; what it says is of no interest. */
function messageProblem(body: Buffer): GrpcAnswer | undefined {
  if (body.length >= 5 && body[0] === 1)
    return { code: GrpcCode.unimplemented, text: "messages must not be compressed" };
  if (body.length >= 5 && body[0] === 0 && body.readUInt32BE(1) === body.length - 5) return undefined;
  return { code: GrpcCode.invalidArgument, text: "the request is not one message of gRPC" };
}

/** EchoResponse: its one field are the EchoAssertions. */
function echo({ path, headers, authority }: GrpcCall, pod: Pick<StandInPod, "namespace" | "name">): Buffer {
  const context = Buffer.concat([stringField(1, pod.namespace), stringField(4, pod.name)]);
  const assertions = Buffer.concat([
    stringField(1, path),
    ...headers.map(([key, value]) => bytes(2, Buffer.concat([stringField(1, key), stringField(2, value)]))),
    stringField(3, authority),
    bytes(4, context),
  ]);
  return bytes(1, assertions);
}

/** Length-prefixed, not compressed. */
export function framed(message: Buffer): Buffer {
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

function uint(field: number, value: number): Buffer {
  return Buffer.concat([varint(field << 3), varint(value)]);
}

function bytes(field: number, value: Buffer): Buffer {
  return Buffer.concat([varint((field << 3) | 2), varint(value.length), value]);
}

/** A field of a message; an empty one is left out. */
export function stringField(field: number, value: string): Buffer {
  return value === "" ? Buffer.alloc(0) : bytes(field, Buffer.from(value));
}

function varint(value: number): Buffer {
  const out: number[] = [];
  let rest = value;
  while (rest > 127) {
    out.push((rest & 127) | 128);
    rest >>>= 7;
  }
  return Buffer.from([...out, rest]);
}
