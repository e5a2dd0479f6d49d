// Which form of an answer a client accepts: JSON, YAML or protobuf, and as the object itself, as a Table, or as its
// metadata alone (apiserver endpoints/handlers/negotiation, endpoints/request media types).

import { StatusError } from "../api/status-error.ts";

export type Format = "json" | "yaml" | "protobuf";
export type Transform = "Table" | "PartialObjectMetadata" | "PartialObjectMetadataList";

export interface Accepted {
  readonly format: Format;
  readonly as: Transform | undefined;
  /** Other parameters of the media type (`profile=…` of discovery, `as=APIGroupDiscoveryList`). */
  readonly parameters: Readonly<Record<string, string>>;
  readonly pretty: boolean;
}

export const contentTypes: Readonly<Record<Format, string>> = {
  json: "application/json",
  yaml: "application/yaml",
  protobuf: "application/vnd.kubernetes.protobuf",
};

const formats: Readonly<Record<string, Format>> = {
  "*/*": "json",
  "application/*": "json",
  "application/json": "json",
  "application/yaml": "yaml",
  "application/vnd.kubernetes.protobuf": "protobuf",
};

export interface Offer {
  readonly transforms?: readonly Transform[];
  /** Forms that this answer has. */
  readonly formats?: readonly Format[];
}

/** The first acceptable form. Throws NotAcceptable when there is none. */
export function negotiate(accept: string | undefined, query: URLSearchParams, offer: Offer = {}): Accepted {
  const { transforms = [], formats: offered = ["json", "yaml"] } = offer;
  const pretty = query.has("pretty") && query.get("pretty") !== "false" && query.get("pretty") !== "0";
  const clauses = parseAccept(accept ?? "*/*");
  for (const { type, parameters } of clauses) {
    const format = formats[type];
    if (!format || !offered.includes(format)) continue;
    const { as, g, v } = parameters;
    if (as === undefined) return { format, as: undefined, parameters, pretty };
    if (transforms.includes(as as Transform) && g === "meta.k8s.io" && v === "v1") {
      return { format, as: as as Transform, parameters, pretty };
    }
  }
  throw notAcceptable(offered);
}

export interface AcceptClause {
  readonly type: string;
  readonly parameters: Readonly<Record<string, string>>;
}

/** The clauses of an Accept header, best first (RFC 9110 section 12.5.1; equal weights keep their order). */
export function parseAccept(accept: string): readonly AcceptClause[] {
  return accept
    .split(",")
    .map((clause, index) => {
      const [type = "", ...rest] = clause.split(";").map((part) => part.trim());
      const parameters: Record<string, string> = {};
      for (const part of rest) {
        const equals = part.indexOf("=");
        if (equals > 0) parameters[part.slice(0, equals).toLowerCase()] = part.slice(equals + 1).replace(/^"|"$/g, "");
      }
      const weight = Number(parameters["q"] ?? 1);
      return { type: type.toLowerCase(), parameters, weight: Number.isNaN(weight) ? 0 : weight, index };
    })
    .filter((clause) => clause.type !== "" && clause.weight > 0)
    .sort((a, b) => b.weight - a.weight || a.index - b.index);
}

export function notAcceptable(offered: readonly Format[]): StatusError {
  const names = offered.map((format) => contentTypes[format]).join(", ");
  return new StatusError(406, "NotAcceptable", `only the following media types are accepted: ${names}`);
}
