// What is wrong with a CEL rule before it is ever run: text that is no expression, and fields that the schema does not have. A
// full type check as cel-go makes it is not done.

import type { Schema, ValidationRule } from "../schema.ts";
import { escaped, parseExpression } from "./cel.ts";
import { type FieldError, invalidValue } from "./field-error.ts";

/** A node of a parsed expression (google.api.expr Expr), as far as it is looked at. */
interface Expression {
  readonly id: bigint;
  readonly exprKind: { readonly case?: string | undefined; readonly value?: unknown };
}
interface Parts {
  readonly name?: string;
  readonly field?: string;
  readonly operand?: Expression;
  readonly target?: Expression;
  readonly args?: readonly Expression[];
  readonly elements?: readonly Expression[];
  readonly iterVar?: string;
  readonly iterRange?: Expression;
  readonly accuInit?: Expression;
  readonly loopCondition?: Expression;
  readonly loopStep?: Expression;
  readonly result?: Expression;
}

/** The error of a rule of a CustomResourceDefinition. `path` is where the rule stands. */
export function checkRule(rule: ValidationRule, schema: Schema, path: string): FieldError[] {
  const problem = ruleProblem(rule.rule, schema);
  return problem === undefined
    ? []
    : [invalidValue(`${path}.rule`, new PrintedRule(rule), `compilation failed: ${problem}`)];
}

/** The internal struct as upstream prints it. */
class PrintedRule {
  readonly #rule: ValidationRule;
  constructor(rule: ValidationRule) {
    this.#rule = rule;
  }
  toJSON(): unknown {
    const {
      rule,
      message = "",
      messageExpression = "",
      reason = null,
      fieldPath = "",
      optionalOldSelf = null,
    } = this.#rule;
    return {
      Rule: rule,
      Message: message,
      MessageExpression: messageExpression,
      Reason: reason,
      FieldPath: fieldPath,
      OptionalOldSelf: optionalOldSelf,
    };
  }
}

function ruleProblem(text: string, schema: Schema): string | undefined {
  const parsed = parseExpression(text);
  if (parsed instanceof Error) return `ERROR: ${parsed.message}`;
  const positions = parsed.positions;
  let problem: string | undefined;

  /** The type of an expression where it is known; reports the first unknown field. */
  const visit = (node: Expression | undefined, scope: ReadonlyMap<string, Schema | undefined>): Schema | undefined => {
    if (!node || problem !== undefined) return undefined;
    const parts = (node.exprKind.value ?? {}) as Parts;
    switch (node.exprKind.case) {
      case "identExpr":
        return scope.get(parts.name ?? "");
      case "selectExpr": {
        const of = visit(parts.operand, scope);
        if (of?.type !== "object" || !of.fields || of.preserveUnknown || of.embedded) return of?.values;
        const name = Object.keys(of.fields).find((one) => escaped(one) === parts.field);
        if (name === undefined) problem ??= undefinedField(text, parts.field ?? "", positions[String(node.id)] ?? 0);
        return name === undefined ? undefined : of.fields[name];
      }
      case "comprehensionExpr": {
        const range = visit(parts.iterRange, scope);
        const inner = new Map(scope).set(parts.iterVar ?? "", range?.items);
        for (const one of [parts.accuInit, parts.loopCondition, parts.loopStep, parts.result]) visit(one, inner);
        return undefined;
      }
      case "callExpr": {
        visit(parts.target, scope);
        const args = (parts.args ?? []).map((one) => visit(one, scope));
        if ((node.exprKind.value as { function?: string }).function === "_[_]")
          return args[0]?.items ?? args[0]?.values;
        return undefined;
      }
      case "listExpr":
        for (const one of parts.elements ?? []) visit(one, scope);
        return undefined;
      default:
        return undefined;
    }
  };
  visit(
    parsed.expr as Expression,
    new Map([
      ["self", schema],
      ["oldSelf", schema],
    ]),
  );
  return problem;
}

function undefinedField(text: string, field: string, position: number): string {
  return `ERROR: <input>:1:${position + 1}: undefined field '${field}'\n | ${text}\n | ${".".repeat(position)}^`;
}
