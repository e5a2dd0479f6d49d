// `--fill`: makes up what files refer to and do not contain, so that routes can be tried without their application. Pure but
// for `issue`. Nothing that is there is changed, and permissions (ReferenceGrants) are never made up: they are what one tests.

import type { KubeObject } from "../api/object.ts";
import { parseApiVersion } from "../api/resource.ts";
import { builtinScheme } from "../api/scheme.ts";
import {
  isGateway,
  isIngress,
  isRoute,
  keyOf,
  labelsForRoutes,
  type Place,
  type Placed,
  place,
  type SecretReference,
  type ServiceReference,
  secretReferences,
  serviceReferences,
} from "./fill-references.ts";
import type { Manifest } from "./manifests.ts";
import { madeUpFile } from "./sources.ts";

const filledLabel = "fairlead.dev/filled";
/** An image that runs nowhere: its containers become stand-ins that answer what they received. */
const standInImage = "fairlead.dev/stand-in";
const pods = 2;

export interface FillOptions {
  /** Where objects without a namespace are applied to. */
  readonly namespace?: string;
  /** A certificate for these names, in PEM. */
  readonly issue: (
    dnsNames: readonly string[],
  ) => Promise<{ readonly certificate: string; readonly privateKey: string }>;
}

export interface Filled {
  /** In the order to apply them, all with the label `fairlead.dev/filled: "true"`. */
  readonly made: readonly KubeObject[];
  /** The same as manifests that come from no file. */
  readonly manifests: readonly Manifest[];
  /** One line for each of `made`: `Service shop/cart: named by HTTPRoute shop/web spec.rules[0].backendRefs[0]`. */
  readonly reasons: readonly string[];
}

interface Made {
  readonly object: KubeObject;
  readonly reason: string;
}

/** Namespaces that every cluster has. */
const systemNamespaces = new Set(["default", "kube-system", "kube-public", "kube-node-lease"]);
/** Controllers that stand behind well-known names of IngressClasses, since annotations are read by the controller's name. */
const ingressControllers: Readonly<Record<string, string>> = {
  nginx: "k8s.io/ingress-nginx",
  traefik: "traefik.io/ingress-controller",
};

/** `objects` come from the files, `existing` from the running stack. */
export async function fill(
  objects: readonly KubeObject[],
  existing: readonly KubeObject[],
  options: FillOptions,
): Promise<Filled> {
  const { namespace: defaultNamespace = "default" } = options;
  const namespaceOf = namespaceFinder(objects);
  const placed = (all: readonly KubeObject[]): readonly Placed[] =>
    all.map((object) => ({
      object,
      namespace: namespaceOf(object) ? (object.metadata.namespace ?? defaultNamespace) : "",
    }));
  const given = placed(objects);
  const all = [...placed(existing), ...given];
  const there = new Map(
    all.map((one) => [keyOf(one.object.kind, one.namespace, one.object.metadata.name), one.object]),
  );
  const has = (kind: string, namespace: string, name: string) => there.has(keyOf(kind, namespace, name));

  const classes = classesOf(given, has);
  const services = group(
    given
      .flatMap(({ object, namespace }) => serviceReferences(object, namespace))
      .filter((one) => !has("Service", one.namespace, one.name)),
  ).flatMap((references) => serviceWithPods(references, there));
  const routes = all.filter(({ object }) => isRoute(object));
  const wantedSecrets = given
    .flatMap((one) => secretReferences(one, routes))
    .filter((one) => !has("Secret", one.namespace, one.name));
  const secrets = await Promise.all(group(wantedSecrets).map((references) => secret(references, options)));

  const inhabited = new Map<string, string>();
  for (const { object, namespace } of [...given, ...placed([...services, ...secrets].map((one) => one.object))]) {
    if (namespace && !inhabited.has(namespace)) inhabited.set(namespace, place(object, namespace, ""));
  }
  const gateways = all.filter(({ object }) => isGateway(object));
  const namespaces = [...inhabited]
    .filter(([name]) => !systemNamespaces.has(name) && !has("Namespace", "", name))
    .map(([name, inhabitant]): Made => {
      const { labels, asked } = labelsForRoutes(name, routes, gateways);
      const because = asked.length > 0 ? `, with the labels that ${asked.join(" and ")} asks for` : "";
      return {
        object: made({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } }),
        reason: `Namespace ${name}: the namespace of ${inhabitant}${because}`,
      };
    });

  const everything = [...namespaces, ...classes, ...secrets, ...services];
  return {
    made: everything.map(({ object }) => object),
    manifests: everything.map(({ object }) => ({ object, source: { file: madeUpFile, line: 1, fields: {} } })),
    reasons: everything.map(({ reason }) => reason),
  };
}

