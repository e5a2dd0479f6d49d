// The rules of one HTTPRoute as rules of the model, each match with its sort key, before anything is known of where they are
// served. What a rule asks for and cannot have becomes an answer of 500 in its place, and is said.

import type { HTTPRouteRule } from "../../api/kinds.ts";
import { nameOf } from "../../api/object.ts";
import type { Action, Filter, Match, Rule, Timeouts } from "../../model/model.ts";
import type { Provenance } from "../../model/provenance.ts";
import type { Finding } from "../../model/status-update.ts";
import { validateRule } from "../../model/validate.ts";
import { type RefContext, type RefProblem, translateBackendRef } from "./backend-refs.ts";
import { parseDuration } from "./duration.ts";
import { finding } from "./findings.ts";
import type { Verdict } from "./gateway-plan.ts";
import { answer, type RouteKey } from "./names.ts";
import { compareSortKeys, type SortKey, sortKey } from "./precedence.ts";
import { translateFilters } from "./route-filters.ts";
import { translateMatch } from "./route-match.ts";
import { requestTimeout } from "./route-timeouts.ts";
import type { RouteView } from "./views.ts";

export interface KeyedRule {
  readonly sort: SortKey;
  readonly rule: Rule;
}

export interface RouteRules {
  readonly key: RouteKey;
  /** In the order of their sort keys. */
  readonly rules: readonly KeyedRule[];
  readonly resolved: Verdict;
  /** `ok` when every rule can be served as it is written. */
  readonly complete: Verdict;
  /** None of the rules can be served as it is written. */
  readonly hopeless: boolean;
  readonly findings: readonly Finding[];
}

/** Something that a rule asks for and cannot have. */
interface RuleProblem {
  readonly field: string;
  readonly reason: string;
  readonly message: string;
}

const everything = [{}];

export function translateRules(route: RouteView, context: RefContext): RouteRules {
  const object = { kind: "HTTPRoute", namespace: route.namespace, name: route.name };
  const findings: Finding[] = [];
  const rules: KeyedRule[] = [];
  const refProblems: RefProblem[] = [];
  const ruleProblems: RuleProblem[] = [];
  let served = 0;

  const specRules: readonly HTTPRouteRule[] = route.spec.rules ?? [{}];
  specRules.forEach((specRule, r) => {
    const translated = translateRule(route, specRule, r, context);
    for (const problem of translated.refProblems) {
      findings.push(finding(object, problem.field, problem.reason, "error", problem.message, problem.remedy));
    }
    for (const problem of translated.problems) {
      const remedy = "remove it, or wait for a version that serves it: requests of this rule are answered 500";
      findings.push(finding(object, problem.field, problem.reason, "error", problem.message, remedy));
    }
    for (const [field, problem] of translated.unread) {
      findings.push(finding(object, field, "NotSupported", "warning", problem, `remove ${field}`));
    }
    refProblems.push(...translated.refProblems);
    ruleProblems.push(...translated.problems);
    if (translated.rules.some((rule) => rule.action.kind !== "respond")) served++;
    translated.rules.forEach((rule, m) => {
      rules.push({ sort: sortKey(rule.match, route.created, route.key, r * 1000 + m), rule });
    });
  });
  rules.sort((a, b) => compareSortKeys(a.sort, b.sort));

  return {
    key: route.key,
    rules,
    resolved: verdict(refProblems, "ResolvedRefs", "all references resolve"),
    complete: verdict(ruleProblems, "Accepted", "all rules are served"),
    hopeless: served === 0,
    findings,
  };
}

function verdict(problems: readonly RuleProblem[], reason: string, message: string): Verdict {
  const first = problems[0];
  if (!first) return { ok: true, reason, message };
  const messages = problems.map((problem) => `${problem.field}: ${problem.message}`);
  return { ok: false, reason: first.reason, message: messages.join("; ") };
}

interface TranslatedRule {
  /** One for each match. */
  readonly rules: readonly Rule[];
  readonly refProblems: readonly RefProblem[];
  readonly problems: readonly RuleProblem[];
  /** Fields that are left aside without changing where requests go. */
  readonly unread: readonly (readonly [field: string, problem: string])[];
}

