// Users' regular expressions: RE2 syntax, linear time, and always against the whole text. The only place that knows the
// library (re2js). Compiled expressions are kept, a bounded number of them.

import { RE2JS } from "re2js";
import { messageOf } from "../base/errors.ts";

export type CompiledRegex =
  | {
      readonly ok: true;
      matches(text: string): boolean;
      /** Every match, left to right, replaced by `value`, in which `\\0` to `\\9` are groups and `\\\\` is a backslash. */
      replaceAll(text: string, value: string): string;
    }
  /** What is wrong with it, as a sentence. */
  | { readonly ok: false; readonly problem: string };

/** How many compiled expressions are kept; the one that was made first goes first. */
const kept = 4096;
/** Longest source of an expression (Gateway API's values have at most 4096 characters), and largest program, in instructions. */
const maxLength = 4096;
const maxProgram = 20_000;

const cache = new Map<string, CompiledRegex>();

/** Compiles an expression, or finds it compiled. Never throws. */
export function compileRegex(source: string, options: { ignoreCase?: boolean } = {}): CompiledRegex {
  const key = (options.ignoreCase ? "i" : "c") + source;
  const known = cache.get(key);
  if (known) return known;
  const compiled = compile(source, options.ignoreCase === true);
  if (cache.size >= kept) {
    const first = cache.keys().next();
    if (!first.done) cache.delete(first.value);
  }
  cache.set(key, compiled);
  return compiled;
}

function compile(source: string, ignoreCase: boolean): CompiledRegex {
  if (source.length > maxLength) {
    return {
      ok: false,
      problem: `a regular expression has ${source.length} characters; at most ${maxLength} are taken`,
    };
  }
  try {
    const program = RE2JS.compile(source, ignoreCase ? RE2JS.CASE_INSENSITIVE : 0);
    const size = program.programSize();
    if (size > maxProgram) {
      return {
        ok: false,
        problem: `"${source}" makes a program of ${size} instructions; at most ${maxProgram} are taken: use smaller repetitions`,
      };
    }
    return {
      ok: true,
      matches: (text) => program.testExact(text),
      replaceAll: (text, value) => replaceAll(program, text, value),
    };
  } catch (error) {
    return { ok: false, problem: `"${source}" is no RE2 expression: ${messageOf(error)}` };
  }
}

function replaceAll(program: RE2JS, text: string, value: string): string {
  const matcher = program.matcher(text);
  let result = "";
  let at = 0;
  while (matcher.find()) {
    result += text.slice(at, matcher.start());
    result += value.replace(/\\([0-9\\])/g, (_, what: string) =>
      what === "\\" ? "\\" : Number(what) <= matcher.groupCount() ? (matcher.group(Number(what)) ?? "") : "",
    );
    at = matcher.end();
  }
  return result + text.slice(at);
}
