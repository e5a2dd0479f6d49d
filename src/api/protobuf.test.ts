import { describe, expect, test } from "bun:test";
import protobufjs from "protobufjs/minimal.js";
import { generated } from "./definitions.ts";
import { decodeProtobuf, isProtobuf } from "./protobuf.ts";
import { StatusError } from "./status-error.ts";

const numbers = generated<Record<string, Record<string, [number, string]>>>("protobuf.json");

type Parts = Readonly<Record<string, unknown>>;

/** Encodes a message by the same numbers, the way a Go client does. */
function encode(message: string, parts: Parts): Uint8Array {
  const writer = protobufjs.Writer.create();
  for (const [field, value] of Object.entries(parts)) {
    const [number, type] = numbers[message]![field]!;
    const items = type.startsWith("[")
      ? (value as unknown[])
      : type.startsWith("{")
        ? Object.entries(value as object)
        : [value];
    for (const item of items) {
      const inner = type.replace(/^[[{]|[\]}]$/g, "");
      if (type.startsWith("{")) {
        const [key, text] = item as [string, string];
        writer
          .uint32((number << 3) | 2)
          .fork()
          .uint32(10)
          .string(key)
          .uint32(18)
          .string(text)
          .ldelim();
      } else if (inner === "string") writer.uint32((number << 3) | 2).string(item as string);
      else if (inner === "bool") writer.uint32(number << 3).bool(item as boolean);
      else if (inner.startsWith("int")) writer.uint32(number << 3).int64(item as number);
      else if (inner === "bytes") writer.uint32((number << 3) | 2).bytes(item as Uint8Array);
      else writer.uint32((number << 3) | 2).bytes(encode(inner, item as Parts));
    }
  }
  return writer.finish();
}

function body(apiVersion: string, kind: string, message: string, parts: Parts): Uint8Array {
  const raw = encode(message, parts);
  const envelope = encode("k8s.io.apimachinery.pkg.runtime.Unknown", { typeMeta: { apiVersion, kind }, raw });
  return new Uint8Array([0x6b, 0x38, 0x73, 0, ...envelope]);
}

describe("protobuf bodies", () => {
  test("a Service reads as its JSON form", () => {
    const bytes = body("v1", "Service", "k8s.io.api.core.v1.Service", {
      metadata: { name: "np", labels: { app: "np" } },
      spec: {
        type: "NodePort",
        selector: { app: "np" },
        ports: [{ name: "80-8080", protocol: "TCP", port: 80, targetPort: { type: 0, intVal: 8080 }, nodePort: 30123 }],
      },
    });
    expect(isProtobuf(bytes)).toBe(true);
    expect(decodeProtobuf(bytes)).toEqual({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name: "np", labels: { app: "np" } },
      spec: {
        type: "NodePort",
        selector: { app: "np" },
        ports: [{ name: "80-8080", protocol: "TCP", port: 80, targetPort: 8080, nodePort: 30123 }],
      },
    });
  });

  test("embedded structs, times and quantities take their JSON form", () => {
    const bytes = body("v1", "Pod", "k8s.io.api.core.v1.Pod", {
      metadata: { name: "p", creationTimestamp: { seconds: 1767225600 } },
      spec: {
        volumes: [{ name: "v", volumeSource: { configMap: { localObjectReference: { name: "settings" } } } }],
        containers: [
          {
            name: "c",
            readinessProbe: { handler: { tcpSocket: { port: { type: 1, strVal: "http" } } }, periodSeconds: 5 },
          },
        ],
      },
    });
    expect(decodeProtobuf(bytes)).toEqual({
      apiVersion: "v1",
      kind: "Pod",
      metadata: { name: "p", creationTimestamp: "2026-01-01T00:00:00Z" },
      spec: {
        volumes: [{ name: "v", configMap: { name: "settings" } }],
        containers: [{ name: "c", readinessProbe: { tcpSocket: { port: "http" }, periodSeconds: 5 } }],
      },
    });
  });

  test("lists of text", () => {
    const bytes = body("authentication.k8s.io/v1", "TokenReview", "k8s.io.api.authentication.v1.TokenReview", {
      spec: { token: "t", audiences: ["a", "b"] },
    });
    expect(decodeProtobuf(bytes)).toMatchObject({ spec: { token: "t", audiences: ["a", "b"] } });
  });

  test("what is no such body is refused", () => {
    expect(() => decodeProtobuf(new TextEncoder().encode("{}"))).toThrow(StatusError);
    expect(() => decodeProtobuf(new Uint8Array([0x6b, 0x38, 0x73, 0, 0xff, 0xff, 0xff]))).toThrow(StatusError);
  });
});
