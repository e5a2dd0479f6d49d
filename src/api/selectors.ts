// Label selectors, as text (`app=a,tier in (b,c),!old`) and as objects (LabelSelector), and field selectors. The grammar and
// the error texts are apimachinery's labels.Parse and fields.ParseSelector.

import { isRecord, quote, valueAt } from "./data.ts";
import type { KubeObject } from "./object.ts";
import { type Resource, resourceKey } from "./resource.ts";
import type { Scheme } from "./scheme.ts";
import { StatusError } from "./status-error.ts";
import { labelNameProblems, labelValueProblems } from "./validation/names.ts";

export type Labels = Readonly<Record<string, string>>;

export interface LabelSelectorObject {
  readonly matchLabels?: Labels;
  readonly matchExpressions?: readonly {
    readonly key: string;
    readonly operator: string;
    readonly values?: readonly string[];
  }[];
}

/** One parsed term. */
export interface Requirement {
  readonly key: string;
  readonly operator: "=" | "!=" | "in" | "notin" | "exists" | "!" | "gt" | "lt";
  readonly values: readonly string[];
}

export interface LabelSelection {
  readonly requirements: readonly Requirement[];
  matches(labels: Labels | undefined): boolean;
}

export interface FieldRequirement {
  readonly field: string;
  readonly operator: "=" | "!=";
  readonly value: string;
}

export interface FieldSelection {
  readonly requirements: readonly FieldRequirement[];
  matches(object: KubeObject): boolean;
}

/** Whether labels satisfy a LabelSelector; an empty selector takes all, an absent one takes none. */
export function matchesLabelSelector(selector: LabelSelectorObject | undefined, labels: Labels | undefined): boolean {
  if (!selector) return false;
  for (const [key, value] of Object.entries(selector.matchLabels ?? {})) {
    if (labels?.[key] !== value) return false;
  }
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const has = labels !== undefined && Object.hasOwn(labels, key);
    if (
      operator === "In"
        ? !(has && values.includes(labels[key]!))
        : operator === "NotIn"
          ? has && values.includes(labels[key]!)
          : operator === "Exists"
            ? !has
            : has
    ) {
      return false;
    }
  }
  return true;
}

/** The text of a LabelSelector, as `kubectl get` prints it (metav1.FormatLabelSelector). */
export function formatLabelSelector(selector: LabelSelectorObject | undefined): string {
  if (!selector) return "<none>";
  const parts = Object.entries(selector.matchLabels ?? {}).map(([key, value]) => ({ key, text: `${key}=${value}` }));
  for (const { key, operator, values = [] } of selector.matchExpressions ?? []) {
    const list = [...values].sort().join(",");
    const text =
      operator === "In"
        ? `${key} in (${list})`
        : operator === "NotIn"
          ? `${key} notin (${list})`
          : operator === "Exists"
            ? key
            : `!${key}`;
    parts.push({ key, text });
  }
  if (parts.length === 0) return "<none>";
  return parts
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0))
    .map((part) => part.text)
    .join(",");
}

type Token = { readonly kind: "word" | "symbol" | "end"; readonly text: string };

