// The messages of Envoy's two services that filters ask, envoy.service.auth.v3.Authorization/Check and
// envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit, and of grpc.health.v1.Health/Check; only the fields that are used here, with their numbers. Written and
// read by protobufjs; unknown fields are skipped. And one unary gRPC call's framing (gRPC over HTTP/2, length-prefixed messages).

import protobuf from "protobufjs/light.js";
import type { HeaderValue } from "../../model/model.ts";
import type { CallAnswer, CallRequest } from "../call.ts";

const headerValue = {
  fields: { key: { id: 1, type: "string" }, value: { id: 2, type: "string" }, rawValue: { id: 3, type: "bytes" } },
};
const option = {
  fields: {
    header: { id: 1, type: "HeaderValue" },
    append: { id: 2, type: "BoolValue" },
    appendAction: { id: 3, type: "int32" },
  },
};
// The library's types leave out map fields.
const map = (id: number) => ({ id, keyType: "string", type: "string" }) as protobuf.IField;
const many = (id: number, type: string) => ({ id, type, rule: "repeated" });

const root = protobuf.Root.fromJSON({
  nested: {
    HeaderValue: headerValue,
    HeaderValueOption: option,
    BoolValue: { fields: { value: { id: 1, type: "bool" } } },
    // auth.v3
    CheckRequest: { fields: { attributes: { id: 1, type: "AttributeContext" } } },
    AttributeContext: {
      fields: {
        source: { id: 1, type: "Peer" },
        request: { id: 4, type: "AttributeRequest" },
        contextExtensions: map(10),
      },
    },
    Peer: { fields: { address: { id: 1, type: "Address" } } },
    Address: { fields: { socketAddress: { id: 1, type: "SocketAddress" } } },
    SocketAddress: { fields: { address: { id: 2, type: "string" }, portValue: { id: 3, type: "uint32" } } },
    AttributeRequest: { fields: { time: { id: 1, type: "Timestamp" }, http: { id: 2, type: "HttpRequest" } } },
    Timestamp: { fields: { seconds: { id: 1, type: "int64" }, nanos: { id: 2, type: "int32" } } },
    HttpRequest: {
      fields: {
        id: { id: 1, type: "string" },
        method: { id: 2, type: "string" },
        headers: map(3),
        path: { id: 4, type: "string" },
        host: { id: 5, type: "string" },
        scheme: { id: 6, type: "string" },
        size: { id: 9, type: "int64" },
        protocol: { id: 10, type: "string" },
        body: { id: 11, type: "string" },
        rawBody: { id: 12, type: "bytes" },
      },
    },
    CheckResponse: {
      fields: {
        status: { id: 1, type: "Status" },
        deniedResponse: { id: 2, type: "DeniedHttpResponse" },
        okResponse: { id: 3, type: "OkHttpResponse" },
      },
    },
    Status: { fields: { code: { id: 1, type: "int32" }, message: { id: 2, type: "string" } } },
    HttpStatus: { fields: { code: { id: 1, type: "int32" } } },
    DeniedHttpResponse: {
      fields: {
        status: { id: 1, type: "HttpStatus" },
        headers: many(2, "HeaderValueOption"),
        body: { id: 3, type: "string" },
      },
    },
    OkHttpResponse: {
      fields: {
        headers: many(2, "HeaderValueOption"),
        headersToRemove: many(5, "string"),
        responseHeadersToAdd: many(6, "HeaderValueOption"),
      },
    },
    // ratelimit.v3
    RateLimitRequest: {
      fields: {
        domain: { id: 1, type: "string" },
        descriptors: many(2, "RateLimitDescriptor"),
        hitsAddend: { id: 3, type: "uint32" },
      },
    },
    RateLimitDescriptor: { fields: { entries: many(1, "DescriptorEntry") } },
    DescriptorEntry: { fields: { key: { id: 1, type: "string" }, value: { id: 2, type: "string" } } },
    RateLimitResponse: {
      fields: {
        overallCode: { id: 1, type: "int32" },
        responseHeadersToAdd: many(3, "HeaderValue"),
        requestHeadersToAdd: many(4, "HeaderValue"),
        rawBody: { id: 5, type: "bytes" },
      },
    },
    // health.v1
    HealthCheckRequest: { fields: { service: { id: 1, type: "string" } } },
    HealthCheckResponse: { fields: { status: { id: 1, type: "int32" } } },
  },
});

interface WireHeader {
  readonly key: string;
  readonly value: string;
  readonly rawValue: Uint8Array;
}
interface WireOption {
  readonly header: WireHeader | null;
  readonly append: { readonly value: boolean } | null;
}
export interface CheckResponse {
  readonly status: { readonly code: number } | null;
  readonly deniedResponse: {
    readonly status: { readonly code: number } | null;
    readonly headers: readonly WireOption[];
    readonly body: string;
  } | null;
  readonly okResponse: {
    readonly headers: readonly WireOption[];
    readonly headersToRemove: readonly string[];
    readonly responseHeadersToAdd: readonly WireOption[];
  } | null;
}
export interface RateLimitResponse {
  readonly overallCode: number;
  readonly responseHeadersToAdd: readonly WireHeader[];
  readonly requestHeadersToAdd: readonly WireHeader[];
  readonly rawBody: Uint8Array;
}

export const messages = {
  checkRequest: root.lookupType("CheckRequest"),
  checkResponse: root.lookupType("CheckResponse"),
  rateLimitRequest: root.lookupType("RateLimitRequest"),
  rateLimitResponse: root.lookupType("RateLimitResponse"),
  healthCheckRequest: root.lookupType("HealthCheckRequest"),
  healthCheckResponse: root.lookupType("HealthCheckResponse"),
};

/** A unary call's request. */
export function grpcRequest(
  to: Pick<CallRequest, "backend" | "authority" | "path" | "timeout">,
  type: protobuf.Type,
  message: object,
  more: readonly HeaderValue[] = [],
): CallRequest {
  const bytes = type.encode(type.fromObject(message)).finish();
  const prefix = Buffer.alloc(5);
  prefix.writeUInt32BE(bytes.length, 1);
  return {
    ...to,
    method: "POST",
    scheme: "http",
    headers: [
      { name: "content-type", value: "application/grpc" },
      { name: "te", value: "trailers" },
      { name: "grpc-timeout", value: `${Math.min(99_999_999, Math.ceil(to.timeout))}m` },
      ...more,
    ],
    body: [prefix, Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)],
    maxBytes: 1024 * 1024,
  };
}

/** A unary call's message; undefined when the call failed, whatever way. */
export function grpcMessage<T>({ status, headers, body, trailers }: CallAnswer, type: protobuf.Type): T | undefined {
  const code = [...trailers, ...headers].find(([name]) => name === "grpc-status")?.[1];
  if (status !== 200 || code !== "0" || body.length < 5 || body[0] !== 0) return undefined;
  const length = body.readUInt32BE(1);
  if (body.length !== 5 + length) return undefined;
  try {
    return type.toObject(type.decode(body.subarray(5)), { defaults: true, arrays: true, longs: Number }) as T;
  } catch {
    return undefined;
  }
}

/** A header of a service, unless it could not stand in a message. */
export function wireHeader(header: WireHeader | null): HeaderValue | undefined {
  if (!header) return undefined;
  const name = header.key.toLowerCase();
  const bytes = header.rawValue.length > 0 ? Buffer.from(header.rawValue) : Buffer.from(header.value, "utf8");
  const value = bytes.toString("latin1");
  if (!/^[a-z0-9!#$%&'*+.^_`|~-]+$/.test(name) || /[\0\r\n]/.test(value)) return undefined;
  return { name, value };
}
