// What is well formed of the policies for endpoints: a backend's balancing, limits and TLS (health is in `validate-health.ts`), and a
// rule's retries, hash and persistence. Called by `validate.ts`; whether secrets that are named are there is asked there, too.

import type { Backend, Endpoint, Rule } from "./model.ts";
import { Numbers } from "./numbers.ts";
import { checkCiphers, checkPeerDemands } from "./peer-demands.ts";
import { checkHeaderName, checkStringMatch, checkTlsVersions, type Problems, token } from "./problems.ts";
import type {
  Balance,
  HashKey,
  HashPart,
  Persistence,
  Retry,
  SessionCookie,
  UpstreamTls,
  Warm,
} from "./upstream-policies.ts";
import { checkHealth, isStatus } from "./validate-health.ts";
import { checkOriginalSource } from "./validate-listeners.ts";

/** Tries of one request beside the first: more is a mistake, and would multiply an overload. */
const maxAttempts = 100;
const maxRing = 8 * 1024 * 1024;
/** Envoy's bound for Maglev tables. */
const maxTable = 5_000_011;
const maxChoices = 100;
/** Connections to one endpoint that nobody needs yet: more is a mistake. */
const maxWarm = 256;

const conditions: ReadonlySet<string> = new Set<Retry["on"][number]>([
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "retriable-4xx",
  "envoy-ratelimited",
  "refused-stream",
  "cancelled",
  "deadline-exceeded",
  "internal",
  "resource-exhausted",
  "unavailable",
]);

const sites: ReadonlySet<string> = new Set<NonNullable<SessionCookie["sameSite"]>>(["Strict", "Lax", "None"]);

export function checkUpstream(problems: Problems, backend: Backend): void {
  const { limits, retryBudget, locality, tls } = backend;
  const own = new Numbers(problems, "", backend);
  own.needed("connectTimeout");
  own.time(["connectTimeout"]);
  own.number(["panicPercent"], 0, 100);
  own.whole(["proxyProtocol"], 1, 2);
  checkBalance(problems, backend.balance);
  if (backend.originalSource) checkOriginalSource(problems, "originalSource", backend.originalSource);
  if (limits) {
    const numbers = new Numbers(problems, "limits.", limits);
    numbers.whole(["connections", "requests", "requestsPerConnection"], 1);
    // The most that SETTINGS_MAX_CONCURRENT_STREAMS can mean.
    numbers.whole(["streamsPerConnection"], 1, 2 ** 31 - 1);
    numbers.whole(["pending", "retries", "idleConnections"], 0);
    numbers.time(["connectionDuration", "idleTimeout"]);
  }
  checkConnectionCare(problems, backend);
  if (backend.warm) checkWarm(problems, backend, backend.warm);
  if (retryBudget?.kind === "concurrent") {
    const numbers = new Numbers(problems, "retryBudget.", retryBudget);
    numbers.needed("percent", "minimum");
    numbers.number(["percent"], 0, 100);
    numbers.whole(["minimum"], 0);
  } else if (retryBudget) {
    const numbers = new Numbers(problems, "retryBudget.", retryBudget);
    numbers.needed("ratio", "minPerSecond", "ttl");
    numbers.number(["ratio"], 0, 1000);
    numbers.number(["minPerSecond"], 0);
    numbers.time(["ttl"]);
  }
  if (locality) new Numbers(problems, "locality.", locality).number(["overprovisioningPercent"], 100, 10_000);
  const zones = locality?.zonePreference;
  if (zones) new Numbers(problems, "locality.zonePreference.", zones).whole(["minimum"], 0);
  checkHealth(problems, backend);
  if (tls) checkUpstreamTls(problems, tls);
}

function checkConnectionCare(problems: Problems, backend: Backend): void {
  const { protocol, useClientProtocol, limits, tcpKeepalive, http2Keepalive } = backend;
  if (useClientProtocol) {
    if (protocol === "tcp")
      problems.add("useClientProtocol", "is of HTTP, which a backend of protocol tcp does not speak");
    // Whose connections are counted, or given, by what they are for.
    for (const other of ["warm", "proxyProtocol", "originalSource"] as const)
      if (backend[other] !== undefined) problems.add("useClientProtocol", `cannot be with ${other}`);
  }
  if (tcpKeepalive) {
    const numbers = new Numbers(problems, "tcpKeepalive.", tcpKeepalive);
    // The kernel's bounds (MAX_TCP_KEEPIDLE, MAX_TCP_KEEPINTVL, MAX_TCP_KEEPCNT).
    numbers.number(["time", "interval"], 1_000, 32_767_000);
    numbers.whole(["probes"], 1, 127);
    for (const name of ["time", "interval"] as const) {
      const value = tcpKeepalive[name] ?? 0;
      if (value > 1_000 && value % 1_000 !== 0)
        problems.add(`tcpKeepalive.${name}`, `${value} is no whole number of seconds`);
    }
  }
  if (http2Keepalive) {
    const numbers = new Numbers(problems, "http2Keepalive.", http2Keepalive);
    numbers.needed("interval", "timeout");
    numbers.time(["interval", "timeout"], 10);
  }
  if (protocol === "h2c" || useClientProtocol) return;
  const ofHttp2 = { http2Keepalive, "limits.streamsPerConnection": limits?.streamsPerConnection };
  for (const [name, value] of Object.entries(ofHttp2))
    if (value !== undefined) problems.add(name, `is of HTTP/2, which a backend of protocol ${protocol} does not speak`);
}

