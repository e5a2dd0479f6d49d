// What every write of the SQLite engine needs, and the steps that all of them share: a transaction, the admissions around
// validation, the commit.

import { type KubeObject, nameOf } from "../../api/object.ts";
import type { ResourceKey } from "../../api/resource.ts";
import { type Resource, resourceKey } from "../../api/resource.ts";
import type { Scheme } from "../../api/scheme.ts";
import { StatusError } from "../../api/status-error.ts";
import { formatTime } from "../../api/strategy.ts";
import type { FieldError } from "../../api/validation/field-error.ts";
import type { Clock } from "../../base/clock.ts";
import type { Logger } from "../../base/log.ts";
import type { Admission, AdmissionRequest } from "../admission.ts";
import type { ObjectKey, WriteOptions } from "../store.ts";
import type { Change } from "./history.ts";
import type { Objects } from "./objects.ts";
import { Transaction } from "./transaction.ts";

export interface Engine {
  readonly scheme: Scheme;
  readonly objects: Objects;
  readonly clock: Clock;
  readonly admissions: readonly Admission[];
  readonly log: Logger;
  /** Errors that this store lets pass; see `SqliteStoreOptions.tolerates`. */
  readonly tolerates: (resource: ResourceKey, error: FieldError) => boolean;
  /** Called after every commit, inside the writer's call. */
  readonly committed: (changes: readonly Change[]) => void;
}

/** Which part of an object a write is about; `binding`, `finalize` and `eviction` are made by the engine itself. */
export type Subresource =
  | NonNullable<WriteOptions["subresource"]>
  | "finalize"
  | "binding"
  | "ephemeralcontainers"
  | "resize";

/** Options that only this engine has, for its HTTP front. */
export interface EngineWriteOptions extends Omit<WriteOptions, "subresource"> {
  readonly subresource?: Subresource;
  /** Fields that the body had twice; see `parseJson`. */
  readonly duplicates?: () => readonly string[];
}

export function begin(engine: Engine): Transaction {
  return new Transaction(engine.objects, {
    uid: () => crypto.randomUUID(),
    time: () => formatTime(engine.clock.now()),
  });
}

/** Commits unless this is a dry run. Returns the object as it is stored now, or undefined when it is not stored. */
export function finish(
  engine: Engine,
  transaction: Transaction,
  written: ObjectKey,
  dryRun: boolean | undefined,
): KubeObject | undefined {
  const key = resourceKey(written.resource);
  if (dryRun) return transaction.get(key, written.namespace, written.name);
  const changes = engine.objects.commit(transaction.changes());
  const own = changes.find(
    ({ resource, object: { metadata } }) =>
      resource === key && metadata.name === written.name && metadata.namespace === written.namespace,
  );
  if (changes.length > 0) engine.committed(changes);
  if (own) return own.type === "DELETED" ? undefined : own.object;
  return engine.objects.of(key).get(nameOf(written.namespace, written.name)); // nothing changed
}

type Admitted = Omit<AdmissionRequest, "object" | "view" | "warn" | "dryRun">;

/** Both halves of admission for one write, bound to its transaction. */
export function admission(
  engine: Engine,
  transaction: Transaction,
  options: Pick<WriteOptions, "dryRun" | "onWarning">,
) {
  const shared = {
    view: transaction,
    dryRun: options.dryRun ?? false,
    warn: (text: string) => options.onWarning?.(text),
  };
  const interested = (resource: Resource) =>
    engine.admissions.filter((one) => !one.resources || one.resources.includes(resourceKey(resource)));
  return {
    mutate(request: Admitted, object: KubeObject): KubeObject {
      let next = object;
      for (const one of interested(request.resource)) {
        next = one.mutate?.({ ...request, ...shared, object: next }) ?? next;
      }
      return next;
    },
    validate(request: Admitted, object: KubeObject | undefined): void {
      for (const one of interested(request.resource)) one.validate?.({ ...request, ...shared, object });
    },
  };
}

/** `services "cart" not found`, with details as apimachinery's NewNotFound. */
export function notFound(resource: Resource, name: string): StatusError {
  return new StatusError(
    404,
    "NotFound",
    `${resourceKey(resource)} ${JSON.stringify(name)} not found`,
    details(resource, name),
  );
}

export function alreadyExists(resource: Resource, name: string): StatusError {
  const message = `${resourceKey(resource)} ${JSON.stringify(name)} already exists`;
  return new StatusError(409, "AlreadyExists", message, details(resource, name));
}

export function conflict(resource: Resource, name: string, why: string): StatusError {
  const message = `Operation cannot be fulfilled on ${resourceKey(resource)} ${JSON.stringify(name)}: ${why}`;
  return new StatusError(409, "Conflict", message, details(resource, name));
}

export const modified = "the object has been modified; please apply your changes to the latest version and try again";

export function forbidden(resource: Resource, name: string, why: string): StatusError {
  const message = `${resourceKey(resource)} ${JSON.stringify(name)} is forbidden: ${why}`;
  return new StatusError(403, "Forbidden", message, details(resource, name));
}

function details(resource: Resource, name: string) {
  return { name, ...(resource.group === "" ? {} : { group: resource.group }), kind: resource.plural };
}
