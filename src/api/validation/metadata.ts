// Rules of metadata (apimachinery api/validation/objectmeta.go): names, labels, annotations, finalizers, owners, and what may
// not change.

import { equal, isRecord } from "../data.ts";
import type { KubeObject, ObjectMeta, OwnerReference } from "../object.ts";
import { type Resource, resourceKey } from "../resource.ts";
import { child, type FieldError, forbidden, invalidValue, required } from "./field-error.ts";
import {
  dnsLabelProblems,
  dnsSubdomainProblems,
  labelNameProblems,
  labelValueProblems,
  type NameCheck,
  pathSegmentProblems,
} from "./names.ts";

const totalAnnotationLimit = 256 * 1024;

const nameChecks: Readonly<Record<string, NameCheck>> = {
  namespaces: dnsLabelProblems,
  services: dnsLabelProblems,
  "statefulsets.apps": dnsLabelProblems,
  "roles.rbac.authorization.k8s.io": pathSegmentProblems,
  "clusterroles.rbac.authorization.k8s.io": pathSegmentProblems,
  "rolebindings.rbac.authorization.k8s.io": pathSegmentProblems,
  "clusterrolebindings.rbac.authorization.k8s.io": pathSegmentProblems,
  "ipaddresses.networking.k8s.io": () => [],
  "certificatesigningrequests.certificates.k8s.io": dnsSubdomainProblems,
};

/** How objects of a resource may be named. */
export function nameCheckOf(resource: Resource): NameCheck {
  return nameChecks[resourceKey(resource)] ?? dnsSubdomainProblems;
}

export function validateLabels(labels: unknown, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!isRecord(labels)) return errors;
  for (const [key, value] of Object.entries(labels).sort(([a], [b]) => (a < b ? -1 : 1))) {
    for (const problem of labelNameProblems(key)) errors.push(invalidValue(path, key, problem));
    for (const problem of labelValueProblems(String(value))) errors.push(invalidValue(path, value, problem));
  }
  return errors;
}

export function validateAnnotations(annotations: unknown, path: string): FieldError[] {
  const errors: FieldError[] = [];
  if (!isRecord(annotations)) return errors;
  let size = 0;
  for (const [key, value] of Object.entries(annotations)) {
    // Keys are compared in lower case: upper-case keys are an old mistake that stays allowed.
    for (const problem of labelNameProblems(key.toLowerCase())) errors.push(invalidValue(path, key, problem));
    size += key.length + String(value).length;
  }
  if (size > totalAnnotationLimit) {
    errors.push({
      type: "FieldValueTooLong",
      field: path,
      message: `Too long: may not be more than ${totalAnnotationLimit} bytes`,
    });
  }
  return errors;
}

/** Metadata of an object about to be created. */
export function validateMetadata(resource: Resource, object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const path = "metadata";
  const meta: Partial<ObjectMeta> = object.metadata ?? {};
  const check = nameCheckOf(resource);
  if (meta.generateName) {
    const base = meta.generateName.replace(/-$/, "a");
    for (const problem of check(base)) errors.push(invalidValue("metadata.generateName", meta.generateName, problem));
  }
  if (!meta.name) errors.push(required(child(path, "name"), "name or generateName is required"));
  else for (const problem of check(meta.name)) errors.push(invalidValue(child(path, "name"), meta.name, problem));
  if (resource.scope === "Namespaced") {
    if (!meta.namespace) errors.push(required(child(path, "namespace")));
    else
      for (const problem of dnsLabelProblems(meta.namespace))
        errors.push(invalidValue(child(path, "namespace"), meta.namespace, problem));
  } else if (meta.namespace) errors.push(forbidden(child(path, "namespace"), "not allowed on this type"));
  return [...errors, ...validateCommon(meta)];
}

function validateCommon(meta: Partial<ObjectMeta>): FieldError[] {
  return [
    ...validateLabels(meta.labels, "metadata.labels"),
    ...validateAnnotations(meta.annotations, "metadata.annotations"),
    ...validateOwners(meta.ownerReferences ?? []),
    ...validateFinalizers(meta.finalizers ?? []),
  ];
}

function validateFinalizers(finalizers: readonly string[]): FieldError[] {
  const path = "metadata.finalizers";
  const errors: FieldError[] = [];
  for (const name of finalizers) {
    for (const problem of labelNameProblems(name)) errors.push(invalidValue(path, name, problem));
    if (!name.includes("/") && !["kubernetes", "orphan", "foregroundDeletion"].includes(name)) {
      errors.push(invalidValue(path, name, "name is neither a standard finalizer name nor is it fully qualified"));
    }
  }
  if (finalizers.includes("orphan") && finalizers.includes("foregroundDeletion")) {
    errors.push(invalidValue(path, finalizers, "finalizer orphan and foregroundDeletion cannot be both set"));
  }
  return errors;
}

function validateOwners(owners: readonly OwnerReference[]): FieldError[] {
  const path = "metadata.ownerReferences";
  const errors: FieldError[] = [];
  let controller: string | undefined;
  for (const owner of owners) {
    if (!owner.apiVersion)
      errors.push(invalidValue(child(path, "apiVersion"), owner.apiVersion ?? "", "version must not be empty"));
    if (!owner.kind) errors.push(invalidValue(child(path, "kind"), "", "must not be empty"));
    if (!owner.name) errors.push(invalidValue(child(path, "name"), "", "must not be empty"));
    if (!owner.uid) errors.push(invalidValue(child(path, "uid"), "", "must not be empty"));
    if (owner.controller) {
      if (controller !== undefined) {
        errors.push(
          invalidValue(
            path,
            owners,
            `Only one reference can have Controller set to true. Found "true" in references for ${controller} and ${owner.name}`,
          ),
        );
      }
      controller = owner.name;
    }
  }
  return errors;
}

const immutable = "field is immutable";

/** Metadata of an update. Fields that the strategy restores are not asked about again. */
export function validateMetadataUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const [now, was] = [object.metadata, old.metadata];
  for (const field of ["name", "namespace", "uid", "creationTimestamp"] as const) {
    if (was[field] !== undefined && now[field] !== was[field]) {
      errors.push(invalidValue(`metadata.${field}`, now[field], immutable));
    }
  }
  if (was.deletionTimestamp !== undefined) {
    const added = (now.finalizers ?? []).filter((one) => !(was.finalizers ?? []).includes(one));
    if (added.length > 0) {
      errors.push(
        forbidden(
          "metadata.finalizers",
          `no new finalizers can be added if the object is being deleted, found new finalizers ${goStrings(added)}`,
        ),
      );
    }
  }
  if ((now.generation ?? 0) < (was.generation ?? 0)) {
    errors.push(invalidValue("metadata.generation", now.generation ?? 0, "must not be decremented"));
  }
  return [...errors, ...validateCommon(now)];
}

const goStrings = (texts: readonly string[]) => `[]string{${texts.map((one) => JSON.stringify(one)).join(", ")}}`;

/** `Invalid value: …: field is immutable` when a field has changed. */
export function immutableField(path: string, now: unknown, was: unknown): FieldError[] {
  return equal(now ?? null, was ?? null) ? [] : [invalidValue(path, now ?? null, immutable)];
}
