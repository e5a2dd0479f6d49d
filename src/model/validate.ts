// What is well formed: the checks that a resource must pass before a proxy takes it, and that dialects pass their own rules
// through before they hand them on. Structure only; whether names refer to something is `validateModel`'s question.

import { messageOf } from "../base/errors.ts";
import { ipFamily } from "../base/ip.ts";
import { atOnce, type Steps } from "../base/steps.ts";
import { checkConnect } from "./connect.ts";
import { filterReferences } from "./filter-references.ts";
import { hostPatternProblem } from "./host-pattern.ts";
import { parseHtpasswd } from "./htpasswd.ts";
import { checkTelemetry } from "./listener-telemetry.ts";
import type {
  Backend,
  Endpoints,
  Listener,
  Match,
  Model,
  PathMatch,
  Redirect,
  ResourceOf,
  ResourceType,
  RouteTable,
  Rule,
  Secret,
  WeightedBackend,
} from "./model.ts";
import { resourceName, resourceTypes } from "./model.ts";
import {
  checkHeaderName,
  checkHost,
  checkKind,
  checkPath,
  checkPort,
  checkRange,
  checkRespond,
  checkRewrite,
  checkValueMatch,
  type Problem,
  Problems,
  token,
} from "./problems.ts";
import type { Provenance } from "./provenance.ts";
import { readRevocationLists } from "./revocation-list.ts";
import { checkFilter } from "./validate-filters.ts";
import { checkListener } from "./validate-listeners.ts";
import { checkEndpointPlace, checkRulePolicies, checkUpstream } from "./validate-upstream.ts";

/** The largest weight of a backend reference (Gateway API, BackendRef.weight). */
const maxWeight = 1_000_000;

/** What is wrong with one resource on its own; empty when nothing is. */
export function validateResource<T extends ResourceType>(type: T, resource: ResourceOf[T]): readonly Problem[] {
  return atOnce(validation(type, resource));
}

