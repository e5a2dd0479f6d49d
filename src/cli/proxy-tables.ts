// What `fairlead proxy …` prints: the admin interface's data as the tables of `istioctl proxy-status` and `proxy-config`, whose
// columns operators know. Where istioctl has no such table, the columns are ours. Pure.

import { addressWithPort } from "../base/ip.ts";
import type { PendingUpgrade, ProxyStatus } from "../cluster/control-api.ts";
import type { FilterChain, HostPattern, Match, PathMatch, StringMatch } from "../model/model.ts";
import type { ClusterView, ListenerView, RelayView, RouteView, SeriesView } from "../proxy/admin/views.ts";

export interface Table {
  readonly header: readonly string[];
  readonly rows: readonly (readonly string[])[];
}

/** istioctl's words for the resource types. */
const discovery = {
  CDS: "backends",
  EDS: "endpoints",
  LDS: "listeners",
  RDS: "routeTables",
  SDS: "secrets",
} as const;

/** `now` in milliseconds since 1970. */
export function statusTable(proxies: readonly ProxyStatus[], now: number): Table {
  const cell = ({ connected, types, since, sent, applied }: ProxyStatus, type: string): string => {
    if (!connected) return "DISCONNECTED";
    const { state = "synced", count = 0 } = types[type] ?? {};
    if (state === "rejected") return "REJECTED";
    const age = `(${ageInWords(now - since)})`;
    if (state === "stale") return applied === sent ? "NOT SENT" : `STALE ${age}`;
    return count === 0 ? "NOT SENT" : `SYNCED ${age}`;
  };
  // Only where a proxy has some: istioctl knows no workers.
  const composed = proxies.some(({ workers }) => workers !== undefined);
  const workers = ({ workers: all }: ProxyStatus) => (all ? `${all.present.length}/${all.of}` : "1/1");
  return {
    header: ["NAME", "PID", ...Object.keys(discovery), "VERSION", ...(composed ? ["WORKERS"] : [])],
    rows: proxies.map((proxy) => [
      proxy.proxy,
      String(proxy.pid ?? "-"),
      ...Object.values(discovery).map((type) => cell(proxy, type)),
      proxy.program ?? "-",
      ...(composed ? [workers(proxy)] : []),
    ]),
  };
}

/** `now` in milliseconds since 1970. */
export function upgradeInWords({ program, failures, reason, next }: PendingUpgrade, now: number): string {
  const times = failures === 1 ? "once" : `${failures} times`;
  return `the present program (${program}) could not take over, tried ${times}: ${reason}. Next try in ${ageInWords(Math.max(0, next - now))}`;
}

/** istioctl's columns without DIRECTION: a backend here is neither of traffic that comes nor of traffic that goes. */
export function clusterTable(clusters: readonly ClusterView[]): Table {
  return {
    header: ["SERVICE FQDN", "PORT", "SUBSET", "TYPE", "DESTINATION RULE", "CONNECTIONS", "ACTIVE", "PENDING"],
    rows: clusters.map(({ name, type, connections, active, pending, from }) => {
      const { service, port, subset } = nameParts(name);
      const rule = from.kind === "DestinationRule" ? `${from.name}.${from.namespace}` : "-";
      return [service, port, subset, type, rule, ...[connections, active, pending].map(String)];
    }),
  };
}

export function endpointTable(clusters: readonly ClusterView[]): Table {
  return {
    header: ["ENDPOINT", "STATUS", "OUTLIER CHECK", "CLUSTER", "WEIGHT", "ACTIVE", "IDLE"],
    rows: clusters.flatMap(({ name, endpoints }) =>
      endpoints.map(({ address, port, status, outlierCheck, weight, active, idle }) => [
        addressWithPort(address, port),
        status,
        outlierCheck,
        name,
        ...[weight, active, idle].map(String),
      ]),
    ),
  };
}

export function listenerTable(listeners: readonly ListenerView[]): Table {
  return {
    header: ["ADDRESSES", "PORT", "MATCH", "DESTINATION", "CONNECTIONS"],
    rows: listeners.flatMap(({ address, port, transport, chains, connections }) =>
      chains.map(({ when, serve }) => [
        address,
        String(port),
        transport === "udp" ? "UDP" : whenInWords(when),
        destinationInWords(serve),
        String(connections),
      ]),
    ),
  };
}

export function routeTable(routes: readonly RouteView[]): Table {
  return {
    header: ["NAME", "VHOST NAME", "DOMAINS", "MATCH", "VIRTUAL SERVICE", "ACTION"],
    rows: routes.map(({ table, hosts, match, from, action, backends }) => [
      table,
      hosts[0] ?? "*",
      domainsInWords(hosts),
      matchInWords(match),
      from.name === ""
        ? "-"
        : from.name.includes("/") || !from.namespace
          ? from.name
          : `${from.name}.${from.namespace}`,
      action === "forward"
        ? backends.map(({ backend, weight }) => shareInWords(backend, weight, backends)).join(", ")
        : action,
    ]),
  };
}

export function statsTable(series: readonly SeriesView[]): Table {
  const failed = (one: SeriesView, digit: string) => String(one.classes[`${digit}xx`] ?? 0);
  const time = (milliseconds: number | null) => (milliseconds === null ? "> 30 s" : `${milliseconds} ms`);
  return {
    header: ["ROUTE", "CLUSTER", "REQUESTS", "4XX", "5XX", "FLAGS", "P50", "P90", "P99"],
    rows: series.map((one) => [
      one.route || "-",
      one.backend || "-",
      String(one.requests),
      failed(one, "4"),
      failed(one, "5"),
      Object.entries(one.flags)
        .map(([flag, count]) => `${flag}:${count}`)
        .join(",") || "-",
      ...[one.p50, one.p90, one.p99].map(time),
    ]),
  };
}

