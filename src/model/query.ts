// Changes of a query string. Parameters that a change does not name stay as they came, byte for byte; names are compared
// decoded, as matches on query parameters do (`value-match.ts`).

import type { HeaderChange } from "./model.ts";
import { decodeForm } from "./value-match.ts";

/** `set` replaces all parameters of a name by one behind the others, `add` puts one more behind, `remove` takes all away. */
export function changeQuery(query: string | undefined, change: HeaderChange): string | undefined {
  const gone = new Set([...change.set.map(({ name }) => name)]);
  const removed = new Set(change.remove);
  let parts = query === undefined ? [] : query.split("&");
  if (gone.size > 0) parts = parts.filter((part) => !gone.has(nameOf(part)));
  for (const { name, value } of [...change.set, ...change.add]) {
    parts.push(`${encodeURIComponent(name)}=${encodeURIComponent(value)}`);
  }
  if (removed.size > 0) parts = parts.filter((part) => !removed.has(nameOf(part)));
  return parts.length === 0 ? undefined : parts.join("&");
}

function nameOf(part: string): string {
  const equals = part.indexOf("=");
  return decodeForm(equals < 0 ? part : part.slice(0, equals));
}
