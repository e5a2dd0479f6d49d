// Writes of the recorded session with a real kube-apiserver 1.36, replayed through the pure functions of this room with a map
// for a store: what is stored, what is refused, and who owns which field must be equal. Skipped where the recording is absent.

import { describe, expect, test } from "bun:test";
import { existsSync, readFileSync } from "node:fs";
import { decode } from "./decode.ts";
import { applyDefaults } from "./defaults.ts";
import { objectMetaSchema } from "./definitions.ts";
import { apiResourceList } from "./discovery.ts";
import { parseJson } from "./json.ts";
import { applyServerSide, trackUpdate } from "./managed-fields/managed-fields.ts";
import type { KubeObject } from "./object.ts";
import { jsonPatch, mergePatch } from "./patch/json-patch.ts";
import { strategicMergePatch } from "./patch/strategic.ts";
import type { Resource } from "./resource.ts";
import { schemaOfCustomResource } from "./schema.ts";
import { builtinScheme, type Scheme } from "./scheme.ts";
import { StatusError } from "./status-error.ts";
import { prepareCreate, prepareUpdate } from "./strategy.ts";
import { tableFor } from "./table.ts";
import { invalid, validateCreate, validateUpdate } from "./validation/validate.ts";

interface Call {
  readonly id: string;
  readonly method: string;
  readonly path: string;
  readonly type?: string;
  readonly accept?: string;
  readonly body?: unknown;
  readonly raw?: boolean;
  readonly mf?: boolean;
  readonly codeOnly?: boolean;
  readonly pick?: readonly string[];
  readonly want: { readonly code: number; readonly body: unknown };
}

const file = new URL("../../../shared/acceptance/api/calls.json", import.meta.url).pathname;
const calls: readonly Call[] = existsSync(file) ? JSON.parse(readFileSync(file, "utf8")) : [];
if (calls.length === 0) console.log("recorded.test: skipped, ../shared/acceptance is not there");

/** Needs HTTP or the store's own knowledge (existence, versions, allocation), which is not this room's. */
const notHere =
  /already|again|dry-run|missing|mismatch|unknown-|not-json|empty-body|unsupported|not-acceptable|method|stale|dry-run-bad|precondition|yaml-body|no-manager|without-rv|update-name|update-uid|namespace-mismatch|object-in-missing|strategic-not-supported/;

const now = Date.UTC(2026, 0, 1);
const uid = "11111111-2222-3333-4444-555555555555";

class Session {
  readonly scheme: Scheme = builtinScheme();
  readonly #objects = new Map<string, KubeObject>();

