// The small part of JSONPath that CustomResourceDefinitions use for columns, scale paths and selectable fields
// (client-go util/jsonpath): fields, quoted fields, indexes, `[*]`, and filters `[?(@.type=="Ready")]`.

import { isRecord } from "./data.ts";

type Step =
  | { readonly field: string }
  | { readonly index: number }
  | { readonly all: true }
  | { readonly filter: { readonly path: readonly Step[]; readonly operator: "==" | "!="; readonly value: unknown } };

const parsed = new Map<string, readonly Step[] | undefined>();

/** The values that a path selects; undefined when the path cannot be read. */
export function select(value: unknown, path: string): readonly unknown[] | undefined {
  let steps = parsed.get(path);
  if (!parsed.has(path)) {
    if (parsed.size > 2000) parsed.clear();
    steps = parse(path);
    parsed.set(path, steps);
  }
  return steps && walk([value], steps);
}

function walk(values: readonly unknown[], steps: readonly Step[]): readonly unknown[] {
  let at = values;
  for (const step of steps) {
    at = at.flatMap((value): readonly unknown[] => {
      if ("field" in step) return isRecord(value) && value[step.field] !== undefined ? [value[step.field]] : [];
      if ("index" in step) {
        if (!Array.isArray(value)) return [];
        const item = value.at(step.index);
        return item === undefined ? [] : [item];
      }
      if ("all" in step) return Array.isArray(value) ? value : isRecord(value) ? Object.values(value) : [];
      if (!Array.isArray(value)) return [];
      const { path, operator, value: wanted } = step.filter;
      return value.filter((item) => {
        const found = walk([item], path)[0];
        return operator === "==" ? found === wanted : found !== undefined && found !== wanted;
      });
    });
  }
  return at;
}

function parse(path: string): readonly Step[] | undefined {
  const text = path.replace(/^\{|\}$/g, "").replace(/^[$@]/, "");
  const steps: Step[] = [];
  const token =
    /\.((?:[^.[\]\\]|\\.)+)|\[\?\(@([^=!)]*)\s*(==|!=)\s*("[^"]*"|'[^']*'|[^)]*)\)\]|\[(-?\d+)\]|\[(\*)\]|\[(?:'([^']*)'|"([^"]*)")\]/y;
  while (token.lastIndex < text.length) {
    const match = token.exec(text);
    if (!match) return undefined;
    const [, field, filterPath, operator, literal, index, star, single, double] = match;
    if (field !== undefined) steps.push(field === "*" ? { all: true } : { field: field.replace(/\\(.)/g, "$1") });
    else if (filterPath !== undefined) {
      const inner = parse(filterPath.trim());
      if (!inner) return undefined;
      steps.push({ filter: { path: inner, operator: operator as "==" | "!=", value: literalOf(literal!.trim()) } });
    } else if (index !== undefined) steps.push({ index: Number(index) });
    else if (star !== undefined) steps.push({ all: true });
    else steps.push({ field: (single ?? double)! });
  }
  return steps;
}

function literalOf(text: string): unknown {
  if (/^["'].*["']$/.test(text)) return text.slice(1, -1);
  if (text === "true" || text === "false") return text === "true";
  const number = Number(text);
  return Number.isNaN(number) ? text : number;
}