/** Whether an object lives in a namespace: by the scheme, by a CustomResourceDefinition of the files, else by what it says. */
function namespaceFinder(objects: readonly KubeObject[]): (object: KubeObject) => boolean {
  const scheme = builtinScheme();
  const declared = new Map<string, boolean>();
  for (const { kind, spec } of objects) {
    if (kind !== "CustomResourceDefinition" || !spec?.names?.kind) continue;
    declared.set(`${spec.group} ${spec.names.kind}`, spec.scope === "Namespaced");
  }
  return (object) => {
    const resource = scheme.byKind(object.apiVersion, object.kind);
    if (resource) return resource.scope === "Namespaced";
    return (
      declared.get(`${parseApiVersion(object.apiVersion).group} ${object.kind}`) ??
      object.metadata.namespace !== undefined
    );
  };
}

function classesOf(
  given: readonly Placed[],
  has: (kind: string, namespace: string, name: string) => boolean,
): readonly Made[] {
  const found = new Map<string, Made>();
  const add = (kind: string, apiVersion: string, name: unknown, spec: object, by: Place) => {
    if (typeof name !== "string" || name === "" || has(kind, "", name) || found.has(`${kind} ${name}`)) return;
    const object = made({ apiVersion, kind, metadata: { name }, spec });
    found.set(`${kind} ${name}`, { object, reason: `${kind} ${name}: named by ${by}` });
  };
  for (const { object, namespace } of given) {
    if (isGateway(object)) {
      const spec = { controllerName: "fairlead.dev/gateway-controller" };
      const by = place(object, namespace, "spec.gatewayClassName");
      add("GatewayClass", "gateway.networking.k8s.io/v1", object.spec?.gatewayClassName, spec, by);
    } else if (isIngress(object)) {
      const name = object.spec?.ingressClassName;
      const spec = { controller: ingressControllers[name] ?? "fairlead.dev/ingress-controller" };
      add("IngressClass", "networking.k8s.io/v1", name, spec, place(object, namespace, "spec.ingressClassName"));
    }
  }
  return [...found.values()];
}

/** The Service that these references name, and its pods unless a Deployment of that name is there. */
function serviceWithPods(
  references: readonly [ServiceReference, ...ServiceReference[]],
  there: ReadonlyMap<string, KubeObject>,
): readonly Made[] {
  const { namespace, name } = references[0];
  const deployment = there.get(keyOf("Deployment", namespace, name));
  const ports = portsOf(references, deployment);
  const labels = { app: name, ...versionLabel(name) };
  const selector = deployment?.spec?.selector?.matchLabels ?? { app: name };
  const service: Made = {
    object: made({
      apiVersion: "v1",
      kind: "Service",
      metadata: { name, namespace, labels },
      spec: {
        selector,
        ports: ports.map(({ port, portName, protocol, appProtocol, containerPort }) => ({
          name: portName,
          port,
          protocol,
          targetPort: containerPort,
          ...(appProtocol ? { appProtocol } : {}),
        })),
      },
    }),
    reason: `Service ${namespace}/${name}: named by ${references[0].by}`,
  };
  if (deployment) return [service];
  const containerPorts = new Map(
    ports.map(({ containerPort, protocol, portName }) => [
      `${protocol}/${containerPort}`,
      { name: portName.slice(0, 15).replace(/-$/, ""), containerPort, protocol },
    ]),
  );
  return [
    service,
    {
      object: made({
        apiVersion: "apps/v1",
        kind: "Deployment",
        metadata: { name, namespace, labels },
        spec: {
          replicas: pods,
          selector: { matchLabels: { app: name } },
          template: {
            metadata: { labels: { ...labels, [filledLabel]: "true" } },
            spec: { containers: [{ name: "stand-in", image: standInImage, ports: [...containerPorts.values()] }] },
          },
        },
      }),
      reason: `Deployment ${namespace}/${name}: ${pods} stand-in pods for Service ${namespace}/${name}`,
    },
  ];
}