/** {@link validateResource} in steps: a rule of a table each, or some endpoints. */
export function* validation<T extends ResourceType>(type: T, resource: ResourceOf[T]): Steps<readonly Problem[]> {
  const problems = new Problems(resource.from);
  const name: unknown = resourceName(type, resource);
  if (typeof name !== "string" || name === "") problems.add("name", name === "" ? "is empty" : "is no text");
  switch (type) {
    case "listeners":
      checkListener(problems, resource as Listener, (field, share) => {
        checkWeighted(problems, field, share, undefined);
      });
      checkTelemetry(problems, resource as Listener);
      break;
    case "routeTables":
      yield* checkRouteTable(problems, resource as RouteTable);
      break;
    case "backends":
      checkUpstream(problems, resource as Backend);
      break;
    case "endpoints":
      yield* checkEndpoints(problems, resource as Endpoints);
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
    const collector = listener.tracing?.backend;
    if (collector !== undefined && !model.backends.has(collector))
      dangling(listener.from, "tracing.backend", "backend", collector);
    listener.chains.forEach((chain, c) => {
      const field = `chains[${c}]`;
      chain.tls?.certificates.forEach((name, i) => {
        checkSecretReference(chain.from, `${field}.tls.certificates[${i}]`, name, "certificate", "a certificate");
      });
      const authorities = chain.tls?.clients?.authorities;
      if (authorities !== undefined) {
        checkSecretReference(chain.from, `${field}.tls.clients.authorities`, authorities, "authorities", "authorities");
      }
      if ("routes" in chain.serve) {
        const name = chain.serve.routes;
        if (!model.routeTables.has(name)) dangling(chain.from, `${field}.serve.routes`, "route table", name);
      } else checkReferences(`${field}.serve.tcp`, chain.serve.tcp);
    });
  }
  for (const table of model.routeTables.values()) {
    table.hosts.forEach((host, h) => {
      host.rules.forEach((rule, r) => {
        const field = `hosts[${h}].rules[${r}]`;
        checkFilters(`${field}.filters`, rule.filters);
        if (rule.action.kind === "forward") checkReferences(`${field}.action.to`, rule.action.to);
      });
    });
  }
  for (const { from, tls } of model.backends.values()) {
    const authorities = tls?.authorities;
    if (authorities !== undefined && authorities !== "system" && authorities !== "insecure")
      checkSecretKind(from, "tls.authorities", authorities, "authorities");
    if (tls?.certificate !== undefined) checkSecretKind(from, "tls.certificate", tls.certificate, "certificate");
  }
  for (const endpoints of model.endpoints.values()) {
    if (!model.backends.has(endpoints.backend)) dangling(endpoints.from, "backend", "backend", endpoints.backend);
  }
  return problems;

  function checkFilters(field: string, filters: Rule["filters"]): void {
    filters.forEach((filter, i) => {
      const { backends, secrets } = filterReferences(filter);
      for (const { field: part, name, grpc } of backends) {
        const backend = model.backends.get(name);
        if (!backend) dangling(filter.from, `${field}[${i}].${part}`, "backend", name);
        else if (grpc && backend.protocol !== "h2c") {
          const message = `backend ${name} speaks ${backend.protocol}, and gRPC needs h2c`;
          problems.push({ field: `${field}[${i}].${part}`, message, from: filter.from });
        }
      }
      for (const { field: part, name } of secrets) {
        const secret = model.secrets.get(name);
        if (!secret) dangling(filter.from, `${field}[${i}].${part}`, "secret", name);
        else if (secret.content.kind !== "users") {
          const message = `secret ${name} holds ${secret.content.kind}, not users`;
          problems.push({ field: `${field}[${i}].${part}`, message, from: filter.from });
        }
      }
    });
  }

  function checkSecretKind(from: Provenance, field: string, name: string, kind: "authorities" | "certificate"): void {
    const secret = model.secrets.get(name);
    const holds = kind === "certificate" ? "not a certificate" : "not authorities";
    if (!secret) dangling(from, field, "secret", name);
    else if (secret.content.kind !== kind)
      problems.push({ field, message: `secret ${name} holds ${secret.content.kind}, ${holds}`, from });
  }

  function checkSecretReference(
    from: Provenance,
    field: string,
    name: string,
    kind: Secret["content"]["kind"],
    what: string,
  ): void {
    const secret = model.secrets.get(name);
    if (!secret) dangling(from, field, "secret", name);
    else if (secret.content.kind !== kind) {
      problems.push({ field, message: `secret ${name} holds ${secret.content.kind}, not ${what}`, from });
    }
  }

  function checkReferences(field: string, to: readonly WeightedBackend[]): void {
    to.forEach((one, i) => {
      checkFilters(`${field}[${i}].filters`, one.filters);
      if ("backend" in one.target && !model.backends.has(one.target.backend)) {
        dangling(one.from, `${field}[${i}].target.backend`, "backend", one.target.backend);
      }
    });
  }
}

// -------------------------------------------------------------------------------------------------------- RouteTable

function* checkRouteTable(problems: Problems, table: RouteTable): Steps<void> {
  const seen = new Set<string>();
  for (const [h, host] of table.hosts.entries()) {
    for (const [i, name] of host.names.entries()) {
      const problem = hostPatternProblem(name);
      if (problem) problems.add(`hosts[${h}].names[${i}]`, problem, host.rules[0]?.from);
      if (seen.has(name))
        problems.add(`hosts[${h}].names[${i}]`, `host "${name}" has two entries`, host.rules[0]?.from);
      seen.add(name);
    }
    for (const [r, rule] of host.rules.entries()) {
      if (sound.has(rule)) {
        if (r % 64 === 0) yield;
        continue;
      }
      yield;
      const before = problems.found.length;
      checkRule(problems, `hosts[${h}].rules[${r}].`, rule);
      if (problems.found.length === before) sound.add(rule);
    }
    yield;
  }
}

/** Rules without a problem: they are immutable, and come again with every change of their table. */
const sound = new WeakSet<Rule>();

function checkRule(problems: Problems, prefix: string, rule: Rule): void {
  if (typeof rule.match !== "object" || Array.isArray(rule.match)) {
    problems.add(`${prefix}match`, "is no set of conditions", rule.from);
    return;
  }
  checkMatch(problems, `${prefix}match`, rule.match, rule.from);
  rule.filters.forEach((filter, i) => {
    checkFilter(problems, `${prefix}filters[${i}]`, filter, rule.match.path);
  });
  checkRulePolicies(problems, prefix, rule);
  const field = `${prefix}action`;
  checkConnect(problems, field, rule);
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
    default:
      checkKind(problems, field, (rule.action as { kind: string }).kind, ["forward", "redirect", "respond"], rule.from);
  }
}