  run(call: Call): unknown {
    const url = new URL(call.path, "http://localhost");
    const match =
      /^\/(?:api|apis\/([^/]+))\/([^/]+)(?:\/namespaces\/([^/]+)(?=\/))?\/([^/]+)(?:\/([^/]+))?(?:\/([^/]+))?$/.exec(
        url.pathname,
      );
    if (!match) throw new Error(`no path ${call.path}`);
    const [, group = "", version, namespace, plural, name, subresource] = match;
    const resource = this.scheme.byPath(group, version!, plural!);
    if (!resource) throw new Error(`no resource ${call.path}`);
    const id = (object: string) => `${plural}.${group}/${namespace ?? ""}/${object}`;
    if (call.method === "GET") {
      const prefix = id("");
      const list = [...this.#objects]
        .filter(([key]) => key.startsWith(prefix) && (!name || key === id(name)))
        .sort(([a], [b]) => (a < b ? -1 : 1))
        .map(([, one]) => one);
      return tableFor(this.scheme, resource, list, { now: now + 5000, metadata: { resourceVersion: "1" } });
    }
    const manager = url.searchParams.get("fieldManager") ?? "unknown";
    const fieldValidation = (url.searchParams.get("fieldValidation") ?? "Warn") as "Warn";
    if (call.method === "DELETE") {
      if (name) this.#objects.delete(id(name));
      return undefined;
    }
    const live = name ? this.#objects.get(id(name)) : undefined;
    if (subresource === "scale") return this.#scale(call, resource, id(name!), live!);
    const dryRun = url.searchParams.has("dryRun");
    const stored = this.#write(call, resource, namespace, live, {
      manager,
      fieldValidation,
      subresource,
      force: url.searchParams.get("force") === "true",
    });
    if (!dryRun) this.#objects.set(id(stored.metadata.name), stored);
    if (resource.plural === "customresourcedefinitions") this.#register(stored);
    return stored;
  }

  /** The scale subresource is the store's; here it only writes the field that the recording's later calls see. */
  #scale(call: Call, resource: Resource, id: string, live: KubeObject): undefined {
    const { replicas } = (call.body as { spec: { replicas: number } }).spec;
    if (replicas < 0) return undefined;
    const field = resource.plural === "widgets" ? "size" : "replicas";
    const next = { ...live, spec: { ...live.spec, [field]: replicas } };
    const tracked = trackUpdate(this.scheme, resource, live, next, { manager: "unknown", now, subresource: "scale" });
    const managedFields = tracked.metadata.managedFields!.map(({ time, ...entry }) =>
      entry.subresource === "scale" ? entry : { ...entry, time: time! },
    );
    const written = prepareUpdate(this.scheme, resource, tracked, live, { subresource: "scale" });
    this.#objects.set(id, { ...written, metadata: { ...written.metadata, managedFields } });
    return undefined;
  }

  #write(
    call: Call,
    resource: Resource,
    namespace: string | undefined,
    live: KubeObject | undefined,
    options: { manager: string; fieldValidation: "Warn"; subresource: string | undefined; force: boolean },
  ): KubeObject {
    const { scheme } = this;
    const parsed = typeof call.body === "string" ? parseJson(call.body) : { value: call.body, duplicates: () => [] };
    let given = parsed.value;
    let patch: Parameters<typeof decode>[3];
    let object: KubeObject;
    const context = { manager: options.manager, now, subresource: options.subresource };
    if (call.type?.includes("apply-patch")) {
      object = applyServerSide(scheme, resource, live, given as KubeObject, {
        ...context,
        force: options.force,
      }).object;
      object = applyDefaults(scheme, resource, object);
    } else {
      if (call.method === "PATCH") {
        const type = call.type?.includes("json-patch")
          ? "json"
          : call.type?.includes("strategic")
            ? "strategic"
            : "merge";
        const body = given;
        if (type === "json") given = jsonPatch(live, body);
        else if (type === "merge") given = mergePatch(live, body);
        else given = strategicMergePatch(scheme.schemaOf(resource), live, body);
        patch = { fieldValidation: options.fieldValidation, patch: { type, body } };
      }
      const decoded = decode(
        scheme,
        resource,
        given,
        patch ?? { fieldValidation: options.fieldValidation, duplicates: parsed.duplicates },
      );
      object = trackUpdate(scheme, resource, live, applyDefaults(scheme, resource, decoded.object), context);
    }
    if (!live) {
      object = allocate(prepareCreate(scheme, resource, object, { now, uid, namespace, random: () => 0 }));
      object = { ...object, metadata: { ...object.metadata, resourceVersion: "1" } };
      const errors = validateCreate(scheme, resource, object);
      if (errors.length > 0) throw invalid(resource, object.metadata.name ?? "", errors);
      return object;
    }
    const next = allocate(prepareUpdate(scheme, resource, object, live, { subresource: options.subresource }));
    const errors = validateUpdate(scheme, resource, next, live, options.subresource);
    if (errors.length > 0) throw invalid(resource, live.metadata.name, errors);
    return { ...next, metadata: { ...next.metadata, resourceVersion: "2" } };
  }

  #register(crd: KubeObject): void {
    const { group, names, scope, versions } = crd.spec;
    for (const version of versions) {
      const resource: Resource = {
        group,
        version: version.name,
        kind: names.kind,
        plural: names.plural,
        singular: names.singular,
        scope,
        shortNames: names.shortNames,
        categories: names.categories,
        verbs: ["delete", "deletecollection", "get", "list", "patch", "create", "update", "watch"],
        subresources: Object.keys(version.subresources ?? {}),
      };
      this.scheme.add(resource, schemaOfCustomResource(version.schema.openAPIV3Schema, objectMetaSchema()), {
        columns: version.additionalPrinterColumns.map((one: Record<string, unknown>) => ({
          format: "",
          priority: 0,
          ...one,
        })),
        subresources: [
          { name: "status", kind: names.kind, verbs: ["get", "patch", "update"] },
          { name: "scale", kind: "Scale", group: "autoscaling", version: "v1", verbs: ["get", "patch", "update"] },
        ],
      });
    }
  }
}

