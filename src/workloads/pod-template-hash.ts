// The value of the `pod-template-hash` label: a stable name for a pod template. Upstream hashes Go's memory dump of it, which
// nobody else can repeat; any stable hash serves, in the alphabet that generated names use (apimachinery rand.SafeEncodeString).

import { sortedKeys } from "../api/data.ts";
import type { PodTemplateSpec } from "../api/kinds.ts";

export const podTemplateHashLabel = "pod-template-hash";

const alphabet = "bcdfghjklmnpqrstvwxz2456789";

/** `collisions` is mixed in, so that two templates with one hash can be told apart. */
export function podTemplateHash(template: unknown, collisions = 0): string {
  const text = `${JSON.stringify(sortedKeys(template))}${collisions === 0 ? "" : `#${collisions}`}`;
  let hash = 0x811c9dc5; // FNV-1a, 32 bits
  for (const byte of new TextEncoder().encode(text)) hash = Math.imul(hash ^ byte, 0x01000193) >>> 0;
  return [...String(hash)].map((digit) => alphabet[digit.charCodeAt(0) % alphabet.length]).join("");
}

/** The template without the label, which is how templates of a Deployment and of its ReplicaSets are compared. */
export function withoutHash(template: PodTemplateSpec | undefined): PodTemplateSpec | undefined {
  if (!template?.metadata?.labels?.[podTemplateHashLabel]) return template;
  const { [podTemplateHashLabel]: _hash, ...labels } = template.metadata.labels;
  return { ...template, metadata: { ...template.metadata, labels } } as PodTemplateSpec;
}
