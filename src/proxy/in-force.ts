// What is in force, by type and name, and how it is told: as fingerprints to the control process, as JSON to the state file,
// redacted to people. How it comes to be in force is `configuration.ts`.

import type { Steps } from "../base/steps.ts";
import { fingerprinting } from "../model/fingerprint.ts";
import { type ResourceOf, type ResourceType, resourceTypes } from "../model/model.ts";
import { resourcePieces } from "../model/resource-text.ts";
import type { FromProxy, Update } from "../model/wire.ts";

/** Resources by type and name; `endpoints` by the name of their backend. */
export type Tables = { readonly [T in ResourceType]: Map<string, ResourceOf[T]> };

/** What travels and what is kept on disk: everything, by type. Holds private keys in clear. */
export type StoredConfiguration = Required<Update["upsert"]>;

export function emptyTables(): Tables {
  return {
    secrets: new Map(),
    backends: new Map(),
    endpoints: new Map(),
    routeTables: new Map(),
    listeners: new Map(),
  };
}

/** Fingerprints of what is in force, in steps. */
export function* haveOf(tables: Tables): Steps<Extract<FromProxy, { type: "hello" }>["have"]> {
  const have: { [T in ResourceType]?: Record<string, string> } = {};
  for (const type of resourceTypes) {
    const prints: Record<string, string> = {};
    for (const [name, resource] of tables[type]) {
      prints[name] = yield* fingerprinting(type, resource);
      yield;
    }
    have[type] = prints;
  }
  return have;
}

/** What is in force of a type, for people: a list as JSON in pieces, some of them empty. Secrets are redacted. */
export function* shownOf(tables: Tables, type: ResourceType): Generator<string> {
  let before = "[";
  for (const [name, resource] of [...tables[type]]) {
    const print = fingerprinting(type, resource);
    let step = print.next();
    for (; !step.done; step = print.next()) yield "";
    yield `${before}{"name":${JSON.stringify(name)},"fingerprint":${JSON.stringify(step.value)},"resource":`;
    // Of secrets the pieces would be in clear.
    if (type === "secrets") yield JSON.stringify(resource);
    else yield* resourcePieces(type as ResourceType, resource);
    yield "}";
    before = ",";
  }
  yield before === "[" ? "[]" : "]";
}

/** What is in force now as the JSON of a {@link StoredConfiguration}, in pieces. Private keys are in clear. */
export function storedOf(tables: Tables): Generator<string> {
  // The resources never change; which there are may, while the pieces are taken.
  return pieces(resourceTypes.map((type) => [type, [...tables[type].values()]]));
}

function* pieces(all: readonly (readonly [ResourceType, readonly ResourceOf[ResourceType][]])[]): Generator<string> {
  let before = "{";
  for (const [type, resources] of all) {
    yield `${before}"${type}":[`;
    let comma = "";
    for (const resource of resources) {
      yield comma;
      yield* resourcePieces(type, resource);
      comma = ",";
    }
    yield "]";
    before = ",";
  }
  yield "}";
}