/** What was passed through: it has no requests. */
export function relayTable(relays: readonly RelayView[]): Table {
  return {
    header: ["PROTOCOL", "CLUSTER", "CONNECTIONS", "OPEN", "RECEIVED", "SENT"],
    rows: relays.map(({ protocol, backend, opened, open, received, sent }) => [
      ...[protocol, backend, String(opened), String(open), bytesInWords(received), bytesInWords(sent)],
    ]),
  };
}

/** `17 B`, `4.0 KiB`, … `2.5 GiB`. */
export function bytesInWords(bytes: number): string {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let [size, unit] = [bytes, 0];
  for (; size >= 1023.95 && unit < units.length - 1; unit++) size /= 1024;
  return `${unit === 0 ? size : size.toFixed(1)} ${units[unit]}`;
}

/** What is in force, as `GET /config` has it. */
export type ConfigView = Readonly<
  Record<string, readonly { readonly name: string; readonly fingerprint: string; readonly resource: object }[]>
>;

export function configTable(config: ConfigView): Table {
  return {
    header: ["TYPE", "NAME", "VERSION", "FROM"],
    rows: Object.entries(config).flatMap(([type, resources]) =>
      resources.map(({ name, fingerprint, resource }) => {
        const { from } = resource as { from?: { kind: string; namespace?: string; name: string } };
        const place = from?.namespace ? `${from.namespace}/${from.name}` : from?.name;
        return [type, name, fingerprint.slice(0, 12), from ? `${from.kind} ${place}` : "-"];
      }),
    ),
  };
}

/** Of `service/NAMESPACE/NAME/PORT[/SUBSET]`; other names are shown as they are. */
export function nameParts(backend: string): { service: string; port: string; subset: string } {
  const [kind, namespace, name, port, ...subset] = backend.split("/");
  if (kind !== "service" || port === undefined) return { service: backend, port: "-", subset: "-" };
  return { service: `${name}.${namespace}.svc.cluster.local`, port, subset: subset.join("/") || "-" };
}

/** `5s`, `12m`, `3h`, `2d`. */
export function ageInWords(milliseconds: number): string {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds}s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)}m`;
  return seconds < 86_400 ? `${Math.floor(seconds / 3600)}h` : `${Math.floor(seconds / 86_400)}d`;
}

function whenInWords(when: FilterChain["when"]): string {
  const { destination = ["*"], destinationPorts = [], source, protocols } = when;
  const to = destination.flatMap((range) => {
    if (destinationPorts.length > 0) return destinationPorts.map((port) => `${range}:${port}`);
    return range === "*" ? [] : [range];
  });
  const parts = [
    ...(when.kind === "plain" ? [] : [when.kind === "tls" ? "Trans: tls" : `SNI: ${when.names.join(",")}`]),
    ...(protocols ? [`App: ${protocols.join(",")}`] : []),
    ...(to.length > 0 ? [`Addr: ${to.join(",")}`] : []),
    ...(source ? [`From: ${source.join(",")}`] : []),
  ];
  return parts.join("; ") || "ALL";
}

function destinationInWords(serve: FilterChain["serve"]): string {
  if ("routes" in serve) return `Route: ${serve.routes}`;
  if (serve.original) return "Original destination";
  return serve.tcp
    .map(({ target }) => ("backend" in target ? `Cluster: ${target.backend}` : `Closes: ${target.respond.reason}`))
    .join(", ");
}

/** istioctl shows two and counts the others. */
function domainsInWords(hosts: readonly HostPattern[]): string {
  const more = hosts.length - 2;
  return hosts.slice(0, 2).join(", ") + (more > 0 ? ` + ${more} more...` : "");
}

function matchInWords({ path, method, headers = [], query = [], cookies = [], source = [], not = [] }: Match): string {
  const parts = [
    ...(method === undefined ? [] : [method]),
    path === undefined ? "/*" : pathInWords(path),
    ...headers.map(({ name, match }) => `${name}${stringInWords(match)}`),
    ...query.map(({ name, match }) => `?${name}${stringInWords(match)}`),
    ...cookies.map(({ name, match }) => `cookie ${name}${stringInWords(match)}`),
    ...(source.length > 0 ? [`from ${source.join(",")}`] : []),
    ...not.map((one) => `not (${matchInWords(one)})`),
  ];
  return parts.join(" ");
}

function pathInWords({ kind, value }: PathMatch): string {
  if (kind === "exact") return value;
  return kind === "regex" ? `~${value}` : kind === "prefix" ? `${value}*` : value === "/" ? "/*" : `${value}/*`;
}

function stringInWords(match: StringMatch): string {
  switch (match.kind) {
    case "present":
      return "";
    case "exact":
      return `=${match.value}`;
    case "prefix":
      return `=${match.value}*`;
    case "suffix":
      return `=*${match.value}`;
    case "contains":
      return `=*${match.value}*`;
    case "regex":
      return `=~${match.value}`;
  }
}

function shareInWords(backend: string, weight: number, all: readonly { readonly weight: number }[]): string {
  const sum = all.reduce((total, one) => total + one.weight, 0);
  return all.length === 1 || sum === 0 ? backend : `${backend} ${Math.round((100 * weight) / sum)}%`;
}
