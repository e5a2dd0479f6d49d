// CEL rules of CustomResourceDefinitions (x-kubernetes-validations; apiextensions-apiserver pkg/apiserver/schema/cel): each rule of
// a schema is evaluated on the value it is written at, with `self` and, on an update, `oldSelf`. The evaluator is
// @bufbuild/cel; it is loaded with the first rule, because most processes never see one. Not done: optional syntax (`?.`),
// cost budgets, and the quantity, url and cidr libraries beyond their checks.

import { createRequire } from "node:module";
import { parseCidr } from "../../base/cidr.ts";
import { ipFamily } from "../../base/ip.ts";
import { isRecord } from "../data.ts";
import type { Schema, ValidationRule } from "../schema.ts";
import { child, duplicate, type FieldError, forbidden, invalidValue, required } from "./field-error.ts";
import { compilePattern } from "./pattern.ts";

type Cel = typeof import("@bufbuild/cel");
type CelExtensions = typeof import("@bufbuild/cel/ext");
type Program = (variables: Record<string, unknown>) => unknown;

interface Engine {
  /** Throws when the text is no expression. */
  compile(expression: string): Program;
  parse(expression: string): ParsedExpression;
}

/** An expression as a tree, and where in the text each of its nodes is. */
export interface ParsedExpression {
  readonly expr: unknown;
  readonly positions: Readonly<Record<string, number>>;
}

/** The tree of an expression; an Error when the text is none. */
export function parseExpression(expression: string): ParsedExpression | Error {
  engine ??= loadEngine();
  try {
    return engine.parse(expression);
  } catch (error) {
    return error instanceof Error ? error : new Error(String(error));
  }
}

let engine: Engine | undefined;
const programs = new Map<string, Program | Error>();
const programLimit = 5000;

/** A rule as a function; an Error when it does not compile. */
export function compileRule(expression: string): Program | Error {
  const seen = programs.get(expression);
  if (seen) return seen;
  engine ??= loadEngine();
  let program: Program | Error;
  try {
    program = engine.compile(expression);
  } catch (error) {
    program = error instanceof Error ? error : new Error(String(error));
  }
  if (programs.size >= programLimit) programs.clear();
  programs.set(expression, program);
  return program;
}

/** True when any schema below carries rules; remembered per schema. */
export function hasRules(schema: Schema): boolean {
  const seen = ruled.get(schema);
  if (seen !== undefined) return seen;
  const found =
    (schema.rules?.length ?? 0) > 0 ||
    Object.values(schema.fields ?? {}).some((one) => !one.name && hasRules(one)) ||
    (schema.items !== undefined && !schema.items.name && hasRules(schema.items)) ||
    (schema.values !== undefined && !schema.values.name && hasRules(schema.values));
  ruled.set(schema, found);
  return found;
}
const ruled = new WeakMap<Schema, boolean>();

/** The rules that a value breaks. `old` is the value before an update; rules that speak of it are left out on a create. */
export function validateRules(value: unknown, schema: Schema, path = "", old?: unknown): FieldError[] {
  if (value === undefined || value === null || !hasRules(schema)) return [];
  const errors: FieldError[] = [];
  for (const rule of schema.rules ?? []) errors.push(...checkRule(rule, value, schema, path, old));
  if (Array.isArray(value)) {
    if (!schema.items) return errors;
    for (const [index, item] of value.entries()) {
      errors.push(...validateRules(item, schema.items, `${path}[${index}]`, correlated(item, schema, old)));
    }
  } else if (isRecord(value)) {
    const before = isRecord(old) ? old : {};
    for (const [field, item] of Object.entries(value)) {
      const named = schema.fields && Object.hasOwn(schema.fields, field) ? schema.fields[field] : undefined;
      if (named) errors.push(...validateRules(item, named, child(path, field), before[field]));
      else if (schema.values) errors.push(...validateRules(item, schema.values, `${path}[${field}]`, before[field]));
    }
  }
  return errors;
}

/** The item of the old list that is the same one: only lists with keys tell. */
function correlated(item: unknown, schema: Schema, old: unknown): unknown {
  if (schema.listType !== "map" || !Array.isArray(old) || !isRecord(item)) return undefined;
  const keys = schema.listKeys ?? [];
  return old.find((one) => isRecord(one) && keys.every((key) => one[key] === item[key]));
}

const usesOld = /\boldSelf\b/;

function checkRule(rule: ValidationRule, value: unknown, schema: Schema, path: string, old: unknown): FieldError[] {
  const transition = usesOld.test(rule.rule);
  if (transition && old === undefined) return [];
  const at = path === "" ? "<nil>" : path;
  const field = rule.fieldPath ? `${path}${rule.fieldPath}`.replace(/^\./, "") : at;
  const shown = schema.type === "list" ? "array" : schema.type === "map" ? "object" : schema.type;
  const program = compileRule(rule.rule);
  if (program instanceof Error) return [invalidValue(field, shown, `rule compile error: ${program.message}`)];
  const variables = {
    self: toCel(value, schema),
    ...(transition ? { oldSelf: toCel(old, schema) } : {}),
  };
  const result = program(variables);
  if (result === true) return [];
  if (result instanceof Error) {
    return [
      invalidValue(
        field,
        shown,
        `${evaluationText(result.message)} evaluating rule: ${rule.message ?? rule.rule.trim()}`,
      ),
    ];
  }
  return [failure(rule, field, shown, messageOf(rule, variables))];
}

