// Applying manifests to a stack: everything is checked before anything is written, then written in an order that works
// (server-side apply, so that a second time changes nothing). Shared by `apply` and `up`.

import type { KubeObject } from "../api/object.ts";
import type { Resource } from "../api/resource.ts";
import { isStatusReason, StatusError } from "../api/status-error.ts";
import { type Cidr, contains, parseCidr } from "../base/cidr.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { lineOf, type Manifest, orderForApply } from "../cluster/manifests.ts";
import { apiPath, isNotFound, type StackClient, typeName } from "./api-client.ts";
import { claimedTwice } from "./service-claims.ts";

export interface Applied {
  readonly manifest: Manifest;
  /** As the server has it now. */
  readonly object: KubeObject;
  readonly resource: Resource;
  readonly what: "created" | "configured" | "unchanged";
  readonly warnings: readonly string[];
}

const fieldManager = "fairlead";
/** Problems that one error lists. */
const maxProblems = 10;

/**
 * Applies all manifests, or, when the server would refuse one of them, none. Throws a UserError that lists what is wrong with
 * file and line. Objects without a namespace go to `namespace`.
 */
export async function applyManifests(
  client: StackClient,
  manifests: readonly Manifest[],
  namespace: string,
): Promise<readonly Applied[]> {
  const ordered = orderForApply(manifests);
  await checkManifests(client, ordered, namespace);
  const applied: Applied[] = [];
  for (const manifest of ordered) {
    const resource = await resourceOrFail(client, manifest);
    try {
      applied.push(await applyOne(client, manifest, resource, namespace));
    } catch (error) {
      throw located(
        manifest,
        error,
        applied.length > 0 ? `${applied.length} objects before it were applied.` : undefined,
      );
    }
  }
  return applied;
}

/** `service/cart`, `gateway.gateway.networking.k8s.io/web`: how kubectl names what it wrote. */
export function appliedName({ resource, object }: Pick<Applied, "resource" | "object">): string {
  return `${typeName(resource)}/${object.metadata.name}`;
}

async function applyOne(
  client: StackClient,
  manifest: Manifest,
  resource: Resource,
  namespace: string,
): Promise<Applied> {
  const path = objectPath(manifest.object, resource, namespace);
  const before = await versionOf(client, path);
  const query = `?fieldManager=${fieldManager}&force=true&fieldValidation=Strict`;
  const { code, body, warnings } = await client.call("PATCH", path + query, {
    body: manifest.object,
    type: "application/apply-patch+yaml",
  });
  const object = body as unknown as KubeObject;
  const same = before !== undefined && before === object.metadata.resourceVersion;
  return { manifest, object, resource, what: code === 201 ? "created" : same ? "unchanged" : "configured", warnings };
}

async function versionOf(client: StackClient, path: string): Promise<string | undefined> {
  try {
    const { body } = await client.call("GET", path);
    return (body as unknown as KubeObject).metadata.resourceVersion;
  } catch (error) {
    if (isNotFound(error)) return undefined;
    throw error;
  }
}

/** Asks the server, by dry run, about every object; what lives in a namespace that these files make is asked about in one that is there. */
async function checkManifests(client: StackClient, manifests: readonly Manifest[], namespace: string): Promise<void> {
  const problems: string[] = [];
  const madeHere = new Set(
    manifests.filter(({ object }) => object.kind === "Namespace").map(({ object }) => object.metadata.name),
  );
  const kindsMadeHere = new Set(
    manifests
      .filter(({ object }) => object.kind === "CustomResourceDefinition")
      .map(({ object }) => `${object.spec?.group}/${object.spec?.names?.kind}`),
  );
  const rangesMadeHere = manifests
    .filter(({ object }) => object.kind === "ServiceCIDR")
    .flatMap(({ object }) => ((object.spec?.cidrs ?? []) as readonly unknown[]).map((text) => parseCidr(String(text))))
    .filter((cidr) => cidr !== undefined);
  for (const manifest of manifests) {
    const { object } = manifest;
    if (kindsMadeHere.has(`${object.apiVersion.split("/")[0]}/${object.kind}`)) continue;
    try {
      const resource = await resourceOrFail(client, manifest);
      const home = object.metadata.namespace ?? namespace;
      const missing = resource.scope === "Namespaced" && madeHere.has(home) && !(await exists(client, home));
      const there = missing ? undefined : home;
      try {
        await dryRun(client, object, resource, there);
      } catch (error) {
        const anywhere = withoutAddresses(object, rangesMadeHere);
        if (!anywhere || !messageOf(error).includes("does not match the current range")) throw error;
        await dryRun(client, anywhere, resource, there);
      }
    } catch (error) {
      problems.push(located(manifest, error).message);
    }
  }
  for (const { manifest, problem } of claimedTwice(manifests, namespace))
    problems.push(located(manifest, new Error(problem)).message);
  if (problems.length === 0) return;
  const more = problems.length > maxProblems ? [`… and ${problems.length - maxProblems} more`] : [];
  throw new UserError([...problems.slice(0, maxProblems), ...more].join("\n"), {
    remedy: problems.some((problem) => /namespaces "[^"]*" not found/.test(problem))
      ? "Nothing was applied. Add the namespaces to the files, or let them be made up: fairlead up --fill"
      : "Nothing was applied.",
  });
}