/** Parses `labelSelector=`. Throws a BadRequest StatusError with upstream's text. */
export function parseLabelSelector(text: string): LabelSelection {
  const tokens = lex(text);
  let at = 0;
  const requirements: Requirement[] = [];
  const peek = () => tokens[at]!;
  const take = () => tokens[at++] ?? tokens.at(-1)!;
  if (peek().kind !== "end") {
    for (;;) {
      requirements.push(requirement());
      const next = take();
      if (next.kind === "end") break;
      if (next.text !== ",") throw bad(`found '${next.text}', expected: ',' or 'end of string'`);
      const after = peek();
      if (after.kind !== "word" && after.text !== "!")
        throw bad(`found '${after.text}', expected: identifier after ','`);
    }
  }
  requirements.sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0));
  return { requirements, matches: (labels) => requirements.every((one) => meets(one, labels)) };

  function requirement(): Requirement {
    const negated = peek().text === "!" && peek().kind === "symbol";
    if (negated) take();
    const word = take();
    if (word.kind !== "word") throw unparsed(`found '${word.text}', expected: identifier`);
    const key = word.text;
    const problem = labelNameProblems(key)[0];
    if (problem) throw unparsed(`key: Invalid value: ${quote(key)}: ${problem}`);
    if (negated) return { key, operator: "!", values: [] };
    const next = peek();
    if (next.kind === "end" || next.text === ",") return { key, operator: "exists", values: [] };
    take();
    const operator = operatorOf(next);
    if (operator === "in" || operator === "notin") return checked(key, operator, list());
    const value = peek();
    if (value.kind === "end" || value.text === ",") return checked(key, operator, [""]);
    take();
    if (value.kind !== "word") throw unparsed(`found '${value.text}', expected: identifier`);
    return checked(key, operator, [value.text]);
  }

  function list(): string[] {
    const open = take();
    if (open.text !== "(") throw unparsed(`found '${open.text}', expected: '('`);
    const values: string[] = [];
    let wantValue = true;
    for (;;) {
      const token = take();
      if (token.kind === "word") {
        if (!wantValue) throw unparsed(`found '${token.text}', expected: ',' or ')'`);
        values.push(token.text);
        wantValue = false;
      } else if (token.text === ",") {
        if (wantValue) values.push("");
        wantValue = true;
      } else if (token.text === ")") {
        if (wantValue) values.push("");
        return values;
      } else {
        throw unparsed(
          wantValue
            ? `found '${token.text}', expected: ',', ')' or identifier`
            : `found '${token.text}', expected: ',' or ')'`,
        );
      }
    }
  }
}

function checked(key: string, operator: Requirement["operator"], values: readonly string[]): Requirement {
  if (operator === "gt" || operator === "lt") {
    if (!/^-?\d+$/.test(values[0] ?? "")) {
      throw unparsed(
        `values[0]: Invalid value: ${quote(values[0] ?? "")}: for 'Gt', 'Lt' operators, the value must be an integer`,
      );
    }
    return { key, operator, values };
  }
  for (const [index, value] of values.entries()) {
    const problem = labelValueProblems(value)[0];
    if (problem) throw unparsed(`values[${index}][${key}]: Invalid value: ${quote(value)}: ${problem}`);
  }
  return { key, operator, values };
}

const bad = (text: string) => new StatusError(400, "BadRequest", text);
const unparsed = (text: string) => bad(`unable to parse requirement: ${text}`);

function operatorOf(token: Token): Requirement["operator"] {
  switch (token.text) {
    case "=":
    case "==":
      return "=";
    case "!=":
      return "!=";
    case "in":
      return "in";
    case "notin":
      return "notin";
    case ">":
      return "gt";
    case "<":
      return "lt";
    default:
      throw unparsed(`found '${token.text}', expected: in, notin, =, ==, !=, gt, lt`);
  }
}

function lex(text: string): Token[] {
  const tokens: Token[] = [];
  const pattern = /\s*(?:(==|!=|[=!,()<>])|([^\s=!,()<>]+))/gy;
  for (;;) {
    const match = pattern.exec(text);
    if (!match) break;
    if (match[1] !== undefined) tokens.push({ kind: "symbol", text: match[1] });
    else tokens.push({ kind: "word", text: match[2]! });
  }
  tokens.push({ kind: "end", text: "" });
  return tokens;
}

function meets({ key, operator, values }: Requirement, labels: Labels | undefined): boolean {
  const has = labels !== undefined && Object.hasOwn(labels, key);
  const value = has ? labels[key]! : "";
  switch (operator) {
    case "=":
    case "in":
      return has && values.includes(value);
    case "!=":
    case "notin":
      return !has || !values.includes(value);
    case "exists":
      return has;
    case "!":
      return !has;
    case "gt":
      return has && Number.parseInt(value, 10) > Number.parseInt(values[0]!, 10);
    case "lt":
      return has && Number.parseInt(value, 10) < Number.parseInt(values[0]!, 10);
  }
}

