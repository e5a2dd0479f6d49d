// What a header filter does to a list of fields: set, add, remove, in that order. The proxy works on its own representation;
// this is the meaning that it must have.

import { lowerAscii } from "./ascii.ts";
import type { HeaderChange } from "./model.ts";

type Fields = readonly (readonly [string, string])[];

/** `set` replaces all fields of a name by one, `add` puts one more behind, `remove` takes all of a name away. */
export function changeHeaders(headers: Fields, change: HeaderChange): Fields {
  let fields = [...headers];
  for (const { name, value } of change.set) {
    fields = fields.filter(([field]) => lowerAscii(field) !== name);
    fields.push([name, value]);
  }
  for (const { name, value } of change.add) fields.push([name, value]);
  const removed = new Set(change.remove);
  return fields.filter(([field]) => !removed.has(lowerAscii(field)));
}