function translateRule(route: RouteView, specRule: HTTPRouteRule, r: number, context: RefContext): TranslatedRule {
  const field = `spec.rules[${r}]`;
  const from: Provenance = { kind: "HTTPRoute", namespace: route.namespace, name: route.name, field };
  const name = nameOf(route.namespace, specRule.name ? `${route.name}/${specRule.name}` : route.name);
  const problems: RuleProblem[] = [];
  const refProblems: RefProblem[] = [];

  const ruleFilters = translateFilters(specRule.filters ?? [], { ...from, field: `${field}.filters` }, false);
  const { timeouts, unread, problems: timeoutProblems } = translateTimeouts(specRule, field);
  problems.push(...ruleFilters.problems, ...timeoutProblems);
  const ruleProblem = problems[0];
  const to = (specRule.backendRefs ?? []).map((ref, b) => {
    const at: Provenance = { ...from, field: `${field}.backendRefs[${b}]` };
    const translated = translateBackendRef(ref, route, at, context);
    if (translated.refProblem) refProblems.push(translated.refProblem);
    problems.push(...translated.filterProblems);
    return translated.backend;
  });
  const action: Action = ruleFilters.redirect ?? { kind: "forward", to };

  const rules = (specRule.matches?.length ? specRule.matches : everything).map((specMatch, m): Rule => {
    const match = translateMatch(specMatch, { ...from, field: `${field}.matches[${m}]` });
    const wanted: Rule = { from, name, match, filters: ruleFilters.filters, action, ...(timeouts ? { timeouts } : {}) };
    return checked(wanted, ruleProblem, problems);
  });
  return { rules, refProblems, problems: distinct(problems), unread };
}

/** A rule as it is asked for, or, when something in it cannot be had, one that answers 500 to the same requests. */
function checked(asked: Rule, ruleProblem: RuleProblem | undefined, problems: RuleProblem[]): Rule {
  const wanted = ruleProblem ? refused(asked, asked.match, ruleProblem) : asked;
  const invalid = validateRule(wanted).map((problem): RuleProblem & { readonly inMatch: boolean } => ({
    field: problem.from.field,
    reason: "UnsupportedValue",
    message: problem.message,
    inMatch: problem.field.startsWith("match"),
  }));
  if (invalid.length === 0) return wanted;
  problems.push(...invalid.map(({ field, reason, message }) => ({ field, reason, message })));
  // A match that cannot be evaluated takes nothing: answering 500 to more than it asked for would harm other routes.
  const match: Match = invalid.some((problem) => problem.inMatch)
    ? { from: wanted.match.from, not: [{}] }
    : wanted.match;
  return refused(wanted, match, invalid[0]!);
}

function refused(wanted: Rule, match: Match, problem: RuleProblem): Rule {
  const filters: readonly Filter[] = [];
  const route = nameOf(wanted.from.namespace, wanted.from.name);
  const reason = `HTTPRoute ${route}: ${problem.field}: ${problem.message}`;
  const action = answer(500, reason, "the route cannot be served as it is configured");
  return { from: wanted.from, name: wanted.name, match, filters, action };
}

function translateTimeouts(
  specRule: HTTPRouteRule,
  field: string,
): { timeouts: Timeouts | undefined; unread: TranslatedRule["unread"]; problems: readonly RuleProblem[] } {
  const problems: RuleProblem[] = [];
  const read = (name: "request" | "backendRequest"): number | undefined => {
    const text = specRule.timeouts?.[name];
    if (text === undefined) return undefined;
    const value = parseDuration(text);
    if (value === undefined) {
      const at = `${field}.timeouts.${name}`;
      problems.push({ field: at, reason: "UnsupportedValue", message: `"${text}" is no duration (10s, 500ms, 1h30m)` });
    }
    return value;
  };
  const request = requestTimeout(read("request"), read("backendRequest"));
  const unread: (readonly [string, string])[] = [];
  if (specRule.retry) unread.push([`${field}.retry`, "retries are not done yet: every request is tried once"]);
  if (specRule.sessionPersistence) {
    unread.push([`${field}.sessionPersistence`, "sessions are not kept yet: every request is balanced anew"]);
  }
  return { timeouts: request === undefined ? undefined : { request }, unread, problems };
}

/** The rules of one HTTPRoute rule, one a match, have the same problems but for those of the matches. */
function distinct(problems: readonly RuleProblem[]): readonly RuleProblem[] {
  const seen = new Map(problems.map((problem) => [`${problem.field} ${problem.message}`, problem]));
  return [...seen.values()];
}
