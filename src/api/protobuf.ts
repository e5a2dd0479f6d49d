// Bodies in Kubernetes' protobuf form (media type application/vnd.kubernetes.protobuf): the magic `k8s\0`, an envelope
// (apimachinery runtime.Unknown) and a message, read into the JSON form that everything else here works on. Go clients and some
// kubectl commands (create, auth can-i) send it; answers are JSON, which all of them accept. Field numbers are in
// `generated/protobuf.json`; the wire format is read by protobufjs.

import protobufjs from "protobufjs/minimal.js";
import { definition, definitionNames, definitionOfKind, generated } from "./definitions.ts";
import type { Schema } from "./schema.ts";
import { StatusError } from "./status-error.ts";

const { Reader } = protobufjs;
type Reader = protobufjs.Reader;

type Messages = Readonly<Record<string, Readonly<Record<string, readonly [number, string]>>>>;

interface Field {
  readonly name: string;
  readonly type: string;
  /** The fields of this message stand among those of its parent in JSON (Go embedding). */
  readonly inline: boolean;
}

const magic = [0x6b, 0x38, 0x73, 0x00]; // "k8s\0"
const meta = "k8s.io.apimachinery.pkg.apis.meta.v1";

let messages: Messages | undefined;
const layouts = new Map<string, ReadonlyMap<number, Field>>();

const malformed = (text: string) => new StatusError(400, "BadRequest", `unable to decode protobuf body: ${text}`);

/** True when bytes start with the magic of the envelope. */
export function isProtobuf(bytes: Uint8Array): boolean {
  return magic.every((byte, index) => bytes[index] === byte);
}

/**
 * The object in a protobuf body, in JSON form with apiVersion and kind. Throws BadRequest when it is malformed or of a kind
 * that has no message.
 */
export function decodeProtobuf(bytes: Uint8Array): Record<string, unknown> {
  if (!isProtobuf(bytes))
    throw malformed("provided data does not appear to be a protobuf message, expected prefix k8s");
  try {
    const envelope = readMessage(
      Reader.create(bytes.subarray(4)),
      "k8s.io.apimachinery.pkg.runtime.Unknown",
      bytes.length - 4,
    );
    const { apiVersion = "", kind = "" } = (envelope["typeMeta"] ?? {}) as { apiVersion?: string; kind?: string };
    const raw = Buffer.from((envelope["raw"] as string | undefined) ?? "", "base64");
    if (envelope["contentType"] === "application/json")
      return JSON.parse(raw.toString("utf8")) as Record<string, unknown>;
    const message = messageOfKind(apiVersion, kind);
    if (!message) throw malformed(`no message for ${kind} in ${apiVersion}`);
    return { ...readMessage(Reader.create(raw), message, raw.length), apiVersion, kind };
  } catch (error) {
    if (error instanceof StatusError) throw error;
    throw malformed(error instanceof Error ? error.message : String(error));
  }
}

function all(): Messages {
  messages ??= generated<Messages>("protobuf.json");
  return messages;
}

/** Protobuf packages are named as Go packages are, with underscores for dashes. */
const messageName = (definitionName: string) => definitionName.replace(/^io\.k8s\./, "k8s.io.").replace(/-/g, "_");

function messageOfKind(apiVersion: string, kind: string): string | undefined {
  // Options are sent under the version of the resource that they are about.
  if (/^(Create|Update|Patch|Delete|List|Get)Options$/.test(kind)) return `${meta}.${kind}`;
  const name = definitionOfKind(apiVersion, kind);
  return name === undefined ? undefined : messageName(name);
}

let definitions: Map<string, string> | undefined;

function schemaOfMessage(message: string): Schema | undefined {
  definitions ??= new Map(definitionNames().map((name) => [messageName(name), name]));
  const name = definitions.get(message);
  return name === undefined ? undefined : definition(name);
}

function layoutOf(message: string): ReadonlyMap<number, Field> {
  const seen = layouts.get(message);
  if (seen) return seen;
  const facts = all()[message];
  if (!facts) throw malformed(`no message ${message}`);
  const fields = schemaOfMessage(message)?.fields;
  const layout = new Map<number, Field>();
  for (const [proto, [number, type]] of Object.entries(facts)) {
    const name = jsonName(proto, fields);
    const inline = fields !== undefined && name === undefined && type.startsWith("k8s.io");
    layout.set(number, { name: name ?? proto, type, inline });
  }
  layouts.set(message, layout);
  return layout;
}

