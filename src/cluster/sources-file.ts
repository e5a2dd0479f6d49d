// The record of sources on disk, so that a stack that starts again still knows the lines of what was applied to it.

import { existsSync, readFileSync, renameSync, writeFileSync } from "node:fs";
import { messageOf } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import type { Manifest } from "./manifests.ts";
import { emptySources, recordSources, type SourceRecord } from "./sources.ts";

export interface SourcesFile {
  current(): SourceRecord;
  record(manifests: readonly Manifest[]): void;
}

/** A record that cannot be read is begun anew: it only adds lines to explanations. */
export function openSources(path: string, log: Logger): SourcesFile {
  let record = emptySources;
  if (existsSync(path)) {
    try {
      record = JSON.parse(readFileSync(path, "utf8")) as SourceRecord;
    } catch (error) {
      log.warn("the record of sources cannot be read and is begun anew", { path, error: messageOf(error) });
    }
  }
  return {
    current: () => record,
    record(manifests) {
      record = recordSources(record, manifests);
      writeFileSync(`${path}.new`, JSON.stringify(record), { mode: 0o600 });
      renameSync(`${path}.new`, path);
    },
  };
}
