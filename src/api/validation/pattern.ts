// Regular expressions of schemas: Go's RE2 syntax, run on re2js in linear time because they are users' input.

import { RE2JS } from "re2js";

const compiled = new Map<string, RE2JS | undefined>();
const cacheLimit = 5000;

export interface Pattern {
  matches(text: string): boolean;
  /** The first match. */
  find(text: string): string | undefined;
}

/** A pattern that searches (it is not anchored). One that does not compile matches nothing; CRD validation refuses those. */
export function compilePattern(pattern: string): Pattern {
  let expression = compiled.get(pattern);
  if (!compiled.has(pattern)) {
    if (compiled.size >= cacheLimit) compiled.clear();
    try {
      expression = RE2JS.compile(pattern);
    } catch {
      expression = undefined;
    }
    compiled.set(pattern, expression);
  }
  return {
    matches: (text) => expression?.matcher(text).find() ?? false,
    find(text) {
      const matcher = expression?.matcher(text);
      return matcher?.find() ? (matcher.group() ?? undefined) : undefined;
    },
  };
}

export function patternCompiles(pattern: string): boolean {
  try {
    RE2JS.compile(pattern);
    return true;
  } catch {
    return false;
  }
}
