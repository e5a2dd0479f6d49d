// How a command that takes a container's place is run: in the pod's network, with the container's environment, and with its
// volumes at their paths where that can be done.

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import type { Container, Pod } from "../api/kinds.ts";
import type { CommandSpec } from "./command-process.ts";
import { environmentOf } from "./environment.ts";
import { mountedArgv, mountsOf, ownTopMounts } from "./mounts.ts";
import type { PodNetwork } from "./network.ts";
import type { PodFacts } from "./pod-fields.ts";
import type { PodFiles } from "./pod-files.ts";
import type { PodSources } from "./pod-sources.ts";
import { volumeFolder } from "./volumes.ts";

export interface CommandSpecInput {
  readonly pod: Pod;
  readonly container: Container;
  readonly argv: readonly string[];
  readonly attempt: number;
  readonly facts: PodFacts;
  readonly sources: PodSources;
  readonly network: PodNetwork;
  readonly files: PodFiles;
  /** Where it runs when the container names no folder, or one that this machine has not. */
  readonly workingDir: string;
  /** Told when its volumes cannot be mounted. */
  readonly warn: (reason: string, message: string) => void;
}

/** Throws when something that it needs is not there. */
export function commandSpec(input: CommandSpecInput): CommandSpec {
  const { pod, container, argv, attempt, facts, sources, files, workingDir } = input;
  const own = environmentOf(pod, container, facts, sources);
  const folders = (pod.spec?.volumes ?? []).map((volume): [string, string] => [
    `FAIRLEAD_VOLUME_${volume.name.toUpperCase().replaceAll("-", "_")}`,
    volumeFolder(files.folder, volume),
  ]);
  const { PATH = "/usr/sbin:/usr/bin:/sbin:/bin", HOME = "/", LANG = "C.UTF-8" } = process.env;
  // What marks the processes of a stack is handed on, so that they are found when it is taken down.
  const marks = Object.entries(process.env).flatMap(([name, value]): [string, string][] =>
    name.startsWith("FAIRLEAD_") && value !== undefined ? [[name, value]] : [],
  );
  const wanted = container.workingDir;
  const cwd = wanted !== undefined && existsSync(wanted) ? wanted : workingDir;
  return {
    argv: withVolumes(input, argv, own, wanted ?? cwd),
    env: { PATH, HOME, LANG, ...Object.fromEntries([...marks, ...folders]), ...own },
    cwd,
    logFile: files.commandLog(container.name, attempt),
    pidFile: files.pidFile(container.name),
  };
}

function withVolumes(
  { pod, container, network, files, warn }: CommandSpecInput,
  argv: readonly string[],
  env: Readonly<Record<string, string>>,
  cwd: string,
): readonly string[] {
  const target = { pod: pod.metadata.uid ?? "" };
  const run = (what: readonly string[]) => network.command(target, what);
  if (!container.volumeMounts?.length) return run(argv);
  if (network.kind !== "netns") {
    const message = "volumes are not mounted without privileges; the command finds them by $FAIRLEAD_VOLUME_<NAME>";
    warn("VolumesNotMounted", `container ${container.name}: ${message}`);
    return run(argv);
  }
  const folderOf = (name: string) => {
    const volume = pod.spec?.volumes?.find((one) => one.name === name);
    return volume && volumeFolder(files.folder, volume);
  };
  const root = join(files.folder, container.name, "root");
  mkdirSync(root, { recursive: true });
  const mounts = mountsOf(pod, container, folderOf, env);
  return run(mountedArgv({ argv, mounts, root, cwd, visible: ownTopMounts() }));
}
