// Short digests of model resources, so that two processes can tell whether they hold the same thing without sending it.

import type { ResourceOf, ResourceType, Secret } from "./model.ts";

/** Equal for equal content. Secrets are represented by their own fingerprint. */
export function fingerprint<T extends ResourceType>(type: T, resource: ResourceOf[T]): string {
  if (type === "secrets") return (resource as Secret).fingerprint;
  return fingerprintOfText(JSON.stringify(resource));
}

/** The fingerprint of a resource (no Secret) whose JSON is at hand. */
export function fingerprintOfText(text: string): string {
  return Bun.hash(text).toString(36);
}