function checkWarm(problems: Problems, { limits, protocol, proxyProtocol, originalSource }: Backend, warm: Warm): void {
  const { connections, ratio } = warm;
  const numbers = new Numbers(problems, "warm.", warm);
  numbers.whole(["connections"], 1, maxWarm);
  // Envoy's bounds.
  numbers.number(["ratio"], 1, 3);
  if (connections === undefined && ratio === undefined) problems.add("warm", "says neither connections nor ratio");
  for (const limit of ["connections", "idleConnections"] as const) {
    if (connections !== undefined && connections > (limits?.[limit] ?? Number.POSITIVE_INFINITY))
      problems.add("warm.connections", `${connections} is above limits.${limit} ${limits![limit]}`);
  }
  if (protocol === "tcp") problems.add("warm", "is for requests, which a backend of protocol tcp does not have");
  if (proxyProtocol || originalSource) {
    const way = proxyProtocol ? "proxyProtocol" : "originalSource";
    problems.add("warm", `cannot be with ${way}, where a connection speaks for one client`);
  }
}

function checkBalance(problems: Problems, balance: Balance): void {
  switch (balance.kind) {
    case "leastRequest":
      new Numbers(problems, "balance.", balance).whole(["choices"], 2, maxChoices);
      break;
    case "peakEwma":
      new Numbers(problems, "balance.", balance).time(["decay"]);
      new Numbers(problems, "balance.", balance).number(["startAt"], 0);
      break;
    case "ringHash":
      new Numbers(problems, "balance.", balance).whole(["minSize", "maxSize"], 1, maxRing);
      if ((balance.minSize ?? 0) > (balance.maxSize ?? maxRing)) problems.add("balance.minSize", "is above maxSize");
      break;
    case "maglev": {
      new Numbers(problems, "balance.", balance).whole(["tableSize"], 2, maxTable);
      const { tableSize } = balance;
      if (tableSize !== undefined && !isPrime(tableSize)) problems.add("balance.tableSize", `${tableSize} is no prime`);
      break;
    }
    case "roundRobin":
    case "random":
      break;
    default:
      problems.add("balance.kind", `"${String((balance as Balance).kind)}" is no way to balance`);
  }
  const slowStart = "slowStart" in balance ? balance.slowStart : undefined;
  if (!slowStart) return;
  const numbers = new Numbers(problems, "balance.slowStart.", slowStart);
  numbers.needed("window");
  numbers.time(["window"]);
  numbers.number(["minPercent"], 0, 100);
  numbers.number(["aggression"], 0.01, 1_000);
}

function isPrime(number: number): boolean {
  if (!Number.isInteger(number) || number < 2 || number > maxTable) return false;
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return true;
}

