// What the stand-in process is told of a pod: a pure function from the object, its place and its stand-ins. They serve what is
// declared, and the first one also what Services send to without a declaration.

import type { Container, Pod } from "../api/kinds.ts";
import { ipFamily } from "../base/ip.ts";
import type { Place } from "./network.ts";
import type { PodFiles } from "./pod-files.ts";
import type { WantedPort } from "./service-ports.ts";
import type { StandInPod, StandInPort } from "./standin/protocol.ts";

export interface StandInPodInput {
  readonly pod: Pod;
  readonly node: string;
  readonly place: Place;
  /** Which namespace the one at `place` is. */
  readonly netnsId?: string;
  readonly files: PodFiles;
  readonly containers: readonly { readonly spec: Container; readonly restartCount: number }[];
  readonly extraPorts: readonly WantedPort[];
  readonly effectivePort: (port: number) => number;
}

export function standInPod(input: StandInPodInput): StandInPod {
  const { pod, node, place, netnsId, files, containers, extraPorts, effectivePort } = input;
  const { metadata, spec } = pod;
  const declared = new Set(
    spec?.containers.flatMap(({ ports = [] }) =>
      ports.map((port) => `${port.containerPort}/${port.protocol ?? "TCP"}`),
    ),
  );
  const undeclared = extraPorts
    .filter(({ port, protocol }) => !declared.has(`${port}/${protocol}`))
    .map(({ port, protocol }): StandInPort => ({ protocol, port, listenPort: effectivePort(port) }));
  // Where low ports are moved, 80 and 8080 are one: the first that comes opens it for both.
  const taken = new Set<string>();
  const isFirst = ({ listenPort, protocol }: StandInPort) => {
    const key = `${listenPort}/${protocol}`;
    return taken.has(key) ? false : taken.add(key);
  };
  return {
    uid: metadata.uid ?? "",
    namespace: metadata.namespace ?? "default",
    name: metadata.name,
    node,
    serviceAccount: spec?.serviceAccountName ?? "default",
    labels: metadata.labels ?? {},
    addresses: place.addresses,
    // All addresses of a namespace of its own, 127.0.0.1 included; elsewhere only what is the pod's.
    listenAddresses:
      place.netns !== undefined && !spec?.hostNetwork
        ? [place.addresses.some((address) => ipFamily(address) === 6) ? "::" : "0.0.0.0"]
        : place.addresses,
    ...(place.netns === undefined ? {} : { netns: place.netns }),
    ...(netnsId === undefined ? {} : { netnsId }),
    containers: containers.map((container, index) => ({
      name: container.spec.name,
      image: container.spec.image ?? "",
      ports: [...declaredPorts(container.spec, effectivePort), ...(index === 0 ? undeclared : [])].filter(isFirst),
      logFile: files.standInLog(container.spec.name, container.restartCount),
      attempt: container.restartCount,
    })),
  };
}

function declaredPorts(container: Container, effectivePort: (port: number) => number): readonly StandInPort[] {
  return (container.ports ?? []).flatMap(({ name, containerPort, protocol = "TCP" }): readonly StandInPort[] => {
    if (protocol === "SCTP") return [];
    const listenPort = effectivePort(containerPort);
    return [{ ...(name ? { name } : {}), protocol, port: containerPort, listenPort }];
  });
}
