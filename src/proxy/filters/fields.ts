// Fields of a header block one by one, for filters that must not see several of one name joined (cookies).

import { type HeaderBlock, hopByHopNames, Kind } from "../headers.ts";

/** The values of all fields of a name (lower case), in the order they came. */
export function valuesOf(headers: HeaderBlock, name: string): string[] {
  const values: string[] = [];
  for (let index = 0; index < headers.count; index++) {
    if (headers.kinds[index] !== Kind.dropped && headers.named(index, name)) values.push(headers.value(index));
  }
  const extra = headers.extra ?? [];
  for (let index = 0; index < extra.length; index += 2) if (extra[index] === name) values.push(extra[index + 1]!);
  return values;
}

/** Puts a member behind those of a list field, unless it is there (`vary`). */
export function addToList(headers: HeaderBlock, name: string, member: string): void {
  const before = headers.get(name);
  const members = (before ?? "").split(",").map((one) => one.trim().toLowerCase());
  if (members.includes(member) || members.includes("*")) return;
  headers.set(name, before ? `${before}, ${member}` : member);
}

/** Fields that frame a message or belong to one hop: out of reach for whatever users write. */
export const untouchable: ReadonlySet<string> = new Set([...hopByHopNames, "content-length", "host"]);
