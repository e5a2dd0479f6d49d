// A file system for a command that has volumes mounted at paths of its own: the machine's files seen through an overlay that
// takes writes (kept in memory, gone with the run), with the volumes at their mountPaths. All of it is made in the command's
// private mount namespace, so that the machine's own tree never changes. Needs root.

import { readFileSync } from "node:fs";
import { join, normalize } from "node:path";
import type { Container, Pod, VolumeMount } from "../api/kinds.ts";
import { expand } from "./environment.ts";

export interface Mount {
  /** A folder or file of the machine. */
  readonly source: string;
  /** An absolute path in the command's view. */
  readonly target: string;
  readonly readOnly: boolean;
}

/** What a container's volumeMounts come to. Throws on a mount that names no volume of the pod or leads out of its volume. */
export function mountsOf(
  pod: Pod,
  container: Container,
  folderOf: (volume: string) => string | undefined,
  env: Readonly<Record<string, string>>,
): readonly Mount[] {
  return (container.volumeMounts ?? []).map((mount) => {
    const folder = folderOf(mount.name);
    if (folder === undefined) {
      throw new Error(`Pod ${pod.metadata.name}: volumeMounts "${mount.mountPath}" names no volume "${mount.name}"`);
    }
    const source = join(folder, subPathOf(mount, env));
    if (source !== folder && !source.startsWith(`${folder}/`)) {
      throw new Error(
        `Pod ${pod.metadata.name}: the subPath of "${mount.mountPath}" leads out of volume "${mount.name}"`,
      );
    }
    return { source, target: normalize(`/${mount.mountPath}`), readOnly: mount.readOnly === true };
  });
}

function subPathOf(mount: VolumeMount, env: Readonly<Record<string, string>>): string {
  return mount.subPathExpr === undefined ? (mount.subPath ?? "") : expand(mount.subPathExpr, env);
}

/** The mount points directly on the root file system, in order (proc(5), mountinfo), without those of network namespaces. */
export function topMounts(mountinfo: string): readonly string[] {
  const rows = mountinfo
    .split("\n")
    .map((line) => line.split(" "))
    .filter((fields) => fields.length > 4);
  const root = rows.findLast((fields) => fields[4] === "/")?.[0];
  return rows
    .filter((fields) => fields[1] === root && fields[4] !== "/" && !fields[4]!.startsWith("/run/netns"))
    .map((fields) =>
      fields[4]!.replaceAll(/\\([0-7]{3})/g, (_all, code: string) => String.fromCharCode(Number.parseInt(code, 8))),
    );
}

export interface MountedCommand {
  readonly argv: readonly string[];
  readonly mounts: readonly Mount[];
  /** An empty folder of the machine that the view is made at. */
  readonly root: string;
  /** Where the command starts, in its own view. */
  readonly cwd: string;
  /** Other mount points of the machine that are to be seen. */
  readonly visible: readonly string[];
}

/** The argv that makes the view and becomes the command in it. To be run where a private mount namespace is given. */
export function mountedArgv({ argv, mounts, root, cwd, visible }: MountedCommand): string[] {
  const view = `${root}/view`;
  const lines = [
    "set -e",
    `mount -t tmpfs -o mode=0755 fairlead ${quote(root)}`,
    `mkdir ${quote(`${root}/upper`)} ${quote(`${root}/work`)} ${quote(view)}`,
    `mount -t overlay -o ${quote(`lowerdir=/,upperdir=${root}/upper,workdir=${root}/work`)} fairlead ${quote(view)}`,
    ...visible.map(
      (path) => `[ ! -e ${quote(path)} ] || mount --rbind ${quote(path)} ${quote(view + path)} 2>/dev/null || :`,
    ),
    // What `ip netns exec` has laid over these two is not part of the root file system.
    ...["/etc/resolv.conf", "/etc/hosts"].map(
      (path) =>
        `[ ! -f ${path} ] || { cat ${path} > ${quote(`${root}/file`)}; rm -f ${quote(view + path)}; cp ${quote(`${root}/file`)} ${quote(view + path)}; }`,
    ),
    ...mounts.flatMap(({ source, target, readOnly }) => {
      const at = quote(view + target);
      return [
        `if [ -d ${quote(source)} ]; then mkdir -p ${at}; else mkdir -p ${quote(parent(view + target))}; [ -e ${at} ] || : > ${at}; fi`,
        `mount --bind ${quote(source)} ${at}`,
        ...(readOnly ? [`mount -o remount,bind,ro ${at}`] : []),
      ];
    }),
    `exec chroot ${quote(view)} /bin/sh -c 'cd "$0" 2>/dev/null || cd /; exec "$@"' ${quote(cwd)} "$@"`,
  ];
  return ["/bin/sh", "-c", lines.join("\n"), "fairlead", ...argv];
}

/** The mounts of this process, which those of a command begin with. */
export function ownTopMounts(): readonly string[] {
  return topMounts(readFileSync("/proc/self/mountinfo", "utf8"));
}

function parent(path: string): string {
  return path.slice(0, path.lastIndexOf("/")) || "/";
}

function quote(text: string): string {
  return `'${text.replaceAll("'", `'\\''`)}'`;
}
