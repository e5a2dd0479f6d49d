// Model resources to what travels in an `update`, and back. Only Secrets differ: their private key is hidden in the model
// (`Redacted`) and in clear on the wire, which is a socket that only its owner can open. Nothing here validates.

import { type ResourceOf, type ResourceType, resourceTypes, type Secret } from "./model.ts";
import { Redacted } from "./redacted.ts";
import type { Ahead, Update, WireResource } from "./wire.ts";

/** A resource as it travels. Never log the result for `secrets`. */
export function toWire<T extends ResourceType>(type: T, resource: ResourceOf[T]): WireResource {
  if (type !== "secrets") return resource as unknown as WireResource;
  const secret = resource as Secret;
  if (secret.content.kind === "users")
    return { ...secret, content: { kind: "users", lines: secret.content.lines.reveal() } };
  if (secret.content.kind !== "certificate") return secret as unknown as WireResource;
  return { ...secret, content: { ...secret.content, privateKey: secret.content.privateKey.reveal() } };
}

/** The resource that {@link toWire} was given. */
export function fromWire<T extends ResourceType>(type: T, wire: WireResource): ResourceOf[T] {
  if (type !== "secrets") return wire as unknown as ResourceOf[T];
  const secret = wire as unknown as { content: { kind: string; privateKey?: string; lines?: string } };
  if (secret.content.kind === "users") {
    const lines = new Redacted(secret.content.lines ?? "");
    return { ...wire, content: { kind: "users", lines } } as unknown as ResourceOf[T];
  }
  if (secret.content.kind !== "certificate") return wire as unknown as ResourceOf[T];
  const content = { ...secret.content, privateKey: new Redacted(secret.content.privateKey ?? "") };
  return { ...wire, content } as unknown as ResourceOf[T];
}

/** The update with what was sent ahead of it in its place. */
export function joinedUpdate(ahead: readonly Ahead[], update: Update): Update {
  if (ahead.length === 0) return update;
  const parts = [...ahead, update];
  const upsert = resourceTypes.map((type) => [type, parts.flatMap((part) => part.upsert?.[type] ?? [])]);
  return { ...update, upsert: Object.fromEntries(upsert), rules: parts.flatMap(({ rules }) => rules ?? []) };
}
