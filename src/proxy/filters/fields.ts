// Fields of a header block one by one, for filters that must not see several of one name joined (cookies).

import { isTakenFor } from "../../model/field-name.ts";
import { BodyStage } from "../body-stage.ts";
import type { RequestHead } from "../exchange.ts";
import type { FilterExchange } from "../filter.ts";
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

/** Takes away the fields that a backend may take for one of this name (lower case); those of the name itself, too, unless `others`. */
export function disown(headers: HeaderBlock, name: string, others = false): void {
  for (let index = 0; index < headers.count; index++) {
    if (headers.kinds[index] === Kind.dropped || !isTakenFor(headers.name(index), name)) continue;
    if (!others || !headers.named(index, name)) headers.drop(index);
  }
  if (!others) headers.remove(name);
}

/**
 * Sees that what a policy says of the client under these names (lower case) is not said by the client in trailers: some backends
 * put those beside the fields of the head (RFC 9110 §6.5.1 forbids them to).
 */
export function guardTrailers(names: readonly string[], head: RequestHead, exchange: FilterExchange): void {
  if (head.length !== 0) exchange.putRequestStage(new TrailerGuard(names));
}

class TrailerGuard extends BodyStage {
  readonly #names: readonly string[];

  constructor(names: readonly string[]) {
    super();
    this.#names = names;
  }

  override end(trailers?: HeaderBlock): void {
    if (trailers) for (const name of this.#names) disown(trailers, name);
    this.next.end(trailers && trailers.entries().length > 0 ? trailers : undefined);
  }
}

/** Fields that frame a message or belong to one hop: out of reach for whatever users write. */
export const untouchable: ReadonlySet<string> = new Set([...hopByHopNames, "content-length", "host"]);
