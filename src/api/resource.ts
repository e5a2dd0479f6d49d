// A resource: one kind at one version, with its names in URLs and what may be done with it (apimachinery APIResource).
// `scheme.ts` has the table of those that are built in; CustomResourceDefinitions add more at run time.

export type Scope = "Namespaced" | "Cluster";

/** One row of the scheme. */
export interface Resource {
  readonly group: string; // "" is the core group
  readonly version: string;
  readonly kind: string;
  readonly plural: string;
  readonly singular: string;
  readonly scope: Scope;
  readonly shortNames?: readonly string[];
  readonly categories?: readonly string[];
  readonly verbs: readonly string[];
  readonly subresources?: readonly string[]; // "status", "scale", "log", …
}

/** `deployments.apps`, `services`: unique among resources, and independent of the version. */
export type ResourceKey = string;

export function resourceKey(resource: { readonly group: string; readonly plural: string }): ResourceKey {
  return resource.group === "" ? resource.plural : `${resource.plural}.${resource.group}`;
}

/** `v1`, `apps/v1`: the apiVersion field of its objects. */
export function apiVersionOf(resource: { readonly group: string; readonly version: string }): string {
  return resource.group === "" ? resource.version : `${resource.group}/${resource.version}`;
}

export function parseApiVersion(apiVersion: string): { group: string; version: string } {
  const slash = apiVersion.indexOf("/");
  return slash < 0
    ? { group: "", version: apiVersion }
    : { group: apiVersion.slice(0, slash), version: apiVersion.slice(slash + 1) };
}
