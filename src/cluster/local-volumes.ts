// The folders of persistent volumes in a stack's directory. They survive pods and restarts, and go with `fairlead down`.

import { rm } from "node:fs/promises";
import { join } from "node:path";
import type { LocalVolumes } from "../workloads/volumes.ts";

export function localVolumes(directory: string): LocalVolumes {
  const path = (volume: string) => {
    // Names come from objects that users may write.
    if (!/^[a-z0-9][a-z0-9.-]*$/.test(volume)) throw new Error(`"${volume}" is no name of a volume`);
    return join(directory, volume);
  };
  return {
    path,
    remove: (volume) => rm(path(volume), { recursive: true, force: true }),
  };
}
