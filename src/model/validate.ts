// What is well formed: the checks that a resource must pass before a proxy takes it, and that dialects pass their own rules
// through before they hand them on. Structure only; whether names refer to something is `validateModel`'s question.

import { parseCidr } from "../base/cidr.ts";
import { ipFamily } from "../base/ip.ts";
import { hostPatternProblem } from "./host-pattern.ts";
import type {
  Backend,
  Endpoints,
  Filter,
  FilterChain,
  HeaderChange,
  HeaderValue,
  Listener,
  Match,
  Model,
  PathMatch,
  PathRewrite,
  Redirect,
  ResourceOf,
  ResourceType,
  Respond,
  RouteTable,
  Rule,
  Secret,
  TlsContext,
  ValueMatch,
  WeightedBackend,
} from "./model.ts";
import { resourceName, resourceTypes } from "./model.ts";
import type { Provenance } from "./provenance.ts";
import { compileRegex } from "./regex.ts";

/** One thing that is wrong with a resource: where in it, what, and the object that asked for it. */
export interface Problem {
  /** Path inside the model resource: `hosts[0].rules[2].match.path`. */
  readonly field: string;
  readonly message: string;
  readonly from: Provenance;
}

/** The largest weight of a backend reference (Gateway API, BackendRef.weight). */
const maxWeight = 1_000_000;

/** What is wrong with one resource on its own; empty when nothing is. */
export function validateResource<T extends ResourceType>(type: T, resource: ResourceOf[T]): readonly Problem[] {
  const problems = new Problems(resource.from);
  if (resourceName(type, resource) === "") problems.add("name", "is empty");
  switch (type) {
    case "listeners":
      checkListener(problems, resource as Listener);
      break;
    case "routeTables":
      checkRouteTable(problems, resource as RouteTable);
      break;
    case "backends":
      checkBackend(problems, resource as Backend);
      break;
    case "endpoints":
      checkEndpoints(problems, resource as Endpoints);
      break;
    case "secrets":
      checkSecret(problems, resource as Secret);
      break;
  }
  return problems.found;
}

/** What is wrong with one rule; `field`s are relative to it. */
export function validateRule(rule: Rule): readonly Problem[] {
  const problems = new Problems(rule.from);
  checkRule(problems, "", rule);
  return problems.found;
}

/** What is wrong with a model: its resources, names stored under another name, and references to what it has not. */
export function validateModel(model: Model): readonly Problem[] {
  const problems: Problem[] = [];
  for (const type of resourceTypes) {
    for (const [name, resource] of model[type]) {
      problems.push(...validateResource(type, resource));
      if (resourceName(type, resource) !== name) {
        problems.push({ field: "name", message: `${type} ${name} is stored under another name`, from: resource.from });
      }
    }
  }
  const dangling = (from: Provenance, field: string, what: string, name: string) =>
    problems.push({ field, message: `${what} ${name} is not known`, from });

  for (const listener of model.listeners.values()) {
    listener.chains.forEach((chain, c) => {
      const field = `chains[${c}]`;
      chain.tls?.certificates.forEach((name, i) => {
        const secret = model.secrets.get(name);
        if (!secret) dangling(chain.from, `${field}.tls.certificates[${i}]`, "secret", name);
        else if (secret.content.kind !== "certificate") {
          const message = `secret ${name} holds ${secret.content.kind}, not a certificate`;
          problems.push({ field: `${field}.tls.certificates[${i}]`, message, from: chain.from });
        }
      });
      if ("routes" in chain.serve) {
        const name = chain.serve.routes;
        if (!model.routeTables.has(name)) dangling(chain.from, `${field}.serve.routes`, "route table", name);
      } else checkReferences(`${field}.serve.tcp`, chain.serve.tcp);
    });
  }
  for (const table of model.routeTables.values()) {
    table.hosts.forEach((host, h) => {
      host.rules.forEach((rule, r) => {
        if (rule.action.kind === "forward") checkReferences(`hosts[${h}].rules[${r}].action.to`, rule.action.to);
      });
    });
  }
  for (const endpoints of model.endpoints.values()) {
    if (!model.backends.has(endpoints.backend)) dangling(endpoints.from, "backend", "backend", endpoints.backend);
  }
  return problems;

  function checkReferences(field: string, to: readonly WeightedBackend[]): void {
    to.forEach((one, i) => {
      if ("backend" in one.target && !model.backends.has(one.target.backend)) {
        dangling(one.from, `${field}[${i}].target.backend`, "backend", one.target.backend);
      }
    });
  }
}