interface FilledPort {
  readonly port: number;
  readonly portName: string;
  readonly protocol: "TCP" | "UDP";
  readonly appProtocol?: string;
  readonly containerPort: number;
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

function portsOf(references: readonly ServiceReference[], deployment: KubeObject | undefined): readonly FilledPort[] {
  const containers: readonly { ports?: readonly { containerPort: number }[] }[] =
    deployment?.spec?.template?.spec?.containers ?? [];
  const existing = containers.flatMap((container) => container.ports ?? [])[0]?.containerPort;
  const found = new Map<string, ServiceReference>();
  for (const reference of references) {
    const key = `${reference.protocol}/${reference.port ?? ""}`;
    if (!found.has(key)) found.set(key, reference);
  }
  const taken = new Set<string>();
  for (const { port, protocol } of found.values()) if (typeof port === "number") taken.add(`${protocol}/${port}`);
  return [...found.values()].map(({ port, protocol, appProtocol }, at) => {
    let number = typeof port === "number" ? port : (numbers[port ?? "http"] ?? 80);
    if (typeof port !== "number") {
      while (taken.has(`${protocol}/${number}`)) number++;
      taken.add(`${protocol}/${number}`);
    }
    const kind = protocol === "UDP" ? "udp" : appProtocol ? "grpc" : "http";
    const portName = typeof port === "string" ? port : found.size === 1 ? kind : `${kind}-${number}`;
    return { port: number, portName, protocol, appProtocol, containerPort: existing ?? 8080 + at };
  });
}

/** `orders-v2` is version v2; `web-canary` is version canary. */
export function versionLabel(name: string): { readonly version?: string } {
  const suffix = /-(v\d+[a-z0-9]*|canary|stable|blue|green)$/.exec(name)?.[1];
  return suffix ? { version: suffix } : {};
}

async function secret(
  references: readonly [SecretReference, ...SecretReference[]],
  options: FillOptions,
): Promise<Made> {
  const { namespace, name, by } = references[0];
  const named = [...new Set(references.flatMap((reference) => reference.hosts))];
  const hosts = named.length > 1 ? named.filter((host) => host !== "localhost") : named;
  const { certificate, privateKey } = await options.issue(hosts);
  const base64 = (text: string) => Buffer.from(text).toString("base64");
  return {
    object: made({
      apiVersion: "v1",
      kind: "Secret",
      metadata: { name, namespace },
      type: "kubernetes.io/tls",
      data: { "tls.crt": base64(certificate), "tls.key": base64(privateKey) },
    }),
    reason: `Secret ${namespace}/${name}: named by ${by}; a certificate for ${hosts.join(", ")}`,
  };
}

/** References to one object, in the order of their first. */
function group<T extends { readonly namespace: string; readonly name: string }>(references: readonly T[]) {
  return [...Map.groupBy(references, ({ namespace, name }) => `${namespace}/${name}`).values()] as [T, ...T[]][];
}

function made(object: KubeObject): KubeObject {
  return { ...object, metadata: { ...object.metadata, labels: { ...object.metadata.labels, [filledLabel]: "true" } } };
}
