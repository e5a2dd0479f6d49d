// The stand-ins of one pod as the node's stand-in process is told of them: only those whose turn has come, so that a sidecar serves
// before what waits for it. What the process answers becomes the containers' states.

import { statSync } from "node:fs";
import type { Pod } from "../api/kinds.ts";
import type { PodFiles } from "./pod-files.ts";
import { standInPod } from "./stand-in-pod.ts";
import type { StandInRun } from "./stand-in-run.ts";
import type { StandInState } from "./standin/protocol.ts";
import type { WorkerHost } from "./worker-host.ts";

export interface PodStandInsOptions {
  readonly host: WorkerHost;
  readonly files: PodFiles;
  readonly pod: () => Pod;
  /** To be called after each change of a container's state. */
  readonly changed: () => void;
}

export class PodStandIns {
  readonly #options: PodStandInsOptions;
  readonly #wanted = new Set<StandInRun>();
  #announced: boolean;
  /** `80/TCP`: what they serve. */
  #served: readonly string[] = [];

  constructor(options: PodStandInsOptions) {
    this.#options = options;
    // A pod that ran before this process did was announced then.
    this.#announced = options.pod().status?.containerStatuses?.some((one) => one.state?.running) ?? false;
  }

  /** Its turn has come. */
  begin(container: StandInRun): void {
    this.#wanted.add(container);
    this.tell();
  }

  /** Tells the process what is wanted now; again when the pod's labels or its Services' ports have changed. */
  tell(): void {
    const { host, files } = this.#options;
    const pod = this.#options.pod();
    const uid = pod.metadata.uid ?? "";
    const containers = this.#serving();
    const place = host.network.place({ pod: uid });
    if (containers.length === 0 || !place) return;
    const told = standInPod({
      pod,
      node: host.place.name,
      place,
      ...(place.netns === undefined ? {} : { netnsId: String(statSync(place.netns).ino) }),
      files,
      containers,
      extraPorts: host.extraPorts(pod),
      effectivePort: (port) => host.network.effectivePort(port),
    });
    this.#served = told.containers.flatMap(({ ports }) => ports.map(({ port, protocol }) => `${port}/${protocol}`));
    host.standIns.serve(told);
    const state = host.standIns.state(uid);
    if (state) this.heard(state);
  }

  /** What the process says of this pod. */
  heard(state: StandInState): void {
    const { host, changed } = this.#options;
    const open = new Set(state.open);
    for (const container of this.#serving()) {
      if (open.has(container.spec.name)) container.serving(host.clock.now());
      else if (state.problems.length > 0) container.waiting(state.problems.join("; "));
    }
    if (state.serving && !this.#announced) {
      this.#announced = true;
      const ports = this.#served.length > 0 ? this.#served.join(", ") : "no port";
      host.event(this.#options.pod(), "Normal", "Started", `Started a stand-in that serves ${ports}`);
    }
    changed();
  }

  #serving(): readonly StandInRun[] {
    return [...this.#wanted].filter((one) => one.view().state.kind !== "terminated");
  }
}
