// A model in writable collections, and short ways to say listeners, route tables and backends; for tests of this room.

import type { Graph } from "../../collections/graph.ts";
import { type Source, source } from "../../collections/source.ts";
import type {
  Backend,
  Endpoints,
  Listener,
  ResourceOf,
  ResourceType,
  RouteTable,
  Secret,
  WeightedBackend,
} from "../../model/model.ts";
import { Redacted } from "../../model/redacted.ts";

export type ModelSources = { readonly [T in ResourceType]: Source<ResourceOf[T]> };

export function modelSources(graph: Graph): ModelSources {
  return {
    secrets: source("secrets", { graph }),
    backends: source("backends", { graph }),
    endpoints: source("endpoints", { graph }),
    routeTables: source("route tables", { graph }),
    listeners: source("listeners", { graph }),
  };
}

const from = { kind: "Test", name: "test", field: "" };

export function listener(
  name: string,
  parts: { scope?: string; port?: number; routes?: string; tcp?: readonly string[]; secrets?: readonly string[] } = {},
): Listener {
  const { scope = "gateway", port = 80, routes, tcp = [], secrets } = parts;
  const tls = secrets ? { tls: { certificates: secrets, alpn: [] } } : {};
  const serve = routes === undefined ? { tcp: tcp.map(share) } : { routes };
  const when = { kind: "plain" } as const;
  return { name, from, scope, address: "127.0.0.1", port, transport: "tcp", chains: [{ from, when, ...tls, serve }] };
}

export function routeTable(name: string, backends: readonly string[]): RouteTable {
  const action = { kind: "forward", to: backends.map(share) } as const;
  return { name, from, hosts: [{ names: ["*"], rules: [{ from, name, match: {}, filters: [], action }] }] };
}

export function backend(name: string, connectTimeout = 1000): Backend {
  return { name, from, protocol: "http1", balance: { kind: "roundRobin" }, connectTimeout };
}

export function endpoints(name: string, ...addresses: string[]): Endpoints {
  return { backend: name, from, endpoints: addresses.map((address) => ({ address, port: 8080, weight: 1 })) };
}

export function secret(name: string, fingerprint = "f1"): Secret {
  const privateKey = new Redacted(`key of ${name}`);
  return { name, from, fingerprint, content: { kind: "certificate", certificate: "cert", privateKey } };
}

function share(name: string): WeightedBackend {
  return { from, weight: 1, target: { backend: name }, filters: [] };
}
