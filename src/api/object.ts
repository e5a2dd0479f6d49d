// The shape that every Kubernetes object shares (apimachinery meta/v1 TypeMeta and ObjectMeta), and how objects are named.
// Objects are plain, frozen data, exactly as users write them; kinds narrow `spec` and `status` (see `kinds/`).

export interface OwnerReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly name: string;
  readonly uid: string;
  readonly controller?: boolean;
  readonly blockOwnerDeletion?: boolean;
}

export interface ManagedFieldsEntry {
  readonly manager?: string;
  readonly operation?: "Apply" | "Update";
  readonly apiVersion?: string;
  readonly time?: string;
  readonly fieldsType?: "FieldsV1";
  readonly fieldsV1?: Readonly<Record<string, unknown>>;
  readonly subresource?: string;
}

export interface ObjectMeta {
  readonly name: string;
  readonly namespace?: string;
  readonly generateName?: string;
  readonly uid?: string;
  readonly resourceVersion?: string;
  readonly generation?: number;
  readonly creationTimestamp?: string;
  readonly deletionTimestamp?: string;
  readonly deletionGracePeriodSeconds?: number;
  readonly labels?: Readonly<Record<string, string>>;
  readonly annotations?: Readonly<Record<string, string>>;
  readonly finalizers?: readonly string[];
  readonly ownerReferences?: readonly OwnerReference[];
  readonly managedFields?: readonly ManagedFieldsEntry[];
}

/** Any Kubernetes object. Kinds give `Spec` and `Status`; other top-level fields (`data`, `rules`, …) are read by name. */
// biome-ignore-start lint/suspicious/noExplicitAny: a kind that is not narrowed is read field by field
export interface KubeObject<Spec = any, Status = any> {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: ObjectMeta;
  readonly spec?: Spec;
  readonly status?: Status;
  readonly [field: string]: any;
}
// biome-ignore-end lint/suspicious/noExplicitAny: see above

/** `namespace/name`, or `name` alone for what lives outside of namespaces: the key of an object among those of its kind. */
export type ObjectName = string;

export function objectName(object: {
  readonly metadata: { readonly namespace?: string; readonly name: string };
}): ObjectName {
  return nameOf(object.metadata.namespace, object.metadata.name);
}

export function nameOf(namespace: string | undefined, name: string): ObjectName {
  return namespace ? `${namespace}/${name}` : name;
}

/** The two halves of an {@link ObjectName}. */
export function splitName(key: ObjectName): { namespace: string | undefined; name: string } {
  const slash = key.indexOf("/");
  return slash < 0
    ? { namespace: undefined, name: key }
    : { namespace: key.slice(0, slash), name: key.slice(slash + 1) };
}

/** `HTTPRoute shop/orders`: how messages name an object. */
export function describeObject(object: {
  readonly kind: string;
  readonly metadata: { readonly namespace?: string; readonly name: string };
}): string {
  return `${object.kind} ${objectName(object)}`;
}
