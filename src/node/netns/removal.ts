// Taking away what a stack made on the host: by name, so that it works with nothing but the stack's name in hand.

import { existsSync, readdirSync, readlinkSync, rmdirSync, rmSync, statSync } from "node:fs";
import { join } from "node:path";
import { type IpBatch, runBatch } from "./ip.ts";
import { hostLink, netnsEtcFolder, netnsFolder, netnsPath, stackPrefix } from "./names.ts";

/** What is on this machine under a stack's name, or was listed as made. */
export interface Leftovers {
  readonly netns: readonly string[];
  readonly links: readonly string[];
  readonly folders: readonly string[];
}

export function findByName(stack: string): Leftovers {
  const prefix = stackPrefix(stack);
  const named = (folder: string) => entries(folder).filter((name) => name.startsWith(prefix));
  const link = hostLink(stack);
  return {
    netns: named(netnsFolder),
    links: existsSync(join("/sys/class/net", link)) ? [link] : [],
    folders: named(netnsEtcFolder).map((name) => join(netnsEtcFolder, name)),
  };
}

/**
 * Removes links, namespaces and folders, and kills what still runs inside of the namespaces (only this stack's own
 * processes can). Things that are not there are no error. Throws when something is left.
 */
export async function removeLeftovers({ netns, links, folders }: Leftovers): Promise<void> {
  const there = netns.filter((name) => existsSync(netnsPath(name)));
  killInside(there);
  const presentLinks = links.filter((name) => existsSync(join("/sys/class/net", name)));
  const batch: IpBatch = {
    netns: undefined,
    lines: [...presentLinks.map((name) => `link del ${name}`), ...there.map((name) => `netns del ${name}`)],
    force: true,
  };
  if (batch.lines.length > 0) await runBatch(batch);
  for (const folder of folders) rmSync(folder, { recursive: true, force: true });
  if (folders.length > 0) removeIfEmpty(netnsEtcFolder);
  for (const name of there)
    if (existsSync(netnsPath(name))) throw new Error(`the namespace ${name} could not be removed`);
}

/** Ends the processes whose main thread is in one of these namespaces. */
function killInside(names: readonly string[]): void {
  const inodes = new Set<string>();
  for (const name of names) {
    try {
      inodes.add(`net:[${statSync(netnsPath(name)).ino}]`);
    } catch {
      // Gone meanwhile.
    }
  }
  const own = readlinkSync("/proc/self/ns/net");
  inodes.delete(own);
  if (inodes.size === 0) return;
  for (const pid of entries("/proc")) {
    if (!/^[0-9]+$/.test(pid) || Number(pid) === process.pid) continue;
    try {
      if (inodes.has(readlinkSync(`/proc/${pid}/ns/net`))) process.kill(Number(pid), "SIGKILL");
    } catch {
      // Ended meanwhile, or a kernel thread.
    }
  }
}

function removeIfEmpty(folder: string): void {
  try {
    rmdirSync(folder);
  } catch {
    // Not empty: somebody else's files are in it.
  }
}

function entries(folder: string): string[] {
  try {
    return readdirSync(folder);
  } catch {
    return [];
  }
}
