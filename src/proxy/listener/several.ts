// Several sockets at one place, which accept as one.

import type { Accepting } from "./plain.ts";

/** Calls `open`, which makes a socket before it returns, so many times. Rejects with the error of one; then none is left open. */
export async function listenSeveral(count: number, open: () => Accepting | Promise<Accepting>): Promise<Accepting> {
  const made: Promise<Accepting>[] = [];
  for (let index = 0; index < count; index++) made.push(new Promise((resolve) => resolve(open())));
  const done = await Promise.allSettled(made);
  const accepting = done.flatMap((one) => (one.status === "fulfilled" ? [one.value] : []));
  const close = () => {
    for (const one of accepting) one.close();
  };
  const failed = done.find((one) => one.status === "rejected");
  if (!failed) return { close };
  close();
  throw failed.reason;
}
