// Tells the control process which file each applied object came from, so that `explain` can name the line.

import { resolve } from "node:path";
import type { ControlClient } from "../cluster/control-api.ts";
import type { Manifest } from "../cluster/manifests.ts";
import type { Applied } from "./applying.ts";

/** Records the sources of what was applied, under absolute file names and the namespaces that they went to. */
export async function recordSourcesOf(control: ControlClient, applied: readonly Applied[]): Promise<void> {
  const manifests = applied.map(({ manifest: { source }, object }): Manifest => {
    const { name, namespace } = object.metadata;
    const file = source.file === "-" ? "-" : resolve(source.file);
    return {
      object: {
        apiVersion: object.apiVersion,
        kind: object.kind,
        metadata: { name, ...(namespace ? { namespace } : {}) },
      },
      source: { ...source, file },
    };
  });
  await control.recordSources(manifests);
}
