// Regular expressions of schemas: Go's RE2 syntax, run on re2js in linear time because they are users' input.

import { RE2JS } from "re2js";

const compiled = new Map<string, Compiled>();
const cacheLimit = 5000;
/** Answers remembered for a pattern: the same names and paths are validated at every write of an object. */
const answerLimit = 1000;
const longestRemembered = 256;

interface Compiled {
  readonly expression: RE2JS | undefined;
  readonly answers: Map<string, boolean>;
}

export interface Pattern {
  matches(text: string): boolean;
  /** The first match. */
  find(text: string): string | undefined;
}

/** A pattern that searches (it is not anchored). One that does not compile matches nothing; CRD validation refuses those. */
export function compilePattern(pattern: string): Pattern {
  const { expression, answers } = compiledPattern(pattern);
  return {
    matches(text) {
      let answer = answers.get(text);
      if (answer !== undefined) return answer;
      answer = expression?.matcher(text).find() ?? false;
      if (text.length <= longestRemembered) {
        if (answers.size >= answerLimit) answers.clear();
        answers.set(text, answer);
      }
      return answer;
    },
    find(text) {
      const matcher = expression?.matcher(text);
      return matcher?.find() ? (matcher.group() ?? undefined) : undefined;
    },
  };
}

function compiledPattern(pattern: string): Compiled {
  let known = compiled.get(pattern);
  if (!known) {
    if (compiled.size >= cacheLimit) compiled.clear();
    known = { expression: tryCompile(pattern), answers: new Map() };
    compiled.set(pattern, known);
  }
  return known;
}

function tryCompile(pattern: string): RE2JS | undefined {
  try {
    return RE2JS.compile(pattern);
  } catch {
    return undefined;
  }
}

export function patternCompiles(pattern: string): boolean {
  return tryCompile(pattern) !== undefined;
}
