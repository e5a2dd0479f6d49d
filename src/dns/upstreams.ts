// Which servers names of others are asked of: addresses as they are written, and the host's own resolvers as its
// /etc/resolv.conf names them (resolv.conf(5)), read again when it changes, as it does on a laptop that moves.

import { readFileSync, statSync } from "node:fs";
import { UserError } from "../base/errors.ts";
import { addressWithPort, canonicalAddress, ipFamily } from "../base/ip.ts";

export interface Upstream {
  readonly address: string;
  readonly port: number;
}

/** `1.1.1.1`, `1.1.1.1:53`, `2606:4700::1111`, `[2606:4700::1111]:53`. Throws a UserError. */
export function parseUpstream(text: string): Upstream {
  const match =
    /^\[([^\]]+)\](?::([0-9]+))?$/.exec(text) ?? (ipFamily(text) ? undefined : /^([^:]+):([0-9]+)$/.exec(text));
  const address = match?.[1] ?? text;
  const port = match?.[2] === undefined ? 53 : Number(match[2]);
  if (ipFamily(address) === undefined || port < 1 || port > 65_535) {
    throw new UserError(`DNS server ${text}: not an address`, {
      remedy: "write an IP address, with :port if it is not 53",
    });
  }
  return { address, port };
}

/** As it is written: `1.1.1.1:53`, `[2606:4700::1111]:53`. */
export function formatUpstream({ address, port }: Upstream): string {
  return addressWithPort(address, port);
}

/** The `nameserver` lines of a resolv.conf; at most three count, as in the C library. Lines that are no address are left out. */
export function nameserversOf(resolvConf: string): readonly Upstream[] {
  return resolvConf
    .split("\n")
    .flatMap((line) => /^\s*nameserver\s+(\S+)/.exec(line)?.[1] ?? [])
    .filter((address) => ipFamily(address) !== undefined)
    .slice(0, 3)
    .map((address) => ({ address, port: 53 }));
}

/** Milliseconds between looks at the file. */
const lookEvery = 2000;

/**
 * The host's resolvers now. `except` are addresses at which we answer ourselves: asking there would go round in circles.
 * A file that cannot be read is one without servers.
 */
export function hostResolvers(
  except: readonly string[],
  options: { readonly path?: string; readonly now?: () => number } = {},
): () => readonly Upstream[] {
  const { path = "/etc/resolv.conf", now = Date.now } = options;
  const own = new Set(except.map(canonicalAddress));
  let looked = Number.NEGATIVE_INFINITY;
  let stamp = "";
  let servers: readonly Upstream[] = [];
  return () => {
    if (now() - looked < lookEvery) return servers;
    looked = now();
    try {
      const { mtimeMs, ino, size } = statSync(path);
      const next = `${mtimeMs} ${ino} ${size}`;
      if (next === stamp) return servers;
      servers = nameserversOf(readFileSync(path, "utf8")).filter((one) => !own.has(canonicalAddress(one.address)));
      stamp = next;
    } catch {
      servers = [];
      stamp = "";
    }
    return servers;
  };
}