/**
 * A Service that wants addresses of ranges that the same files make, as it is without its wish: until the ranges are there the
 * server cannot say more of it. Undefined when it wants others, too.
 */
function withoutAddresses(object: KubeObject, ranges: readonly Cidr[]): KubeObject | undefined {
  if (object.kind !== "Service" || object.apiVersion !== "v1") return undefined;
  const { clusterIP, clusterIPs, ...spec } = (object.spec ?? {}) as Record<string, unknown>;
  const wanted = [clusterIP, ...((clusterIPs as readonly unknown[] | undefined) ?? [])].filter(
    (one) => one !== undefined,
  );
  const inside = (one: unknown) => ranges.some((range) => typeof one === "string" && contains(range, one));
  return wanted.length > 0 && wanted.every(inside) ? { ...object, spec } : undefined;
}

const knownNamespaces = new Map<string, Promise<boolean>>();

function exists(client: StackClient, namespace: string): Promise<boolean> {
  let known = knownNamespaces.get(namespace);
  if (!known) {
    known = versionOf(client, `/api/v1/namespaces/${encodeURIComponent(namespace)}`).then(
      (version) => version !== undefined,
    );
    knownNamespaces.set(namespace, known);
  }
  return known;
}

/** A namespace of `undefined` is one that will be there: a create of another name in `default` stands in for the apply. */
async function dryRun(
  client: StackClient,
  object: KubeObject,
  resource: Resource,
  namespace: string | undefined,
): Promise<void> {
  if (namespace !== undefined) {
    const query = `?dryRun=All&fieldManager=${fieldManager}&force=true&fieldValidation=Strict`;
    await client.call("PATCH", objectPath(object, resource, namespace) + query, {
      body: object,
      type: "application/apply-patch+yaml",
    });
    return;
  }
  const { name, ...metadata } = object.metadata;
  const body = { ...object, metadata: { ...metadata, namespace: "default", name } };
  try {
    await client.call("POST", `${apiPath(resource, "default")}?dryRun=All&fieldValidation=Strict`, { body });
  } catch (error) {
    if (!isStatusReason(error, "AlreadyExists")) throw error;
  }
}

function objectPath(object: KubeObject, resource: Resource, namespace: string): string {
  return apiPath(
    resource,
    resource.scope === "Namespaced" ? (object.metadata.namespace ?? namespace) : undefined,
    object.metadata.name,
  );
}

async function resourceOrFail(client: StackClient, { object }: Manifest): Promise<Resource> {
  const resource = await client.resourceOf(object);
  if (resource) return resource;
  const sameKind = (await client.resources()).find(({ kind }) => kind === object.kind);
  const known = sameKind && `${sameKind.group ? `${sameKind.group}/` : ""}${sameKind.version}`;
  throw new UserError(
    `no kind ${object.kind} in ${object.apiVersion} is served${known ? ` (${object.kind} is served in ${known})` : ""}`,
  );
}

/** `shop.yaml:14: Service shop/cart: …`, at the line of the field that the message names. */
function located({ object, source }: Manifest, error: unknown, remedy?: string): UserError {
  const message = messageOf(error);
  const field = /\b(?:spec|metadata|data|status|stringData)(?:\.[\w$-]+|\[[^\]]*\])+/.exec(message)?.[0] ?? "";
  const name = object.metadata.namespace
    ? `${object.metadata.namespace}/${object.metadata.name}`
    : object.metadata.name;
  const told = message.includes(object.metadata.name) ? message : `${object.kind} ${name}: ${message}`;
  const hints = error instanceof StatusError ? error.hints.map((hint) => `\n  ${hint}`).join("") : "";
  return new UserError(`${source.file}:${lineOf(source, field)}: ${told}${hints}`, remedy ? { remedy } : {});
}