function evaluationText(message: string): string {
  return message.replace(/^field not found: /, "no such key: ");
}

function failure(rule: ValidationRule, field: string, shown: string, message: string): FieldError {
  switch (rule.reason) {
    case "FieldValueForbidden":
      return forbidden(field, message);
    case "FieldValueRequired":
      return required(field, message);
    case "FieldValueDuplicate":
      return duplicate(field, shown);
    default:
      return invalidValue(field, shown, message);
  }
}

/** What a broken rule says: its expression, its message, or itself. */
function messageOf(rule: ValidationRule, variables: Record<string, unknown>): string {
  if (rule.messageExpression) {
    const program = compileRule(rule.messageExpression);
    const text = program instanceof Error ? undefined : program(variables);
    if (typeof text === "string" && text.trim() !== "" && !text.includes("\n")) return text.trim();
  }
  return rule.message?.trim() || `failed rule: ${rule.rule.trim()}`;
}

const reserved = new Set(
  "true false null in as break const continue else for function if import let loop package namespace return var void while".split(
    " ",
  ),
);

/** The name of a property inside an expression (KEP-2876: reserved words and characters are escaped). */
export function escaped(name: string): string {
  if (reserved.has(name)) return `__${name}__`;
  if (!/__|[-./]/.test(name)) return name;
  return name
    .replace(/__/g, "__underscores__")
    .replace(/-/g, "__dash__")
    .replace(/\./g, "__dot__")
    .replace(/\//g, "__slash__");
}

/** A JSON value as CEL sees it by its schema: integers as int, all other numbers as double, objects as maps. */
function toCel(value: unknown, schema: Schema | undefined): unknown {
  if (typeof value === "number") {
    return schema?.type === "number" || !Number.isInteger(value) ? value : BigInt(value);
  }
  if (Array.isArray(value)) return value.map((item) => toCel(item, schema?.items));
  if (!isRecord(value)) return value;
  return new Map(
    Object.entries(value).map(([field, item]) => {
      const named = schema?.fields && Object.hasOwn(schema.fields, field) ? schema.fields[field] : undefined;
      return named ? [escaped(field), toCel(item, named)] : [field, toCel(item, schema?.values)];
    }),
  );
}

function loadEngine(): Engine {
  const load = createRequire(import.meta.url);
  const cel = load("@bufbuild/cel") as Cel;
  const { strings } = load("@bufbuild/cel/ext") as CelExtensions;
  const environment = cel.celEnv({
    funcs: [...strings, ...libraries(cel)],
    re2: { compile: (pattern: string) => ({ test: (text: string) => compilePattern(pattern).matches(text) }) },
  });
  return {
    parse(expression) {
      const { expr, sourceInfo } = cel.parse(expression);
      return { expr, positions: sourceInfo?.positions ?? {} };
    },
    compile(expression) {
      const planned = cel.plan(environment, cel.parse(expression));
      return (variables) => {
        const result = planned(variables as never);
        return cel.isCelError(result) ? new Error(result.message) : result;
      };
    },
  };
}

/** The parts of Kubernetes' CEL libraries that rules use most (k8s.io/apiserver/pkg/cel/library). */
function libraries(cel: Cel): ReturnType<Cel["celMethod"]>[] {
  const { celMethod, celFunc, listType, CelScalar } = cel;
  const any = CelScalar.DYN;
  const list = listType(any);
  const compare = (a: unknown, b: unknown) =>
    (a as number) < (b as number) ? -1 : (a as number) > (b as number) ? 1 : 0;
  const extreme = (values: Iterable<unknown>, sign: number) => {
    const sorted = [...values].sort((a, b) => sign * compare(a, b));
    if (sorted.length === 0) throw new Error("min/max of an empty list");
    return sorted[0] as never;
  };
  return [
    celMethod("isSorted", list, [], CelScalar.BOOL, function () {
      const values = [...this];
      return values.every((value, index) => index === 0 || compare(values[index - 1], value) <= 0);
    }),
    celMethod("sum", list, [], any, function () {
      return ([...this] as bigint[]).reduce((total, value) => total + value, 0n) as never;
    }),
    celMethod("min", list, [], any, function () {
      return extreme(this, 1);
    }),
    celMethod("max", list, [], any, function () {
      return extreme(this, -1);
    }),
    celMethod("find", CelScalar.STRING, [CelScalar.STRING], CelScalar.STRING, function (pattern) {
      return compilePattern(pattern).find(String(this)) ?? "";
    }),
    celFunc("isURL", [CelScalar.STRING], CelScalar.BOOL, (text) => URL.canParse(text)),
    celFunc("isIP", [CelScalar.STRING], CelScalar.BOOL, (text) => ipFamily(text) !== undefined),
    celFunc("isCIDR", [CelScalar.STRING], CelScalar.BOOL, (text) => parseCidr(text) !== undefined),
  ];
}
