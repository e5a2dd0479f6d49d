// Parts of table cells that many kinds print the same way.

import { ageOf } from "./duration.ts";
import type { KubeObject } from "./object.ts";
import type { Cell } from "./table.ts";

/** The cells of an object, in the order of its columns. `now` in milliseconds. */
export type Printer = (object: KubeObject, now: number) => readonly Cell[];

export const none = "<none>";
export const name = (object: KubeObject) => object.metadata.name;
export const age = (object: KubeObject, now: number) => ageOf(object.metadata.creationTimestamp, now);

export function labels(map: Readonly<Record<string, string>> | undefined): string {
  const pairs = Object.entries(map ?? {}).sort(([a], [b]) => (a < b ? -1 : 1));
  return pairs.length === 0 ? none : pairs.map(([key, value]) => `${key}=${value}`).join(",");
}

interface Named {
  readonly name?: string;
  readonly image?: string;
}

/** `containers` and `images` of a pod template. */
export function containers(
  template: { readonly spec?: { readonly containers?: readonly Named[] } } | undefined,
): [string, string] {
  const list = template?.spec?.containers ?? [];
  return [list.map((one) => one.name ?? "").join(","), list.map((one) => one.image ?? "").join(",")];
}

export interface ConditionLike {
  readonly type: string;
  readonly status: string;
}
