// Creating and updating: decode and defaults, then what only the server may set, admission, validation, admission again,
// and one commit (apiserver registry/generic/registry.Store and registry/rest.BeforeCreate/BeforeUpdate). Patches and
// subresources end in `writeUpdate` too, so that there is one way into the store.

import { convertTo } from "../../api/conversion.ts";
import type { KubeObject } from "../../api/object.ts";
import { apiVersionOf, type Resource, resourceKey } from "../../api/resource.ts";
import { StatusError } from "../../api/status-error.ts";
import { prepareCreate, prepareUpdate } from "../../api/strategy.ts";
import type { ObjectKey } from "../store.ts";
import { endsBy } from "./delete.ts";
import {
  admission,
  alreadyExists,
  begin,
  conflict,
  type Engine,
  type EngineWriteOptions,
  finish,
  modified,
  notFound,
  type Subresource,
} from "./engine.ts";
import { checkNamespace } from "./lifecycle.ts";
import { presenter } from "./read.ts";
import { decodeValues, manageFields, validateValues } from "./values.ts";

/** How often a generated name that is taken is replaced by another (rest.Create since 1.30). */
const nameAttempts = 8;

export function createObject(
  engine: Engine,
  resource: Resource,
  object: KubeObject,
  options: EngineWriteOptions,
): KubeObject {
  return createDecoded(engine, resource, decodeValues(engine, resource, object, options), options);
}

/** `apply` is set for objects that server-side apply creates: their managed fields are known already. */
export function createDecoded(
  engine: Engine,
  resource: Resource,
  decoded: KubeObject,
  options: EngineWriteOptions,
  apply = false,
): KubeObject {
  const { scheme, clock } = engine;
  const storage = scheme.storageVersion(resource);
  const key = resourceKey(resource);
  const namespace = resource.scope === "Namespaced" ? decoded.metadata?.namespace : undefined;
  if (resource.scope === "Namespaced" && !namespace) {
    throw new StatusError(400, "BadRequest", "an empty namespace may not be set during creation");
  }
  if (decoded.metadata?.resourceVersion) {
    throw new StatusError(500, "Unknown", "resourceVersion should not be set on objects to be created");
  }
  const managed = apply ? decoded : manageFields(engine, resource, undefined, decoded, undefined, options);

  for (let attempt = 1; ; attempt++) {
    const transaction = begin(engine);
    const prepared = prepareCreate(scheme, resource, convertTo(managed, apiVersionOf(storage)), {
      now: clock.now(),
      uid: crypto.randomUUID(),
      namespace,
    });
    const { name } = prepared.metadata;
    if (namespace !== undefined) {
      const namespaces = scheme.byKey("namespaces")!;
      checkNamespace(transaction, namespaces, resource, namespace, name);
    }
    const taken = name ? transaction.get(key, namespace, name) : undefined;
    if (taken && !decoded.metadata.name && attempt < nameAttempts) continue;

    const admit = admission(engine, transaction, options);
    const request = { operation: "create", resource: storage, subresource: undefined, old: undefined } as const;
    // An address is not taken for an object that turns out to be there already.
    const next = taken ? prepared : admit.mutate(request, prepared);
    validateValues(engine, resource, next, undefined, undefined);
    if (taken) throw alreadyExists(resource, name);
    admit.validate(request, next);
    transaction.put(key, next);
    return finish(engine, transaction, { resource, namespace, name }, options.dryRun)!;
  }
}

export function updateObject(
  engine: Engine,
  resource: Resource,
  object: KubeObject,
  options: EngineWriteOptions,
  subresource: Subresource | undefined = options.subresource,
): KubeObject {
  const { namespace, name } = object.metadata;
  const target = { resource, ...(namespace ? { namespace } : {}), name };
  const old = begin(engine).get(resourceKey(resource), target.namespace, name);
  if (!old) throw notFound(resource, name);
  if (!object.metadata.resourceVersion && engine.scheme.entry(resource).custom) {
    const field = "metadata.resourceVersion";
    const why = "Invalid value: 0: must be specified for an update";
    throw new StatusError(
      422,
      "Invalid",
      `${resourceKey(resource)} ${JSON.stringify(name)} is invalid: ${field}: ${why}`,
      {
        name,
        group: resource.group,
        kind: resource.plural,
        causes: [{ reason: "FieldValueInvalid", message: why, field }],
      },
    );
  }
  const decoded = decodeValues(engine, resource, object, options);
  return writeUpdate(engine, target, old, decoded, options, subresource);
}

/** Stores `decoded` in the place of `old`. `apply` as in {@link createDecoded}. */
export function writeUpdate(
  engine: Engine,
  target: ObjectKey,
  old: KubeObject,
  decoded: KubeObject,
  options: EngineWriteOptions,
  subresource: Subresource | undefined,
  apply = false,
): KubeObject {
  const { scheme } = engine;
  const { resource, namespace, name } = target;
  const key = resourceKey(resource);
  const storage = scheme.storageVersion(resource);
  const given = decoded.metadata;
  if (given.uid && given.uid !== old.metadata.uid) {
    const why = `Precondition failed: UID in precondition: ${given.uid}, UID in object meta: ${old.metadata.uid}`;
    throw conflict(resource, name, why);
  }
  if (
    given.resourceVersion &&
    given.resourceVersion !== "0" &&
    given.resourceVersion !== old.metadata.resourceVersion
  ) {
    throw conflict(resource, name, modified);
  }
  const managed = apply
    ? decoded
    : manageFields(engine, resource, presenter(resource)(old), decoded, subresource, options);
  const prepared = prepareUpdate(scheme, resource, convertTo(managed, apiVersionOf(storage)), old, { subresource });

  const transaction = begin(engine);
  const admit = admission(engine, transaction, options);
  const request = { operation: "update", resource: storage, subresource, old } as const;
  const mutated = admit.mutate(request, prepared);
  validateValues(engine, resource, mutated, old, subresource);
  admit.validate(request, mutated);

  if (endsBy(resource, mutated, old)) {
    transaction.remove(key, namespace, name);
    finish(engine, transaction, target, options.dryRun);
    return mutated;
  }
  transaction.put(key, mutated);
  return finish(engine, transaction, target, options.dryRun)!;
}
