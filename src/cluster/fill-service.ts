// A Service that `--fill` makes up, with the stand-in pods behind it. Pure. A Service that was made up before grows by the ports
// that are named since; one that a user made is never touched.

import type { KubeObject } from "../api/object.ts";
import type { ServiceReference } from "./fill-references.ts";

export const filledLabel = "fairlead.dev/filled";
/** An image that runs nowhere: its containers become stand-ins that answer what they received. */
const standInImage = "fairlead.dev/stand-in";
const pods = 2;
/** Where the first port of a stand-in listens; further ones count up. */
const firstContainerPort = 8080;

export interface Made {
  readonly object: KubeObject;
  readonly reason: string;
}

/** An object with the label that says that it was made up. */
export function made(object: KubeObject): KubeObject {
  return { ...object, metadata: { ...object.metadata, labels: { ...object.metadata.labels, [filledLabel]: "true" } } };
}

export function isMadeUp(object: KubeObject): boolean {
  return object.metadata.labels?.[filledLabel] === "true";
}

/**
 * The Service that these references name, and its pods unless `deployment` (of the Service's name) is the user's own, which
 * then stands behind it. Nothing when `service` is there already and has all that is named, or is the user's own.
 */
export function serviceWithPods(
  references: readonly [ServiceReference, ...ServiceReference[]],
  service: KubeObject | undefined,
  deployment: KubeObject | undefined,
): readonly Made[] {
  if (service && !isMadeUp(service)) return [];
  const kept = portsOf(service);
  const added = references.filter((reference) => !kept.some((port) => isPort(port, reference)));
  const [first] = added;
  if (!first) return [];
  const { namespace, name } = first;
  const own = deployment && !isMadeUp(deployment) ? deployment : undefined;
  const ports = [...kept, ...newPorts(added, kept, own)];
  const labels = { app: name, ...versionLabel(name) };
  const madeService: Made = {
    object: made({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace, labels },
      spec: { selector: own?.spec?.selector?.matchLabels ?? { app: name }, ports },
    }),
    reason: `Service ${namespace}/${name}: named by ${first.by}`,
  };
  if (own) return [madeService];
  const containerPorts = ports.map(({ name: portName, protocol, targetPort }) => ({
    name: portName.slice(0, 15).replace(/-$/, ""),
    containerPort: targetPort,
    protocol,
  }));
  const madeDeployment: Made = {
    object: made({
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata: { name, namespace, labels },
      spec: {
        replicas: pods,
        selector: { matchLabels: { app: name } },
        template: {
          metadata: { labels: { ...labels, [filledLabel]: "true" } },
          spec: { containers: [{ name: "stand-in", image: standInImage, ports: containerPorts }] },
        },
      },
    }),
    reason: `Deployment ${namespace}/${name}: ${pods} stand-in pods for Service ${namespace}/${name}`,
  };
  return [madeService, madeDeployment];
}

interface Port {
  readonly name: string;
  readonly port: number;
  readonly protocol: "TCP" | "UDP";
  readonly targetPort: number;
  readonly appProtocol?: string;
}

function portsOf(service: KubeObject | undefined): readonly Port[] {
  const ports: readonly Port[] = service?.spec?.ports ?? [];
  return ports.map(({ name, port, protocol, targetPort, appProtocol }) => ({
    name,
    port,
    protocol,
    targetPort,
    ...(appProtocol ? { appProtocol } : {}),
  }));
}

function isPort(port: Port, reference: ServiceReference): boolean {
  if (port.protocol !== reference.protocol) return false;
  return typeof reference.port === "string"
    ? port.name === reference.port
    : port.port === (reference.port ?? port.port);
}

/** The number that a port known only by its name gets. */
const numbers: Readonly<Record<string, number>> = {
  http: 80,
  https: 443,
  web: 80,
  grpc: 50051,
  metrics: 9090,
  dns: 53,
};

function newPorts(
  references: readonly ServiceReference[],
  kept: readonly Port[],
  deployment: KubeObject | undefined,
): readonly Port[] {
  const containers: readonly { ports?: readonly { containerPort: number }[] }[] =
    deployment?.spec?.template?.spec?.containers ?? [];
  const given = containers.flatMap((container) => container.ports ?? [])[0]?.containerPort;
  const ports: Port[] = [];
  // Numbers first, so that a name does not take one of them.
  const numbered = references.filter(({ port }) => typeof port === "number");
  const named = references.filter(({ port }) => typeof port !== "number");
  for (const reference of [...numbered, ...named]) {
    if (ports.some((port) => isPort(port, reference))) continue;
    const { protocol, appProtocol } = reference;
    const taken = (number: number) =>
      [...kept, ...ports].some((one) => one.port === number && one.protocol === protocol);
    let port = typeof reference.port === "number" ? reference.port : (numbers[reference.port ?? "http"] ?? 80);
    if (typeof reference.port !== "number") while (taken(port)) port++;
    const kind = protocol === "UDP" ? "udp" : appProtocol ? "grpc" : "http";
    const only = kept.length === 0 && ports.length === 0 && new Set(references.map((one) => one.port)).size === 1;
    ports.push({
      name: typeof reference.port === "string" ? reference.port : only ? kind : `${kind}-${port}`,
      port,
      protocol,
      targetPort: given ?? firstContainerPort + kept.length + ports.length,
      ...(appProtocol ? { appProtocol } : {}),
    });
  }
  return ports;
}

/** `orders-v2` is version v2; `web-canary` is version canary. */
export function versionLabel(name: string): { readonly version?: string } {
  const suffix = /-(v\d+[a-z0-9]*|canary|stable|blue|green)$/.exec(name)?.[1];
  return suffix ? { version: suffix } : {};
}