/** Stands in for the allocation of addresses and ports. */
function allocate(object: KubeObject): KubeObject {
  if (object.kind !== "Service" || object.spec?.type === "ExternalName") return object;
  const spec = {
    clusterIP: "10.96.1.1",
    clusterIPs: ["10.96.1.1"],
    ipFamilies: ["IPv4"],
    ipFamilyPolicy: "SingleStack",
    ...object.spec,
  };
  if (spec.type !== "ClusterIP")
    spec.ports = spec.ports?.map((one: object, index: number) => ({ nodePort: 30001 + index, ...one }));
  return { ...object, spec };
}

const volatile: Readonly<Record<string, string>> = {
  uid: "<uid>",
  resourceVersion: "<rv>",
  creationTimestamp: "<time>",
  lastTransitionTime: "<time>",
  time: "<time>",
};

/** As the recording was normalised: what differs from run to run is a placeholder. */
function normal(value: unknown, call: Call, key = ""): unknown {
  if (Array.isArray(value)) return value.map((one) => normal(one, call, key));
  if (value && typeof value === "object") {
    const out: Record<string, unknown> = {};
    const controlled = /\/apis\/(apps|batch)\//.test(call.path) && !/\/status/.test(call.path);
    for (const [name, one] of Object.entries(value)) {
      if (one === undefined || (name === "managedFields" && !call.mf)) continue;
      if (name === "status" && controlled && (value as { kind?: string }).kind !== "Status") continue;
      if (name === "description" && key === "columnDefinitions") continue;
      out[name] = volatile[name] && typeof one !== "object" ? volatile[name] : normal(one, call, name);
    }
    return out;
  }
  if (typeof value === "string") {
    if (/^10\.96\.\d+\.\d+$/.test(value)) return "<ip>";
    if (key === "cells" && /^(\d+[smhd])+$/.test(value)) return "<age>";
    return value
      .replace(/\bgen-[a-z0-9]{5}\b/g, "gen-<random>")
      .replaceAll(uid, "<uid>")
      .replace(/:3\d{4}\/TCP/, ":<port>/TCP");
  }
  return key === "nodePort" ? "<port>" : value;
}

describe.skipIf(calls.length === 0)("the recorded session", () => {
  const session = new Session();
  for (const call of calls) {
    const write = call.method !== "GET";
    const table =
      call.method === "GET" &&
      call.accept?.includes("as=Table") &&
      /\/table$/.test(call.id) &&
      !call.id.startsWith("lists/");
    if ((!write && !table) || notHere.test(call.id)) continue;
    test(call.id, () => {
      let got: unknown;
      try {
        got = session.run(call);
      } catch (error) {
        if (!(error instanceof StatusError)) throw error;
        got = error.toStatus();
      }
      if (call.method === "DELETE" || call.codeOnly || call.id.includes("scale")) return;
      const picked =
        call.pick && got
          ? Object.fromEntries(call.pick.map((name) => [name, (got as Record<string, unknown>)[name]]))
          : got;
      expect(normal(picked, call)).toEqual(normal(call.want.body, call) as never);
    });
  }

  test("discovery of a custom resource", () => {
    const call = calls.find((one) => one.id === "crds/discovery")!;
    expect(apiResourceList(session.scheme, "acc.example.com", "v1")).toEqual(call.want.body as never);
  });
});
