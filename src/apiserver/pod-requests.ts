// The subresources of pods (and `namespaces/finalize`) that are more than a part of the object: log, binding, eviction.

import type { KubeObject } from "../api/object.ts";
import { resourceKey } from "../api/resource.ts";
import { StatusError } from "../api/status-error.ts";
import { sendObject } from "./answer.ts";
import { readObject } from "./body.ts";
import type { Context, Target } from "./context.ts";
import type { Exchange } from "./exchange.ts";
import { negotiate } from "./negotiate.ts";
import { isTrue } from "./request-info.ts";
import { deleteOptions, writeOptions } from "./request-options.ts";
import { methodNotAllowed, placed } from "./resource-requests.ts";

type Serve = (context: Context, exchange: Exchange, target: Target, name: string) => Promise<void>;

/** By `resource/subresource`. */
export const specialSubresources: Readonly<Record<string, Serve>> = {
  "pods/log": serveLog,
  "pods/binding": serveBinding,
  "pods/eviction": serveEviction,
  "namespaces/finalize": serveFinalize,
};

async function serveBinding(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  if (target.verb !== "create") throw methodNotAllowed();
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const { value } = await readObject(exchange, "Binding");
  const binding = placed(target, value, name);
  const key = { resource: target.resource, name, ...(target.namespace ? { namespace: target.namespace } : {}) };
  await context.store.bind(key, String(binding["target"]?.name ?? ""), writeOptions(exchange, "CreateOptions"));
  sendObject(exchange, accepted, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 }, 201);
}

/** The older way to bind: a Binding that names its pod, posted to `bindings`. */
export async function servePostedBinding(context: Context, exchange: Exchange, target: Target): Promise<void> {
  if (target.verb !== "create") throw methodNotAllowed();
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const { value } = await readObject(exchange, "Binding");
  const binding = placed(target, value);
  const resource = context.store.scheme.byKey("pods")!;
  const key = { resource, name: binding.metadata.name, namespace: target.namespace! };
  await context.store.bind(key, String(binding["target"]?.name ?? ""), writeOptions(exchange, "CreateOptions"));
  sendObject(exchange, accepted, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 }, 201);
}

/** Evictions delete the pod unless a PodDisruptionBudget says that none may go now (policy/v1 Eviction). */
async function serveEviction(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  if (target.verb !== "create") throw methodNotAllowed();
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const { value } = await readObject(exchange, "Eviction");
  const eviction = placed(target, value, name);
  await context.store.evict(
    { resource: target.resource, name, namespace: target.namespace! },
    deleteOptions(exchange, (eviction["deleteOptions"] ?? {}) as Record<string, unknown>),
  );
  sendObject(exchange, accepted, { kind: "Status", apiVersion: "v1", metadata: {}, status: "Success", code: 201 }, 201);
}

async function serveFinalize(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  if (target.verb !== "update") throw methodNotAllowed();
  const accepted = negotiate(exchange.header("accept"), exchange.query);
  const { value, duplicates } = await readObject(exchange, "Namespace");
  const options = { ...writeOptions(exchange, "UpdateOptions"), duplicates, subresource: "finalize" as const };
  const object = placed(target, value, name);
  sendObject(exchange, accepted, await context.store.update(target.resource, object, options));
}

async function serveLog(context: Context, exchange: Exchange, target: Target, name: string): Promise<void> {
  if (target.verb !== "get") throw methodNotAllowed();
  const { query } = exchange;
  const pod = await context.store.get({ resource: target.resource, name, namespace: target.namespace! });
  if (!pod) {
    throw new StatusError(404, "NotFound", `${resourceKey(target.resource)} ${JSON.stringify(name)} not found`, {
      name,
      kind: target.resource.plural,
    });
  }
  const container = containerOf(pod, query.get("container") || undefined);
  if (!pod.spec?.nodeName) return exchange.send(200, "text/plain", "");
  if (!context.podLogs) throw new StatusError(503, "ServiceUnavailable", "this server has no nodes to read logs from");
  const since = sinceOf(context, query);
  const stream = exchange.lazyStream(200, "text/plain");
  const reading = context.podLogs.open(
    { namespace: target.namespace!, name, uid: pod.metadata.uid! },
    {
      container,
      follow: isTrue(query.get("follow")),
      previous: isTrue(query.get("previous")),
      timestamps: isTrue(query.get("timestamps")),
      ...(since === undefined ? {} : { since }),
      ...count(query, "tailLines", 0),
      ...count(query, "limitBytes", 1),
    },
    stream,
  );
  stream.begin(); // a client that follows wants to know that it may wait
  exchange.onClose(() => reading.dispose());
}

function containerOf(pod: KubeObject, asked: string | undefined): string {
  const named = (list: unknown) => ((list ?? []) as readonly { name: string }[]).map((one) => one.name);
  const containers = named(pod.spec?.containers);
  const all = [...containers, ...named(pod.spec?.initContainers), ...named(pod.spec?.ephemeralContainers)];
  if (asked === undefined) {
    const preferred = pod.metadata.annotations?.["kubectl.kubernetes.io/default-container"];
    if (preferred && all.includes(preferred)) return preferred;
    if (containers.length === 1) return containers[0]!;
    const message = `a container name must be specified for pod ${pod.metadata.name}, choose one of: [${containers.join(" ")}]`;
    throw new StatusError(400, "BadRequest", message);
  }
  if (all.includes(asked)) return asked;
  throw new StatusError(400, "BadRequest", `container ${asked} is not valid for pod ${pod.metadata.name}`);
}

function sinceOf(context: Context, query: URLSearchParams): number | undefined {
  const seconds = query.get("sinceSeconds");
  const time = query.get("sinceTime");
  const bad = (field: string, value: string) =>
    new StatusError(422, "Invalid", `PodLogOptions "" is invalid: ${field}: Invalid value: ${JSON.stringify(value)}`);
  if (seconds !== null) {
    if (!/^[1-9][0-9]{0,9}$/.test(seconds)) throw bad("sinceSeconds", seconds);
    return context.clock.now() - Number(seconds) * 1000;
  }
  if (time === null) return undefined;
  const at = Date.parse(time);
  if (Number.isNaN(at)) throw bad("sinceTime", time);
  return at;
}

function count(query: URLSearchParams, name: "tailLines" | "limitBytes", least: number): Record<string, number> {
  const text = query.get(name);
  if (text === null) return {};
  if (!/^[0-9]{1,12}$/.test(text) || Number(text) < least) {
    const message = `PodLogOptions "" is invalid: ${name}: Invalid value: ${text}: must be greater than or equal to ${least}`;
    throw new StatusError(422, "Invalid", message);
  }
  return { [name]: Number(text) };
}
