// The volumes of one pod: written before its containers, again when a ConfigMap or Secret changes, and tried again until what they
// name is there. What their files are is `volumes.ts`'; claims are links (`claim-folders.ts`).

import { mkdirSync } from "node:fs";
import type { Pod } from "../api/kinds.ts";
import { messageOf } from "../base/errors.ts";
import { claimRetry, hasClaims, linkClaims } from "./claim-folders.ts";
import type { PodFacts } from "./pod-fields.ts";
import type { PodFiles } from "./pod-files.ts";
import { volumeFiles, volumeFolder, writeVolume } from "./volumes.ts";
import type { WorkerHost } from "./worker-host.ts";

export interface PodVolumesOptions {
  readonly host: WorkerHost;
  readonly files: PodFiles;
  readonly pod: () => Pod;
  readonly facts: () => PodFacts;
  /** Says as an Event why a volume is not there. */
  readonly failed: (message: string) => void;
}

export class PodVolumes {
  readonly #options: PodVolumesOptions;
  #written = false;
  #stopped = false;
  #waiting: (() => void)[] = [];

  constructor(options: PodVolumesOptions) {
    this.#options = options;
  }

  /** Resolves with true when all are written, with false after {@link stop}. Never rejects. */
  async make(): Promise<boolean> {
    const { host, pod, files, failed } = this.#options;
    let told = "";
    while (!this.#stopped) {
      try {
        await linkClaims(host.store, pod(), files.folder);
        this.#write();
        this.#written = true;
        return true;
      } catch (error) {
        const message = messageOf(error);
        if (message !== told) failed(message);
        told = message;
        if (hasClaims(pod())) host.clock.after(claimRetry, () => this.#wake());
        await new Promise<void>((resolve) => this.#waiting.push(resolve));
      }
    }
    return false;
  }

  /** What they are made of has changed. */
  refresh(): void {
    this.#wake();
    if (!this.#written || this.#stopped) return;
    try {
      this.#write();
    } catch (error) {
      this.#options.failed(messageOf(error));
    }
  }

  stop(): void {
    this.#stopped = true;
    this.#wake();
  }

  #write(): void {
    const { host, pod, files, facts } = this.#options;
    for (const volume of pod().spec?.volumes ?? []) {
      if (volume.hostPath || volume.persistentVolumeClaim) continue;
      try {
        const content = volumeFiles(pod(), volume, facts(), host.sources);
        mkdirSync(files.folder, { recursive: true, mode: 0o700 });
        writeVolume(volumeFolder(files.folder, volume), content);
      } catch (error) {
        throw new Error(`MountVolume.SetUp failed for volume "${volume.name}" : ${messageOf(error)}`);
      }
    }
  }

  #wake(): void {
    for (const resolve of this.#waiting.splice(0)) resolve();
  }
}
