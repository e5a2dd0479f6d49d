// Volumes that are claims: the folder of this machine that the claim's PersistentVolume is. A pod's own folder gets a link to it, so that
// it is mounted like any other volume and outlives the pod.

import { lstatSync, mkdirSync, readlinkSync, rmSync, symlinkSync } from "node:fs";
import { dirname, join } from "node:path";
import { PersistentVolumeClaims, PersistentVolumes, type Pod } from "../api/kinds.ts";
import type { Store } from "../store/store.ts";
import { MissingSource } from "./pod-sources.ts";

/** Milliseconds until a claim that is not bound is looked at again. */
export const claimRetry = 1_000;

export function hasClaims(pod: Pod): boolean {
  return (pod.spec?.volumes ?? []).some(({ persistentVolumeClaim }) => persistentVolumeClaim !== undefined);
}

/** Links the pod's claims into `podDir`. Throws in the kubelet's words when one cannot be used. */
export async function linkClaims(store: Store, pod: Pod, podDir: string): Promise<void> {
  for (const { name, persistentVolumeClaim } of pod.spec?.volumes ?? []) {
    if (!persistentVolumeClaim) continue;
    const folder = await claimFolder(store, pod, persistentVolumeClaim.claimName);
    mkdirSync(folder, { recursive: true, mode: 0o777 });
    link(folder, join(podDir, "volumes", name));
  }
}

async function claimFolder(store: Store, pod: Pod, claimName: string): Promise<string> {
  const { namespace = "default" } = pod.metadata;
  const claim = await store.get({ resource: PersistentVolumeClaims, namespace, name: claimName });
  if (!claim) throw new MissingSource(`persistentvolumeclaim "${claimName}" not found`);
  const name: unknown = claim.spec?.volumeName;
  if (typeof name !== "string" || name === "") throw new MissingSource(`PVC ${namespace}/${claimName} is not bound`);
  const volume = await store.get({ resource: PersistentVolumes, name });
  const path: unknown = volume?.spec?.hostPath?.path ?? volume?.spec?.local?.path;
  if (typeof path === "string" && path.startsWith("/")) return path;
  if (!volume) throw new MissingSource(`persistentvolume "${name}" not found`);
  throw new MissingSource(
    `persistentvolume "${name}" is no folder of this machine (only hostPath and local are known here)`,
  );
}

function link(target: string, path: string): void {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  const there = lstatSync(path, { throwIfNoEntry: false });
  if (there?.isSymbolicLink() && readlinkSync(path) === target) return;
  if (there) rmSync(path, { recursive: true, force: true });
  symlinkSync(target, path);
}
