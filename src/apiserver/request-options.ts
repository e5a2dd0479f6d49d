// What the query (and the body of a DELETE) may ask for beside the object: ListOptions, CreateOptions, UpdateOptions,
// PatchOptions, DeleteOptions of apimachinery meta/v1, with the refusals of their validation.

import { managerOfUserAgent } from "../api/managed-fields/managed-fields.ts";
import { StatusError } from "../api/status-error.ts";
import type { DeleteOptions, ListOptions, WriteOptions } from "../store/store.ts";
import type { Exchange } from "./exchange.ts";
import { isTrue } from "./request-info.ts";

type OptionsKind = "ListOptions" | "CreateOptions" | "UpdateOptions" | "PatchOptions" | "DeleteOptions";

interface Problem {
  readonly reason: string;
  readonly field: string;
  readonly message: string;
}

export function invalidOptions(kind: OptionsKind, problem: Problem): StatusError {
  const message = `${kind}.meta.k8s.io "" is invalid: ${problem.field}: ${problem.message}`;
  const { reason, field } = problem;
  return new StatusError(422, "Invalid", message, {
    group: "meta.k8s.io",
    kind,
    causes: [{ reason, message: problem.message, field }],
  });
}

export interface WatchRequest {
  readonly allowBookmarks: boolean;
  readonly sendInitialEvents: boolean;
  /** Seconds; undefined leaves it to the server. */
  readonly timeoutSeconds: number | undefined;
}

export function listOptions(exchange: Exchange, namespace: string | undefined): ListOptions {
  const { query } = exchange;
  const text = (name: string) => query.get(name) || undefined;
  const match = text("resourceVersionMatch");
  if (match !== undefined && match !== "Exact" && match !== "NotOlderThan") {
    const message = `Unsupported value: ${JSON.stringify(match)}: supported values: "Exact", "NotOlderThan", ""`;
    throw invalidOptions("ListOptions", { reason: "FieldValueNotSupported", field: "resourceVersionMatch", message });
  }
  const limit = integer(query, "limit");
  return {
    ...(namespace ? { namespace } : {}),
    labelSelector: text("labelSelector"),
    fieldSelector: text("fieldSelector"),
    limit: limit && limit > 0 ? limit : undefined,
    continue: text("continue"),
    resourceVersion: text("resourceVersion"),
    resourceVersionMatch: match,
  };
}

export function watchRequest(exchange: Exchange): WatchRequest {
  const { query } = exchange;
  const sendInitialEvents = query.has("sendInitialEvents") && isTrue(query.get("sendInitialEvents"));
  const match = query.get("resourceVersionMatch");
  const forbidden = (message: string) =>
    invalidOptions("ListOptions", {
      reason: "FieldValueForbidden",
      field: "resourceVersionMatch",
      message: `Forbidden: ${message}`,
    });
  if (query.has("sendInitialEvents") && match !== "NotOlderThan") {
    throw forbidden("sendInitialEvents requires setting resourceVersionMatch to NotOlderThan");
  }
  if (!query.has("sendInitialEvents") && match) {
    throw forbidden("resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided");
  }
  return {
    allowBookmarks: isTrue(query.get("allowWatchBookmarks")),
    sendInitialEvents,
    timeoutSeconds: integer(query, "timeoutSeconds"),
  };
}

export function writeOptions(
  exchange: Exchange,
  kind: "CreateOptions" | "UpdateOptions" | "PatchOptions",
): Omit<WriteOptions, "subresource"> {
  const { query } = exchange;
  const fieldValidation = query.get("fieldValidation") || undefined;
  if (fieldValidation && !["Ignore", "Warn", "Strict"].includes(fieldValidation)) {
    const message = `Unsupported value: ${JSON.stringify(fieldValidation)}: supported values: "Ignore", "Strict", "Warn"`;
    throw invalidOptions(kind, { reason: "FieldValueNotSupported", field: "fieldValidation", message });
  }
  return {
    fieldManager: query.get("fieldManager") || managerOfUserAgent(exchange.header("user-agent")),
    fieldValidation: fieldValidation as WriteOptions["fieldValidation"],
    dryRun: dryRun(query.getAll("dryRun"), kind),
    onWarning: (text) => exchange.warn(text),
    userAgent: exchange.header("user-agent"),
  };
}

/** Options of a DELETE: those of the body where it has one, else those of the query. */
export function deleteOptions(exchange: Exchange, body: Readonly<Record<string, unknown>>): DeleteOptions {
  const { query } = exchange;
  const kind = "DeleteOptions";
  const policy = (body["propagationPolicy"] ?? query.get("propagationPolicy") ?? undefined) as string | undefined;
  if (policy && !["Orphan", "Background", "Foreground"].includes(policy)) {
    const message = `Unsupported value: ${JSON.stringify(policy)}: supported values: "Background", "Foreground", "Orphan", "nil"`;
    throw invalidOptions(kind, { reason: "FieldValueNotSupported", field: "propagationPolicy", message });
  }
  const orphans =
    body["orphanDependents"] ?? (query.has("orphanDependents") ? isTrue(query.get("orphanDependents")) : undefined);
  const grace = (body["gracePeriodSeconds"] ?? integer(query, "gracePeriodSeconds")) as number | undefined;
  const preconditions = body["preconditions"] as DeleteOptions["preconditions"];
  const dry = (body["dryRun"] as readonly string[] | undefined) ?? query.getAll("dryRun");
  return {
    propagationPolicy: (policy ||
      (orphans === undefined ? undefined : orphans ? "Orphan" : "Background")) as DeleteOptions["propagationPolicy"],
    gracePeriodSeconds: grace,
    dryRun: dryRun(dry, kind),
    ...(preconditions ? { preconditions } : {}),
  };
}

function dryRun(values: readonly string[], kind: OptionsKind): boolean {
  if (values.length === 0) return false;
  if (values.every((value) => value === "All")) return true;
  const message = `Unsupported value: ${JSON.stringify(values)}: supported values: "All"`;
  throw invalidOptions(kind, { reason: "FieldValueNotSupported", field: "dryRun", message });
}

function integer(query: URLSearchParams, name: string): number | undefined {
  const text = query.get(name);
  if (text === null || text === "") return undefined;
  if (/^-?[0-9]{1,15}$/.test(text)) return Number(text);
  throw new StatusError(400, "BadRequest", `strconv.ParseInt: parsing ${JSON.stringify(text)}: invalid syntax`);
}