/** Fields that selectors of built-in kinds may name, besides metadata.name and metadata.namespace. */
const selectable: Readonly<Record<string, readonly string[]>> = {
  pods: [
    "spec.nodeName",
    "spec.restartPolicy",
    "spec.schedulerName",
    "spec.serviceAccountName",
    "spec.hostNetwork",
    "status.phase",
    "status.podIP",
    "status.podIPs",
    "status.nominatedNodeName",
  ],
  nodes: ["spec.unschedulable"],
  namespaces: ["status.phase"],
  secrets: ["type"],
  services: ["spec.clusterIP", "spec.type"],
  replicationcontrollers: ["status.replicas"],
  events: [
    "involvedObject.kind",
    "involvedObject.namespace",
    "involvedObject.name",
    "involvedObject.uid",
    "involvedObject.apiVersion",
    "involvedObject.resourceVersion",
    "involvedObject.fieldPath",
    "reason",
    "reportingComponent",
    "source",
    "type",
  ],
  "events.events.k8s.io": [
    "reason",
    "type",
    "reportingController",
    "regarding.kind",
    "regarding.namespace",
    "regarding.name",
    "regarding.uid",
  ],
  "jobs.batch": ["status.successful"],
  "certificatesigningrequests.certificates.k8s.io": ["spec.signerName"],
  "ipaddresses.networking.k8s.io": ["spec.parentRef.namespace", "spec.parentRef.name", "spec.parentRef.resource"],
};

/** Parses `fieldSelector=` for a resource. Throws a BadRequest StatusError with upstream's text. */
export function parseFieldSelector(scheme: Scheme, resource: Resource, text: string): FieldSelection {
  const allowed = [
    ...(selectable[resourceKey(resource)] ?? []),
    ...(scheme.entry(resource).selectableFields ?? []).map((path) => path.replace(/^\./, "")),
  ];
  const requirements: FieldRequirement[] = [];
  for (const term of splitTerms(text)) {
    if (term === "") continue;
    const match = /^((?:[^=!\\]|\\.)*?)(==|!=|=)(.*)$/s.exec(term);
    if (!match) throw new StatusError(400, "BadRequest", `invalid selector: '${text}'; can't understand '${term}'`);
    const field = match[1]!;
    const known = field === "metadata.name" || field === "metadata.namespace" || allowed.includes(field);
    if (!known) throw new StatusError(400, "BadRequest", unsupported(scheme, resource, field));
    requirements.push({
      field,
      operator: match[2] === "!=" ? "!=" : "=",
      value: match[3]!.replace(/\\([\\,=])/g, "$1"),
    });
  }
  return {
    requirements,
    matches: (object) =>
      requirements.every((one) => (fieldText(object, one.field) === one.value) === (one.operator === "=")),
  };
}

function unsupported(scheme: Scheme, resource: Resource, field: string): string {
  const key = resourceKey(resource);
  if (key === "jobs.batch") return `field label ${quote(field)} not supported for Job`;
  if (scheme.entry(resource).custom || Object.hasOwn(selectable, key)) return `field label not supported: ${field}`;
  return `${quote(field)} is not a known field selector: only "metadata.name", "metadata.namespace"`;
}

function splitTerms(text: string): string[] {
  const terms: string[] = [];
  let start = 0;
  for (let at = 0; at < text.length; at++) {
    if (text[at] === "\\") at++;
    else if (text[at] === ",") {
      terms.push(text.slice(start, at));
      start = at + 1;
    }
  }
  terms.push(text.slice(start));
  return terms;
}

function fieldText(object: KubeObject, field: string): string {
  if (field === "status.podIPs") return (object.status?.podIPs ?? []).map((one: { ip: string }) => one.ip).join(",");
  if (field === "source") return object["source"]?.component ?? "";
  if (field === "reportingComponent" && object.kind === "Event")
    return object["reportingComponent"] ?? object["reportingController"] ?? "";
  if (field === "status.successful") return String(object.status?.succeeded ?? 0);
  const value = valueAt(object, field.split("."));
  if (value === undefined || value === null) {
    return field === "spec.unschedulable" || field === "spec.hostNetwork"
      ? "false"
      : field === "status.replicas"
        ? "0"
        : "";
  }
  return isRecord(value) || Array.isArray(value) ? "" : String(value);
}