/** The JSON name of a protobuf field; undefined when the JSON form has no such field. */
function jsonName(proto: string, fields: Readonly<Record<string, Schema>> | undefined): string | undefined {
  if (!fields || Object.hasOwn(fields, proto)) return proto;
  const candidates = [
    proto[0]!.toLowerCase() + proto.slice(1),
    proto.toLowerCase(),
    `$${proto}`,
    proto.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`),
  ];
  return candidates.find((name) => Object.hasOwn(fields, name));
}

function readMessage(reader: Reader, message: string, length: number): Record<string, unknown> {
  const end = reader.pos + length;
  const layout = layoutOf(message);
  const out: Record<string, unknown> = {};
  while (reader.pos < end) {
    const tag = reader.uint32();
    const field = layout.get(tag >>> 3);
    if (!field) {
      reader.skipType(tag & 7);
      continue;
    }
    if (field.type.startsWith("[")) {
      out[field.name] ??= [];
      const list = out[field.name] as unknown[];
      const type = field.type.slice(1, -1);
      if ((tag & 7) === 2 && /^(int32|int64|bool)$/.test(type)) {
        const stop = reader.uint32() + reader.pos; // packed
        while (reader.pos < stop) list.push(readValue(reader, type));
      } else list.push(readValue(reader, type));
    } else if (field.type.startsWith("{")) {
      out[field.name] ??= {};
      const map = out[field.name] as Record<string, unknown>;
      const [key, value] = readEntry(reader, field.type.slice(1, -1));
      Object.defineProperty(map, key, { value, enumerable: true, writable: true, configurable: true });
    } else {
      const value = readValue(reader, field.type);
      if (field.inline) Object.assign(out, value);
      else out[field.name] = value;
    }
  }
  return out;
}

function readEntry(reader: Reader, type: string): [string, unknown] {
  const end = reader.uint32() + reader.pos;
  let key = "";
  let value: unknown = type === "string" || type === "bytes" ? "" : undefined;
  while (reader.pos < end) {
    const tag = reader.uint32();
    if (tag >>> 3 === 1) key = reader.string();
    else if (tag >>> 3 === 2) value = readValue(reader, type);
    else reader.skipType(tag & 7);
  }
  return [key, value];
}

function readValue(reader: Reader, type: string): unknown {
  switch (type) {
    case "string":
      return reader.string();
    case "int32":
      return reader.int32();
    case "int64":
      return Number(reader.int64());
    case "bool":
      return reader.bool();
    case "double":
      return reader.double();
    case "bytes":
      return Buffer.from(reader.bytes()).toString("base64");
    default: {
      const length = reader.uint32();
      return asJson(type, readMessage(reader, type, length));
    }
  }
}

const json = (base64: unknown) =>
  typeof base64 === "string" && base64 !== ""
    ? (JSON.parse(Buffer.from(base64, "base64").toString("utf8")) as unknown)
    : undefined;

/** Messages whose JSON form is not an object of their fields. */
function asJson(type: string, value: Record<string, unknown>): unknown {
  switch (type.slice(type.lastIndexOf(".") + 1)) {
    case "Time":
    case "MicroTime": {
      if (!type.startsWith(meta)) return value;
      const { seconds, nanos = 0 } = value as { seconds?: number; nanos?: number };
      if (seconds === undefined) return null;
      const text = new Date(seconds * 1000).toISOString().slice(0, 19);
      return type.endsWith("MicroTime") ? `${text}.${String(Math.floor(nanos / 1000)).padStart(6, "0")}Z` : `${text}Z`;
    }
    case "Quantity":
      return value["string"] ?? "0";
    case "IntOrString":
      return value["type"] === 1 ? (value["strVal"] ?? "") : (value["intVal"] ?? 0);
    case "FieldsV1":
      return json(value["Raw"]) ?? {};
    case "RawExtension":
    case "JSON":
      return json(value["raw"]);
    case "ExtraValue":
      return value["items"] ?? [];
    case "JSONSchemaPropsOrBool":
      return value["schema"] ?? value["allows"] ?? false;
    case "JSONSchemaPropsOrArray":
      return value["schema"] ?? value["jSONSchemas"] ?? [];
    case "JSONSchemaPropsOrStringArray":
      return value["schema"] ?? value["property"] ?? [];
    default:
      return value;
  }
}