function checkUpstreamTls(problems: Problems, tls: UpstreamTls): void {
  if (tls.serverName !== undefined && !/^[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?$/.test(tls.serverName))
    problems.add("tls.serverName", `"${tls.serverName}" is no server name`);
  if (tls.authorities === "") problems.add("tls.authorities", "is empty");
  if (tls.certificate === "") problems.add("tls.certificate", "is empty");
  checkTlsVersions(problems, "tls", tls);
  tls.names?.forEach(({ match }, i) => {
    checkStringMatch(problems, `tls.names[${i}].match`, match, problems.from);
  });
  if (tls.names?.length === 0) problems.add("tls.names", "lists no name; leave it out for the server name");
  checkCiphers(problems, "tls.ciphers", tls.ciphers);
  checkPeerDemands(problems, "tls", tls);
  if (tls.authorities === "insecure" && tls.maxIntermediates !== undefined)
    problems.add("tls.maxIntermediates", "is of chains, which insecure does not look at: leave one of them out");
}

/** The parts of an endpoint that policies look at. */
export function checkEndpointPlace(problems: Problems, field: string, endpoint: Endpoint): void {
  // 127 is the last level that Envoy has; nobody has more than a handful.
  new Numbers(problems, `${field}.`, endpoint).whole(["priority"], 0, 127);
}

export function checkRulePolicies(problems: Problems, prefix: string, rule: Rule): void {
  if (rule.timeouts)
    new Numbers(problems, `${prefix}timeouts.`, rule.timeouts).time(
      ["request", "response", "perTry", "idle", "stream"],
      0,
    );
  if (rule.retry) checkRetry(problems, `${prefix}retry.`, rule.retry);
  if (rule.retry?.hedge && !rule.timeouts?.perTry)
    problems.add(`${prefix}retry.hedge`, "needs timeouts.perTry, the time after which a try is late");
  // Envoy does not hedge where its policy names no condition (its router keeps no state of retries then).
  const { hedge, on, statuses, headers = [] } = rule.retry ?? { on: [], statuses: [] };
  if (hedge && on.length + statuses.length + headers.length === 0)
    problems.add(
      `${prefix}retry.hedge`,
      "needs a condition in retry.on, a status in retry.statuses or a header in retry.headers: without one there are no other tries",
    );
  rule.hash?.forEach((key, i) => {
    checkHashKey(problems, `${prefix}hash[${i}]`, key, rule);
  });
  if (rule.persistence) checkPersistence(problems, `${prefix}persistence`, rule.persistence, rule);
}

function checkRetry(problems: Problems, field: string, retry: Retry): void {
  const numbers = new Numbers(problems, field, retry);
  numbers.needed("attempts");
  numbers.whole(["attempts"], 0, maxAttempts);
  numbers.time(["retryAfter", "within"], 0);
  numbers.whole(["otherPriorities"], 1, maxAttempts);
  retry.on.forEach((one, i) => {
    if (!conditions.has(one))
      problems.add(`${field}on[${i}]`, `"${one}" is no condition (${[...conditions].join(", ")})`);
  });
  retry.statuses.forEach((status, i) => {
    if (!isStatus(status)) problems.add(`${field}statuses[${i}]`, `${status} is no HTTP status (100 to 599)`);
  });
  retry.headers?.forEach((header, i) => {
    checkHeaderName(problems, `${field}headers[${i}].name`, header.name, problems.from);
    checkStringMatch(problems, `${field}headers[${i}].match`, header.match, problems.from);
  });
  const backoff = new Numbers(problems, `${field}backoff.`, retry.backoff);
  backoff.needed("base", "max");
  backoff.time(["base", "max"], 0);
  if (retry.backoff.base > retry.backoff.max) problems.add(`${field}backoff.base`, "is above max");
  retry.methods?.forEach((method, i) => {
    if (!token.test(method)) problems.add(`${field}methods[${i}]`, `"${method}" is no method`);
  });
}

function checkHashKey(problems: Problems, field: string, key: HashKey, rule: Rule): void {
  if (key.kind !== "joined") {
    checkHashPart(problems, field, key, rule);
    return;
  }
  if (key.parts.length < 2) problems.add(`${field}.parts`, "joins less than two parts: name the part alone", rule.from);
  key.parts.forEach((part, i) => {
    checkHashPart(problems, `${field}.parts[${i}]`, part, rule);
    if (part.kind === "cookie" && (part as SessionCookie).ttl !== undefined)
      problems.add(`${field}.parts[${i}].ttl`, "a cookie that is a part of a key is not made: leave it out", rule.from);
  });
}

function checkHashPart(problems: Problems, field: string, part: HashPart | HashKey, { from }: Rule): void {
  switch (part.kind) {
    case "header":
      checkHeaderName(problems, `${field}.name`, part.name, from);
      break;
    case "query":
      if (part.name === "") problems.add(`${field}.name`, "is empty", from);
      break;
    case "cookie":
      checkCookie(problems, field, part, from);
      break;
    case "source":
    case "host":
    case "method":
    case "path":
    case "uri":
      break;
    default:
      problems.add(`${field}.kind`, `"${String(part.kind)}" cannot be hashed`, from);
  }
}

function checkPersistence(problems: Problems, field: string, { carrier }: Persistence, { from }: Rule): void {
  if (carrier.kind === "header") checkHeaderName(problems, `${field}.carrier.name`, carrier.name, from);
  else checkCookie(problems, `${field}.carrier`, carrier, from);
}

function checkCookie(
  problems: Problems,
  field: string,
  { name, path, ttl, domain, secure, sameSite }: SessionCookie,
  from: Rule["from"],
): void {
  if (!token.test(name)) problems.add(`${field}.name`, `"${name}" is no cookie name`, from);
  if (path !== undefined && !/^\/[!-:<-~]*$/.test(path)) problems.add(`${field}.path`, `"${path}" is no path`, from);
  if (ttl !== undefined && !(Number.isInteger(ttl) && ttl >= 0))
    problems.add(`${field}.ttl`, `${ttl} is no whole number of seconds`, from);
  if (domain !== undefined && !/^[A-Za-z0-9]([A-Za-z0-9.-]*[A-Za-z0-9])?$/.test(domain))
    problems.add(`${field}.domain`, `"${domain}" is no domain`, from);
  if (sameSite !== undefined && !sites.has(sameSite))
    problems.add(`${field}.sameSite`, `"${sameSite}" is none of ${[...sites].join(", ")}`, from);
  if (sameSite === "None" && secure === false)
    problems.add(`${field}.secure`, "false with sameSite None is a cookie that browsers do not take", from);
}
