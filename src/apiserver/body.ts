// Request bodies: JSON, YAML and protobuf to values, with the refusals that clients of kube-apiserver know.

import { parseDocument } from "yaml";
import { JsonSyntaxError, parseJson } from "../api/json.ts";
import { decodeProtobuf } from "../api/protobuf.ts";
import { StatusError } from "../api/status-error.ts";
import type { Exchange } from "./exchange.ts";

export interface Body {
  readonly value: unknown;
  /** Paths of fields that were there twice. */
  duplicates(): readonly string[];
}

const protobuf = "application/vnd.kubernetes.protobuf";
const acceptedTypes = "application/json, application/yaml, application/vnd.kubernetes.protobuf";

/** The media type without its parameters; JSON when a client says none. */
export function mediaType(exchange: Exchange): string {
  return (exchange.header("content-type") ?? "application/json").split(";")[0]!.trim().toLowerCase();
}

/** The object in the body. `kind` names what it should be in the message. */
export async function readObject(exchange: Exchange, kind: string): Promise<Body> {
  const type = mediaType(exchange);
  const bytes = await exchange.body();
  if (type === "application/yaml") return parseYaml(bytes, kind);
  if (type === protobuf) return { value: decodeProtobuf(bytes), duplicates: () => [] };
  if (type !== "application/json" && type !== "") {
    throw new StatusError(
      415,
      "UnsupportedMediaType",
      `the body of the request was in an unknown format - accepted media types include: ${acceptedTypes}`,
    );
  }
  return parseJsonBody(bytes.toString("utf8"), kind);
}

function parseJsonBody(text: string, kind: string): Body {
  try {
    return parseJson(text);
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    throw new StatusError(
      400,
      "BadRequest",
      `the object provided is unrecognized (must be of type ${kind}): couldn't get version/kind; json parse error: ${error.message} (${summary(text)})`,
    );
  }
}

/** A patch, which may be YAML too where it is applied. */
export async function readPatch(exchange: Exchange, yaml: boolean): Promise<Body> {
  const bytes = await exchange.body();
  const text = bytes.toString("utf8");
  if (yaml && !/^\s*[{[]/.test(text)) return parseYaml(bytes, "patch");
  try {
    return parseJson(text);
  } catch (error) {
    if (!(error instanceof JsonSyntaxError)) throw error;
    throw new StatusError(400, "BadRequest", `error decoding patch: ${error.message}`);
  }
}

/** DeleteOptions: nothing at all is fine too. */
export async function readOptions(exchange: Exchange): Promise<Readonly<Record<string, unknown>>> {
  const bytes = await exchange.body();
  if (bytes.length === 0) return {};
  const type = mediaType(exchange);
  const { value } =
    type === protobuf
      ? { value: decodeProtobuf(bytes) }
      : type === "application/yaml"
        ? parseYaml(bytes, "DeleteOptions")
        : parseJsonBody(bytes.toString("utf8"), "DeleteOptions");
  return value !== null && typeof value === "object" ? (value as Record<string, unknown>) : {};
}

function parseYaml(bytes: Buffer, kind: string): Body {
  const document = parseDocument(bytes.toString("utf8"), { uniqueKeys: false, version: "1.1", logLevel: "silent" });
  const [problem] = document.errors;
  if (problem) {
    throw new StatusError(
      400,
      "BadRequest",
      `the object provided is unrecognized (must be of type ${kind}): error converting YAML to JSON: yaml: ${problem.message.split("\n")[0]}`,
    );
  }
  return { value: document.toJS({ maxAliasCount: 100 }), duplicates: () => [] };
}

/** The beginning of a body, as messages quote it (apiserver handlers.summarizeData). */
function summary(text: string): string {
  if (text === "") return "<empty>";
  if (!/^[{[]/.test(text)) {
    const hex = Buffer.from(text).toString("hex");
    return hex.length > 60 ? `${hex.slice(0, 60)} ...` : hex;
  }
  return text.length > 30 ? `${text.slice(0, 30)} ...` : text;
}
