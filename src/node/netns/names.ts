// The names of what the namespace network makes on the host. Everything starts with `fl-<stack>.`; no stack name has a dot,
// so that one stack's prefix never matches another's. Link names are at most 15 characters (IFNAMSIZ).

import { createHash } from "node:crypto";
import { join } from "node:path";

export const netnsFolder = "/run/netns";
/** `ip netns exec` lays the files of `/etc/netns/<name>/` over `/etc` (ip-netns(8)). */
export const netnsEtcFolder = "/etc/netns";

export function stackPrefix(stack: string): string {
  return `fl-${stack}.`;
}

export function fabricNetns(stack: string): string {
  return `${stackPrefix(stack)}fabric`;
}

export function nodeNetns(stack: string, node: string): string {
  return `${stackPrefix(stack)}n-${node}`;
}

/** Readable and unique: the pod's name, and enough of its uid that a pod of the same name made later differs. */
export function podNetns(stack: string, pod: { readonly uid: string; readonly name: string }): string {
  return `${stackPrefix(stack)}p-${pod.name.slice(0, 120)}-${shortHash(pod.uid, 8)}`;
}

export function isPodNetns(stack: string, name: string): boolean {
  return name.startsWith(`${stackPrefix(stack)}p-`);
}

export function netnsPath(name: string): string {
  return join(netnsFolder, name);
}

/** The host's end of the link to node 1, the only link in the host's own namespace. */
export function hostLink(stack: string): string {
  const name = `${stackPrefix(stack)}h`;
  return name.length <= 15 ? name : `fl-${shortHash(stack, 8)}.h`;
}

/** The node's end of a pod's link; it lives in the node's namespace. */
export function podLink(uid: string): string {
  return `pod${shortHash(uid, 10)}`;
}

/** The fabric's end of a node's link. */
export function fabricLink(node: string): string {
  return `n${shortHash(node, 10)}`;
}

function shortHash(text: string, length: number): string {
  return createHash("sha256").update(text).digest("hex").slice(0, length);
}
