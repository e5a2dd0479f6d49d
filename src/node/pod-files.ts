// Where the files of a pod lie under the agent's state directory.

import { join } from "node:path";

export interface PodFiles {
  readonly folder: string;
  /** Lines as a CRI runtime writes them: what stand-ins log. */
  standInLog(container: string, attempt: number): string;
  /** Output as it came: what commands write. */
  commandLog(container: string, attempt: number): string;
  pidFile(container: string): string;
}

export function podsFolder(stateDir: string): string {
  return join(stateDir, "pods");
}

export function podFiles(stateDir: string, uid: string): PodFiles {
  const folder = join(podsFolder(stateDir), uid);
  return {
    folder,
    standInLog: (container, attempt) => join(folder, container, `${attempt}.log`),
    commandLog: (container, attempt) => join(folder, container, `${attempt}.out`),
    pidFile: (container) => join(folder, container, "pid"),
  };
}
