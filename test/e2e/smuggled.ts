// Smuggling cases on their way through a chain of proxies to an origin: each with a number of its own in its paths, and a last request
// behind it that is only answered when all before it was read as we read it.

import type { PeerName } from "./http-peers.ts";
import { converse, field, type ReferenceOrigin, readMessages } from "./http-reference.ts";
import { lenient, noted, type SmugglingCase, smugglingCases } from "./smuggling-cases.ts";

const idOf = (index: number) => `c${String(index).padStart(3, "0")}`;
export const placed = (text: string, index: number) => text.replaceAll("@@@@", idOf(index));
/** Closes the connection from the client's side when all before it was read as we read it. */
export const canary = (index: number) => `GET /${idOf(index)}-canary HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n`;

/**
 * Says every case to a port behind which the origin is, with a peer somewhere between. What is wrong: clients that were not given the
 * answers to what was asked for them, or more asked than we take and `excused` lets pass (a table says why). Throws when the origin
 * could not read.
 */
export async function misunderstood(
  port: number,
  origin: ReferenceOrigin,
  peer: PeerName,
  cases: readonly SmugglingCase[] = smugglingCases,
  excused: (name: string) => boolean = (name) => noted(lenient, peer, name),
): Promise<string[]> {
  const before = origin.seen.length;
  const told: string[][] = [];
  await inParallel([...cases.entries()], 32, async ([index, one]) => {
    const { text } = await converse(port, placed(one.bytes, index) + canary(index), 3_000);
    told[index] = readMessages(text, "response", true).messages.flatMap((answer) => field(answer, "x-origin") ?? []);
  });
  const asked = origin.seen.slice(before);
  const broken = asked.filter((what) => what.startsWith("broken"));
  if (broken.length > 0) throw new Error(broken.join());
  const wrong: string[] = [];
  for (const [index, one] of cases.entries()) {
    const mine = asked.filter((what) => what.includes(idOf(index)));
    if (mine.join() !== told[index]!.join())
      wrong.push(`${one.name}: asked ${mine.join()}, told ${told[index]!.join()}`);
    const took = mine.filter((what) => !what.includes("-canary")).length;
    if (took > one.forwarded && !excused(one.name))
      wrong.push(`${one.name}: it took ${mine.join()}; we take ${one.forwarded}`);
  }
  return wrong;
}

export async function inParallel<T>(all: readonly T[], width: number, work: (one: T) => Promise<void>): Promise<void> {
  const rest = [...all];
  await Promise.all(
    Array.from({ length: width }, async () => {
      for (let one = rest.shift(); one !== undefined; one = rest.shift()) await work(one);
    }),
  );
}