function checkMatch(problems: Problems, field: string, match: Match, from: Provenance): void {
  const at = match.from ?? from;
  if (match.path) checkPath(problems, `${field}.path`, match.path, at);
  if (match.method !== undefined && !token.test(match.method)) {
    problems.add(`${field}.method`, `"${match.method}" is no method`, at);
  }
  if (match.scheme !== undefined && match.scheme !== "http" && match.scheme !== "https") {
    problems.add(`${field}.scheme`, `${JSON.stringify(match.scheme)} is none of http, https`, at);
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
    checkRange(problems, `${field}.source[${i}]`, range, at);
  });
  match.not?.forEach((excluded, i) => {
    checkMatch(problems, `${field}.not[${i}]`, excluded, at);
  });
}

function checkWeighted(problems: Problems, field: string, to: WeightedBackend, path: PathMatch | undefined): void {
  if (!Number.isInteger(to.weight) || to.weight < 0 || to.weight > maxWeight) {
    problems.add(`${field}.weight`, `${to.weight} is no whole number of 0 to ${maxWeight}`, to.from);
  }
  if ("respond" in to.target) checkRespond(problems, `${field}.target.respond`, to.target.respond, to.from);
  else if (typeof to.target.backend !== "string" || to.target.backend === "")
    problems.add(`${field}.target.backend`, to.target.backend === "" ? "is empty" : "is no text", to.from);
  to.filters.forEach((filter, i) => {
    checkFilter(problems, `${field}.filters[${i}]`, filter, path);
  });
}

function checkRedirect(problems: Problems, field: string, redirect: Redirect, rule: Rule): void {
  if (redirect.host !== undefined) checkHost(problems, `${field}.host`, redirect.host, rule.from);
  if (redirect.port !== undefined) checkPort(problems, `${field}.port`, redirect.port, rule.from);
  if (redirect.path) checkRewrite(problems, `${field}.path`, redirect.path, rule.match.path, rule.from);
  if (redirect.query !== undefined && !/^[!"$-~]*$/.test(redirect.query))
    problems.add(
      `${field}.query`,
      `"${redirect.query}" is no query: escape what is not printable ASCII, and #`,
      rule.from,
    );
  if (![300, 301, 302, 303, 307, 308].includes(redirect.status)) {
    problems.add(`${field}.status`, `${redirect.status} is no redirect status (300 to 303, 307, 308)`, rule.from);
  }
}

// ------------------------------------------------------------------------------------- Backend, Endpoints and Secret

function* checkEndpoints(problems: Problems, { endpoints }: Endpoints): Steps<void> {
  for (const [i, endpoint] of endpoints.entries()) {
    if (i % 16 === 15) yield;
    const field = `endpoints[${i}]`;
    if (ipFamily(endpoint.address) === undefined) {
      problems.add(`${field}.address`, `"${endpoint.address}" is no IP address`);
    }
    checkPort(problems, `${field}.port`, endpoint.port);
    checkEndpointPlace(problems, field, endpoint);
    if (!Number.isInteger(endpoint.weight) || endpoint.weight < 0 || endpoint.weight > maxWeight) {
      problems.add(`${field}.weight`, `${endpoint.weight} is no whole number of 0 to ${maxWeight}`);
    }
  }
}

function checkSecret(problems: Problems, secret: Secret): void {
  if (!/^[0-9a-f]{64}$/.test(secret.fingerprint)) problems.add("fingerprint", "is no SHA-256 in hexadecimal");
  const { content } = secret;
  if (content.kind === "users") {
    const { users, problems: lines } = parseHtpasswd(content.lines.reveal());
    for (const problem of lines) problems.add("content.lines", problem);
    if (users.size === 0 && lines.length === 0) problems.add("content.lines", "names no user");
    return;
  }
  const certificates = content.kind === "certificate" ? content.certificate : content.certificates;
  if (!certificates.includes("-----BEGIN CERTIFICATE-----")) problems.add("content", "holds no PEM certificate");
  if (content.kind === "authorities" && content.revocationLists !== undefined) {
    try {
      readRevocationLists(content.revocationLists, certificates);
    } catch (error) {
      problems.add("content.revocationLists", messageOf(error));
    }
  }
  if (content.kind === "certificate" && !/-----BEGIN [A-Z ]*PRIVATE KEY-----/.test(content.privateKey.reveal())) {
    problems.add("content.privateKey", "is no PEM private key");
  }
}
