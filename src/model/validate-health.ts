// What is well formed of a backend's policies for the health of its endpoints: passive (outlier detection, failure accrual, and which
// answers are failures) and active. Called by `validate-upstream.ts`.

import type { Backend } from "./model.ts";
import { Numbers } from "./numbers.ts";
import { checkHeader, type Problems, pathProblem, token } from "./problems.ts";
import type { FailureAccrual, HealthCheck, OutlierDetection, StatusRange } from "./upstream-policies.ts";

export function checkHealth(problems: Problems, backend: Backend): void {
  const { outlierDetection, failureAccrual, failureStatuses, healthCheck, protocol } = backend;
  if (outlierDetection) checkOutlierDetection(problems, outlierDetection);
  if (failureAccrual) checkFailureAccrual(problems, failureAccrual);
  if (failureStatuses) checkFailureStatuses(problems, backend, failureStatuses);
  if (healthCheck) checkHealthCheck(problems, healthCheck);
  if (healthCheck?.check.kind === "grpc" && protocol !== "h2c")
    problems.add("healthCheck.check", "is of gRPC, which needs a backend of protocol h2c");
  if (healthCheck?.check.kind === "http" && protocol === "tcp")
    problems.add("healthCheck.check", "is of HTTP, which a backend of protocol tcp does not speak");
}

function checkFailureAccrual(problems: Problems, config: FailureAccrual): void {
  const numbers = new Numbers(problems, "failureAccrual.", config);
  numbers.needed("maxFailures", "minPenalty", "maxPenalty", "jitterRatio");
  numbers.whole(["maxFailures"], 1);
  numbers.time(["minPenalty", "maxPenalty"]);
  numbers.number(["jitterRatio"], 0, 100);
  if (config.minPenalty > config.maxPenalty) problems.add("failureAccrual.minPenalty", "is above maxPenalty");
  const { successRate } = config;
  if (!successRate) return;
  const of = new Numbers(problems, "failureAccrual.successRate.", successRate);
  of.needed("percent", "window", "minimumRequests");
  of.number(["percent"], 0, 100);
  of.time(["window"]);
  of.whole(["minimumRequests"], 1);
}

function checkOutlierDetection(problems: Problems, config: OutlierDetection): void {
  const numbers = new Numbers(problems, "outlierDetection.", config);
  numbers.needed("consecutive5xx", "consecutiveGatewayErrors", "maxEjectionPercent");
  numbers.needed("interval", "baseEjection", "maxEjection");
  numbers.whole(["consecutive5xx", "consecutiveGatewayErrors", "consecutiveLocalFailures"], 0);
  numbers.time(["interval", "baseEjection", "maxEjection"]);
  numbers.time(["ejectionJitter"], 0);
  if (config.baseEjection > config.maxEjection)
    problems.add("outlierDetection.baseEjection", "is above maxEjection, which no ejection may pass");
  numbers.number(["maxEjectionPercent"], 0, 100);
  const { successRate, failurePercentage } = config;
  if (successRate) {
    const of = new Numbers(problems, "outlierDetection.successRate.", successRate);
    of.needed("minimumHosts", "requestVolume", "deviationFactor");
    of.whole(["minimumHosts", "requestVolume"], 1);
    of.number(["deviationFactor"], 0);
  }
  if (failurePercentage) {
    const of = new Numbers(problems, "outlierDetection.failurePercentage.", failurePercentage);
    of.needed("threshold", "minimumHosts", "requestVolume");
    of.number(["threshold"], 0, 100);
    of.whole(["minimumHosts", "requestVolume"], 1);
  }
}

function checkHealthCheck(problems: Problems, config: HealthCheck): void {
  const numbers = new Numbers(problems, "healthCheck.", config);
  numbers.needed("interval", "timeout", "unhealthyThreshold", "healthyThreshold");
  numbers.time(["interval", "timeout"]);
  numbers.whole(["unhealthyThreshold", "healthyThreshold"], 1);
  numbers.number(["jitter"], 0, 100);
  const { check } = config;
  const field = "healthCheck.check";
  if (check.kind !== "http") {
    if (check.kind !== "grpc" && check.kind !== "tcp")
      problems.add(
        `${field}.kind`,
        `"${String((check as { kind: unknown }).kind)}" is no health check (http, grpc, tcp)`,
      );
    return;
  }
  const [path = ""] = check.path.split("?", 1);
  const problem = pathProblem(path) ?? (/[#\s\0]/.test(check.path) ? `path "${check.path}" is no path` : undefined);
  if (problem) problems.add(`${field}.path`, problem);
  if (check.host !== undefined && !/^[!-~]+$/.test(check.host))
    problems.add(`${field}.host`, `"${check.host}" is no host`);
  if (check.method !== undefined && !token.test(check.method))
    problems.add(`${field}.method`, `"${check.method}" is no method`);
  check.headers?.forEach((header, i) => {
    checkHeader(problems, `${field}.headers[${i}]`, header, problems.from);
  });
  checkStatusRanges(problems, `${field}.expected`, check.expected ?? []);
}

function checkFailureStatuses(problems: Problems, backend: Backend, statuses: readonly StatusRange[]): void {
  checkStatusRanges(problems, "failureStatuses", statuses);
  if (statuses.length === 0) problems.add("failureStatuses", "lists no status; leave it out for 500 to 599");
  if (!backend.outlierDetection && !backend.failureAccrual)
    problems.add("failureStatuses", "needs outlierDetection or failureAccrual, which go by it");
}

function checkStatusRanges(problems: Problems, field: string, ranges: readonly StatusRange[]): void {
  ranges.forEach(({ first, last }, i) => {
    if (!isStatus(first) || !isStatus(last) || first > last)
      problems.add(`${field}[${i}]`, `${first} to ${last} is no range of statuses (100 to 599)`);
  });
}

export function isStatus(status: number): boolean {
  return Number.isInteger(status) && status >= 100 && status <= 599;
}