/** Collects problems; nested nodes with a provenance of their own are named by it. */
class Problems {
  readonly found: Problem[] = [];
  readonly #from: Provenance;

  constructor(from: Provenance) {
    this.#from = from;
  }

  add(field: string, message: string, from?: Provenance): void {
    this.found.push({ field, message, from: from ?? this.#from });
  }
}

// ---------------------------------------------------------------------------------------------------------- Listener

function checkListener(problems: Problems, listener: Listener): void {
  if (ipFamily(listener.address) === undefined) problems.add("address", `"${listener.address}" is no IP address`);
  checkPort(problems, "port", listener.port);
  listener.chains.forEach((chain, i) => {
    checkChain(problems, `chains[${i}]`, chain);
  });
}

function checkChain(problems: Problems, field: string, chain: FilterChain): void {
  const { when, tls, serve, from } = chain;
  if (when.kind === "sni") {
    if (when.names.length === 0) problems.add(`${field}.when.names`, "lists no server name", from);
    when.names.forEach((name, i) => {
      const problem = hostPatternProblem(name);
      if (problem) problems.add(`${field}.when.names[${i}]`, problem, from);
    });
  }
  if (when.kind === "plain" && tls) problems.add(`${field}.tls`, "has certificates for connections without TLS", from);
  if (when.kind !== "plain" && !tls && "routes" in serve) {
    problems.add(
      `${field}.tls`,
      "is absent, and routes cannot be served from a TLS connection that is not terminated",
      from,
    );
  }
  if (tls) checkTls(problems, `${field}.tls`, tls, from);
  if ("tcp" in serve) {
    serve.tcp.forEach((to, i) => {
      checkWeighted(problems, `${field}.serve.tcp[${i}]`, to, undefined);
    });
  }
}

function checkTls(problems: Problems, field: string, tls: TlsContext, from: Provenance): void {
  if (tls.certificates.length === 0) problems.add(`${field}.certificates`, "lists no certificate", from);
  if (tls.minVersion === "1.3" && tls.maxVersion === "1.2") {
    problems.add(`${field}.minVersion`, "is above maxVersion", from);
  }
}

// -------------------------------------------------------------------------------------------------------- RouteTable

function checkRouteTable(problems: Problems, table: RouteTable): void {
  const seen = new Set<string>();
  table.hosts.forEach((host, h) => {
    host.names.forEach((name, i) => {
      const field = `hosts[${h}].names[${i}]`;
      const problem = hostPatternProblem(name);
      if (problem) problems.add(field, problem, host.rules[0]?.from);
      if (seen.has(name)) problems.add(field, `host "${name}" has two entries`, host.rules[0]?.from);
      seen.add(name);
    });
    host.rules.forEach((rule, r) => {
      if (sound.has(rule)) return;
      const before = problems.found.length;
      checkRule(problems, `hosts[${h}].rules[${r}].`, rule);
      if (problems.found.length === before) sound.add(rule);
    });
  });
}

/** Rules without a problem: they are immutable, and come again with every change of their table. */
const sound = new WeakSet<Rule>();

function checkRule(problems: Problems, prefix: string, rule: Rule): void {
  checkMatch(problems, `${prefix}match`, rule.match, rule.from);
  rule.filters.forEach((filter, i) => {
    checkFilter(problems, `${prefix}filters[${i}]`, filter, rule.match.path);
  });
  for (const name of ["request", "perTry"] as const) {
    const value = rule.timeouts?.[name];
    if (value !== undefined && !(Number.isFinite(value) && value >= 0)) {
      problems.add(`${prefix}timeouts.${name}`, `${value} is no number of milliseconds`, rule.from);
    }
  }
  const field = `${prefix}action`;
  switch (rule.action.kind) {
    case "forward":
      rule.action.to.forEach((to, i) => {
        checkWeighted(problems, `${field}.to[${i}]`, to, rule.match.path);
      });
      break;
    case "redirect":
      checkRedirect(problems, field, rule.action, rule);
      break;
    case "respond":
      checkRespond(problems, field, rule.action, rule.from);
      break;
  }
}

function checkMatch(problems: Problems, field: string, match: Match, from: Provenance): void {
  const at = match.from ?? from;
  if (match.path) checkPath(problems, `${field}.path`, match.path, at);
  if (match.method !== undefined && !token.test(match.method)) {
    problems.add(`${field}.method`, `"${match.method}" is no method`, at);
  }
  match.headers?.forEach((value, i) => {
    const name = `${field}.headers[${i}]`;
    checkHeaderName(problems, `${name}.name`, value.name, value.from ?? at);
    checkValueMatch(problems, name, value, at);
  });
  match.query?.forEach((value, i) => {
    checkValueMatch(problems, `${field}.query[${i}]`, value, at);
  });
  match.cookies?.forEach((value, i) => {
    const name = `${field}.cookies[${i}]`;
    if (!token.test(value.name)) problems.add(`${name}.name`, `"${value.name}" is no cookie name`, value.from ?? at);
    checkValueMatch(problems, name, value, at);
  });
  match.source?.forEach((range, i) => {
    if (!parseCidr(range)) problems.add(`${field}.source[${i}]`, `"${range}" is no range of addresses`, at);
  });
  match.not?.forEach((excluded, i) => {
    checkMatch(problems, `${field}.not[${i}]`, excluded, at);
  });
}

function checkPath(problems: Problems, field: string, path: PathMatch, from: Provenance): void {
  if (path.kind === "regex") {
    const regex = compileRegex(path.value, { ignoreCase: path.ignoreCase === true });
    if (!regex.ok) problems.add(field, regex.problem, from);
    return;
  }
  const problem = pathProblem(path.value);
  if (problem) problems.add(field, problem, from);
}

function checkValueMatch(problems: Problems, field: string, value: ValueMatch, from: Provenance): void {
  if (value.name === "") problems.add(`${field}.name`, "is empty", value.from ?? from);
  if (value.match.kind !== "regex") return;
  const regex = compileRegex(value.match.value);
  if (!regex.ok) problems.add(`${field}.match`, regex.problem, value.from ?? from);
}

function checkWeighted(problems: Problems, field: string, to: WeightedBackend, path: PathMatch | undefined): void {
  if (!Number.isInteger(to.weight) || to.weight < 0 || to.weight > maxWeight) {
    problems.add(`${field}.weight`, `${to.weight} is no whole number of 0 to ${maxWeight}`, to.from);
  }
  if ("respond" in to.target) checkRespond(problems, `${field}.target.respond`, to.target.respond, to.from);
  else if (to.target.backend === "") problems.add(`${field}.target.backend`, "is empty", to.from);
  to.filters.forEach((filter, i) => {
    checkFilter(problems, `${field}.filters[${i}]`, filter, path);
  });
}

function checkFilter(problems: Problems, field: string, filter: Filter, path: PathMatch | undefined): void {
  if (filter.kind === "rewrite") {
    if (filter.host !== undefined) checkHost(problems, `${field}.host`, filter.host, filter.from);
    if (filter.path) checkRewrite(problems, `${field}.path`, filter.path, path, filter.from);
    return;
  }
  if ("change" in filter) checkHeaderChange(problems, `${field}.change`, filter.change, filter.from);
}

function checkHeaderChange(problems: Problems, field: string, change: HeaderChange, from: Provenance): void {
  for (const part of ["set", "add"] as const) {
    change[part].forEach((header, i) => {
      checkHeader(problems, `${field}.${part}[${i}]`, header, from);
    });
  }
  change.remove.forEach((name, i) => {
    checkHeaderName(problems, `${field}.remove[${i}]`, name, from);
  });
}

function checkRedirect(problems: Problems, field: string, redirect: Redirect, rule: Rule): void {
  if (redirect.host !== undefined) checkHost(problems, `${field}.host`, redirect.host, rule.from);
  if (redirect.port !== undefined) checkPort(problems, `${field}.port`, redirect.port, rule.from);
  if (redirect.path) checkRewrite(problems, `${field}.path`, redirect.path, rule.match.path, rule.from);
  if (![301, 302, 303, 307, 308].includes(redirect.status)) {
    problems.add(`${field}.status`, `${redirect.status} is no redirect status (301, 302, 303, 307, 308)`, rule.from);
  }
}

function checkRespond(problems: Problems, field: string, respond: Respond, from: Provenance): void {
  if (!Number.isInteger(respond.status) || respond.status < 200 || respond.status > 599) {
    problems.add(`${field}.status`, `${respond.status} is no final HTTP status (200 to 599)`, from);
  }
  respond.headers?.forEach((header, i) => {
    checkHeader(problems, `${field}.headers[${i}]`, header, from);
  });
}

function checkRewrite(
  problems: Problems,
  field: string,
  rewrite: PathRewrite,
  path: PathMatch | undefined,
  from: Provenance,
): void {
  if (rewrite.kind === "prefix" && path?.kind !== "segments") {
    problems.add(field, "replaces a prefix, which needs a match of path segments", from);
  }
  if (rewrite.kind === "prefix" && rewrite.value === "") return;
  const problem = pathProblem(rewrite.value);
  if (problem) problems.add(field, problem, from);
}

// ------------------------------------------------------------------------------------- Backend, Endpoints and Secret

function checkBackend(problems: Problems, backend: Backend): void {
  if (!(Number.isFinite(backend.connectTimeout) && backend.connectTimeout > 0)) {
    problems.add("connectTimeout", `${backend.connectTimeout} is no number of milliseconds above 0`);
  }
  for (const name of ["connections", "pending"] as const) {
    const limit = backend.limits?.[name];
    if (limit !== undefined && !(Number.isInteger(limit) && limit >= (name === "connections" ? 1 : 0))) {
      problems.add(`limits.${name}`, `${limit} is no limit`);
    }
  }
}

function checkEndpoints(problems: Problems, endpoints: Endpoints): void {
  endpoints.endpoints.forEach((endpoint, i) => {
    const field = `endpoints[${i}]`;
    if (ipFamily(endpoint.address) === undefined) {
      problems.add(`${field}.address`, `"${endpoint.address}" is no IP address`);
    }
    checkPort(problems, `${field}.port`, endpoint.port);
    if (!Number.isInteger(endpoint.weight) || endpoint.weight < 0 || endpoint.weight > maxWeight) {
      problems.add(`${field}.weight`, `${endpoint.weight} is no whole number of 0 to ${maxWeight}`);
    }
  });
}

function checkSecret(problems: Problems, secret: Secret): void {
  if (!/^[0-9a-f]{64}$/.test(secret.fingerprint)) problems.add("fingerprint", "is no SHA-256 in hexadecimal");
  const { content } = secret;
  if (content.kind === "users") return;
  const certificates = content.kind === "certificate" ? content.certificate : content.certificates;
  if (!certificates.includes("-----BEGIN CERTIFICATE-----")) problems.add("content", "holds no PEM certificate");
  if (content.kind === "certificate" && !/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(content.privateKey.reveal())) {
    problems.add("content.privateKey", "is no PEM private key");
  }
}

// -------------------------------------------------------------------------------------------------------- Small things

/** RFC 9110 §5.6.2. */
const token = /^[A-Za-z0-9!#$%&'*+.^_`|~-]+$/;

function checkHeader(problems: Problems, field: string, header: HeaderValue, from: Provenance): void {
  checkHeaderName(problems, `${field}.name`, header.name, from);
  if (/[\r\n\0]/.test(header.value)) problems.add(`${field}.value`, "has a line break or a zero byte in it", from);
}

function checkHeaderName(problems: Problems, field: string, name: string, from: Provenance): void {
  if (!token.test(name)) problems.add(field, `"${name}" is no header name`, from);
  else if (/[A-Z]/.test(name)) problems.add(field, `header name "${name}" must be in lower case`, from);
}

function checkHost(problems: Problems, field: string, host: string, from: Provenance): void {
  const problem = host.includes("*") ? `host "${host}" must have no star` : hostPatternProblem(host);
  if (problem) problems.add(field, problem, from);
}

function checkPort(problems: Problems, field: string, port: number, from?: Provenance): void {
  if (!Number.isInteger(port) || port < 1 || port > 65535) problems.add(field, `${port} is no port`, from);
}

function pathProblem(path: string): string | undefined {
  if (!path.startsWith("/")) return `path "${path}" does not begin with "/"`;
  const wrong = /[?#\s\0]/.exec(path);
  return wrong ? `path "${path}" has ${JSON.stringify(wrong[0])} in it, which no path can have` : undefined;
}
