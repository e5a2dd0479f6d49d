// `--fill`: makes up what files refer to and do not contain, so that routes can be tried without their application. Pure but
// for `issue`. What a user made is never changed, what was made up before
// only grows with what is named since, and permissions (ReferenceGrants) are never made up: they are what one tests.

import type { KubeObject } from "../api/object.ts";
import { parseApiVersion } from "../api/resource.ts";
import { builtinScheme } from "../api/scheme.ts";
import { checkCertificate } from "../model/certificate.ts";
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
  secretReferences,
  serviceReferences,
} from "./fill-references.ts";
import { isMadeUp, type Made, made, serviceWithPods } from "./fill-service.ts";
import type { Manifest } from "./manifests.ts";
import { madeUpFile } from "./sources.ts";

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

/** The kinds that are made up, and their groups: a Knative Service is no Service. */
const madeGroups = {
  Namespace: "",
  Service: "",
  Secret: "",
  Deployment: "apps",
  GatewayClass: "gateway.networking.k8s.io",
  IngressClass: "networking.k8s.io",
} as const;
type MadeKind = keyof typeof madeGroups;
type ClassKind = "GatewayClass" | "IngressClass";

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
    all
      .filter(({ object }) => madeGroups[object.kind as MadeKind] === parseApiVersion(object.apiVersion).group)
      .map(({ object, namespace }) => [keyOf(object.kind, namespace, object.metadata.name), object]),
  );
  const find = (kind: MadeKind, namespace: string, name: string) => there.get(keyOf(kind, namespace, name));

  const classes = classesOf(given, (kind, name) => find(kind, "", name) !== undefined);
  const references = given.flatMap(({ object, namespace }) => serviceReferences(object, namespace));
  const services = group(references).flatMap((named) => {
    const [{ namespace, name }] = named;
    return serviceWithPods(named, find("Service", namespace, name), find("Deployment", namespace, name));
  });
  const routes = all.filter(({ object }) => isRoute(object));
  const wantedSecrets = group(given.flatMap((one) => secretReferences(one, routes))).filter((named) => {
    const [{ namespace, name }] = named;
    const secret = find("Secret", namespace, name);
    return !secret || (isMadeUp(secret) && !serves(secret, hostsOf(named)));
  });
  const secrets = await Promise.all(wantedSecrets.map((named) => secret(named, options)));

  const inhabited = new Map<string, string>();
  for (const { object, namespace } of [...given, ...placed([...services, ...secrets].map((one) => one.object))]) {
    if (namespace && !inhabited.has(namespace)) inhabited.set(namespace, place(object, namespace, ""));
  }
  const gateways = all.filter(({ object }) => isGateway(object));
  const namespaces = [...inhabited].flatMap(([name, inhabitant]): readonly Made[] => {
    const namespace = find("Namespace", "", name);
    if (systemNamespaces.has(name) || (namespace && !isMadeUp(namespace))) return [];
    const { labels, asked } = labelsForRoutes(name, routes, gateways);
    const before = namespace?.metadata.labels ?? {};
    if (namespace && Object.entries(labels).every(([key, value]) => before[key] === value)) return [];
    const because = asked.length > 0 ? `, with the labels that ${asked.join(" and ")} asks for` : "";
    const object = made({ apiVersion: "v1", kind: "Namespace", metadata: { name, labels } });
    return [{ object, reason: `Namespace ${name}: the namespace of ${inhabitant}${because}` }];
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

function classesOf(given: readonly Placed[], has: (kind: ClassKind, name: string) => boolean): readonly Made[] {
  const found = new Map<string, Made>();
  const add = (kind: ClassKind, apiVersion: string, name: unknown, spec: object, by: Place) => {
    if (typeof name !== "string" || name === "" || has(kind, name) || found.has(`${kind} ${name}`)) return;
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

/** The names that a Secret is to serve; `localhost` only when there is no other. */
function hostsOf(references: readonly SecretReference[]): readonly string[] {
  const named = [...new Set(references.flatMap((reference) => reference.hosts))];
  return named.length > 1 ? named.filter((host) => host !== "localhost") : named;
}

/** Whether a Secret holds a good certificate for all of these names. */
function serves(secret: KubeObject, hosts: readonly string[]): boolean {
  const decoded = (field: string) => Buffer.from(String(secret["data"]?.[field] ?? ""), "base64").toString();
  const check = checkCertificate(decoded("tls.crt"), decoded("tls.key"));
  return check.ok && hosts.every((host) => check.names.includes(host));
}

async function secret(
  references: readonly [SecretReference, ...SecretReference[]],
  options: FillOptions,
): Promise<Made> {
  const { namespace, name, by } = references[0];
  const hosts = hostsOf(references);
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
