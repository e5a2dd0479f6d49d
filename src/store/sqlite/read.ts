// Reading: selections (namespace, labels, fields), lists at a revision and in pages, and what a watch has to see first.
// Semantics of resourceVersion and continue follow the Kubernetes API concepts page and apiserver storage.GetList.

import { convertTo } from "../../api/conversion.ts";
import { type KubeObject, objectName } from "../../api/object.ts";
import { apiVersionOf, type Resource, resourceKey } from "../../api/resource.ts";
import type { Scheme } from "../../api/scheme.ts";
import { parseFieldSelector, parseLabelSelector } from "../../api/selectors.ts";
import { StatusError } from "../../api/status-error.ts";
import type { ListOptions, Snapshot } from "../store.ts";
import type { Objects } from "./objects.ts";

export interface Selection {
  readonly namespace?: string;
  readonly labelSelector?: string;
  readonly fieldSelector?: string;
}

export type Matches = (object: KubeObject) => boolean;

const all: Matches = () => true;

/** The test that a selection stands for. Throws BadRequest for selectors that cannot be read. */
export function matcher(scheme: Scheme, resource: Resource, selection: Selection): Matches {
  const tests: Matches[] = [];
  const { namespace, labelSelector, fieldSelector } = selection;
  if (namespace && resource.scope === "Namespaced") tests.push((object) => object.metadata.namespace === namespace);
  if (labelSelector) {
    const labels = parseLabelSelector(labelSelector);
    tests.push((object) => labels.matches(object.metadata.labels));
  }
  if (fieldSelector) {
    const fields = parseFieldSelector(scheme, resource, fieldSelector);
    tests.push((object) => fields.matches(object));
  }
  if (tests.length === 0) return all;
  return tests.length === 1 ? tests[0]! : (object) => tests.every((test) => test(object));
}

/** How a client of one version sees a stored object. */
export function presenter(resource: Resource): (object: KubeObject) => KubeObject {
  const apiVersion = apiVersionOf(resource);
  return (object) =>
    object.apiVersion === apiVersion || object.kind !== resource.kind
      ? object
      : Object.freeze(convertTo(object, apiVersion));
}

/** A resourceVersion as a number; undefined when it was left out. */
export function parseRevision(text: string | undefined): number | undefined {
  if (text === undefined || text === "") return undefined;
  if (/^[0-9]{1,15}$/.test(text)) return Number(text);
  const message = `resourceVersion: Invalid value: ${JSON.stringify(text)}: strconv.ParseUint: parsing ${JSON.stringify(text)}: invalid syntax`;
  throw new StatusError(500, "Unknown", message);
}

export function listObjects(scheme: Scheme, objects: Objects, resource: Resource, options: ListOptions): Snapshot {
  const key = resourceKey(resource);
  const page = options.continue ? readContinue(options.continue) : undefined;
  const wanted = parseRevision(options.resourceVersion);
  if (page && wanted !== undefined && wanted !== 0) {
    throw new StatusError(400, "BadRequest", "specifying resource version is not allowed when using continue");
  }
  const revision = page?.rv ?? (options.resourceVersionMatch === "Exact" ? wanted : undefined);
  if (revision === undefined && wanted !== undefined && wanted > objects.revision) objects.check(wanted);

  const namespace = resource.scope === "Namespaced" ? options.namespace || undefined : undefined;
  const matches = matcher(scheme, resource, { ...options, namespace: undefined });
  const present = presenter(resource);
  const source = revision === undefined ? objects.of(key) : stateAt(objects, key, revision, page !== undefined);
  let items = source.list(namespace);
  if (page) items = items.filter((object) => objectName(object) > page.start);
  if (matches !== all) items = items.filter(matches);
  const resourceVersion = String(revision ?? objects.revision);
  const { limit } = options;
  if (!limit || items.length <= limit) return { resourceVersion, items: items.map(present) };

  const taken = items.slice(0, limit);
  return {
    resourceVersion,
    items: taken.map(present),
    continue: writeContinue({ rv: Number(resourceVersion), start: objectName(taken.at(-1)!) }),
    // With a selector the rest is not known to the real server, which does not say then.
    ...(matches === all ? { remainingItemCount: items.length - limit } : {}),
  };
}

function stateAt(objects: Objects, key: string, revision: number, paging: boolean) {
  try {
    return objects.at(key, revision);
  } catch (error) {
    if (!paging || !(error instanceof StatusError) || error.reason !== "Expired") throw error;
    throw new StatusError(
      410,
      "Expired",
      "The provided continue parameter is too old to display a consistent list result. You must start a new list without the continue parameter.",
    );
  }
}

interface Continue {
  readonly rv: number;
  /** The last key of the page before. */
  readonly start: string;
}

function writeContinue(page: Continue): string {
  return Buffer.from(JSON.stringify({ v: "meta.k8s.io/v1", ...page })).toString("base64url");
}

function readContinue(token: string): Continue {
  try {
    const page = JSON.parse(Buffer.from(token, "base64url").toString("utf8")) as Continue & { v: string };
    if (page.v === "meta.k8s.io/v1" && Number.isSafeInteger(page.rv) && typeof page.start === "string") return page;
  } catch {
    // not a token of ours
  }
  throw new StatusError(400, "BadRequest", "continue key is not valid: it was not made by this server");
}
