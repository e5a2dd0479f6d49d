// JSON text as the API server reads it: values through the engine's own parser, and two things that it does not tell: where
// a field was given twice, and what is wrong in the words of Go's encoding/json (which clients see).

import { quote } from "./data.ts";

/** Text that is no JSON; `message` is what Go's decoder says of it. */
export class JsonSyntaxError extends Error {
  override readonly name = "JsonSyntaxError";
}

export interface ParsedJson {
  readonly value: unknown;
  /** Paths of fields that an object has twice (`data.a`, `spec.ports[0].name`); computed when asked for. */
  duplicates(): readonly string[];
}

/** Parses JSON text. Throws a {@link JsonSyntaxError}. */
export function parseJson(text: string): ParsedJson {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch {
    scan(text, () => {});
    throw new JsonSyntaxError("unexpected end of JSON input");
  }
  let found: string[] | undefined;
  return {
    value,
    duplicates() {
      if (!found) {
        found = [];
        const seen = new Set<string>();
        scan(text, (path) => {
          if (!seen.has(path)) found!.push(path);
          seen.add(path);
        });
      }
      return found;
    },
  };
}

/** Walks JSON text, reports duplicate fields, and throws where Go's scanner would. */
function scan(text: string, onDuplicate: (path: string) => void): void {
  let at = 0;
  skip();
  value("");
  skip();
  if (at < text.length) fail("after top-level value");

  function fail(context: string): never {
    if (at >= text.length) throw new JsonSyntaxError("unexpected end of JSON input");
    const code = text.codePointAt(at)!;
    throw new JsonSyntaxError(`invalid character ${quoteCharacter(String.fromCodePoint(code))} ${context}`);
  }

  function skip(): void {
    while (at < text.length && " \t\r\n".includes(text[at]!)) at++;
  }

  function value(path: string): void {
    const first = text[at];
    if (first === "{") object(path);
    else if (first === "[") array(path);
    else if (first === '"') string();
    else if (first === "t") literal("true");
    else if (first === "f") literal("false");
    else if (first === "n") literal("null");
    else if (first !== undefined && /[-0-9]/.test(first)) number();
    else fail("looking for beginning of value");
  }

  function object(path: string): void {
    const keys = new Set<string>();
    at++;
    skip();
    if (text[at] === "}") {
      at++;
      return;
    }
    for (;;) {
      skip();
      if (text[at] !== '"') fail("looking for beginning of object key string");
      const key = string();
      const own = path === "" ? key : `${path}.${key}`;
      if (keys.has(key)) onDuplicate(own);
      keys.add(key);
      skip();
      if (text[at] !== ":") fail("after object key");
      at++;
      skip();
      value(own);
      skip();
      if (text[at] === "}") {
        at++;
        return;
      }
      if (text[at] !== ",") fail("after object key:value pair");
      at++;
    }
  }

  function array(path: string): void {
    at++;
    skip();
    if (text[at] === "]") {
      at++;
      return;
    }
    for (let index = 0; ; index++) {
      skip();
      value(`${path}[${index}]`);
      skip();
      if (text[at] === "]") {
        at++;
        return;
      }
      if (text[at] !== ",") fail("after array element");
      at++;
    }
  }

  function string(): string {
    const start = at++;
    for (;;) {
      const code = text.charCodeAt(at);
      if (Number.isNaN(code) || code < 0x20) fail("in string literal");
      if (code === 0x22) break;
      if (code === 0x5c) {
        at++;
        const escaped = text[at];
        if (escaped === "u") {
          for (let index = 0; index < 4; index++) {
            at++;
            if (!/[0-9a-fA-F]/.test(text[at] ?? "")) fail("in \\u hexadecimal character escape");
          }
        } else if (escaped === undefined || !'"\\/bfnrt'.includes(escaped)) fail("in string escape code");
      }
      at++;
    }
    at++;
    return JSON.parse(text.slice(start, at)) as string;
  }

  function literal(word: string): void {
    for (let index = 0; index < word.length; index++, at++) {
      if (text[at] !== word[index]) fail(`in literal ${word} (expecting ${quoteCharacter(word[index]!)})`);
    }
  }

  function number(): void {
    if (text[at] === "-") at++;
    if (text[at] === "0") at++;
    else if (/[1-9]/.test(text[at] ?? "")) digits();
    else fail("in numeric literal");
    if (text[at] === ".") {
      at++;
      if (!/[0-9]/.test(text[at] ?? "")) fail("after decimal point in numeric literal");
      digits();
    }
    if (text[at] === "e" || text[at] === "E") {
      at++;
      if (text[at] === "+" || text[at] === "-") at++;
      if (!/[0-9]/.test(text[at] ?? "")) fail("in exponent of numeric literal");
      digits();
    }
  }

  function digits(): void {
    while (/[0-9]/.test(text[at] ?? "")) at++;
  }
}

function quoteCharacter(character: string): string {
  if (character === "'") return "'\\''";
  if (character === '"') return "'\"'";
  return `'${quote(character).slice(1, -1)}'`;
}

/** A value as Go's `%+v` prints decoded JSON (`map[a:1 b:[x y]]`): some messages quote a patch that way. */
export function goFormat(value: unknown): string {
  if (value === null || value === undefined) return "<nil>";
  if (Array.isArray(value)) return `[${value.map(goFormat).join(" ")}]`;
  if (typeof value === "object") {
    const entries = Object.entries(value).sort(([a], [b]) => (a < b ? -1 : 1));
    return `map[${entries.map(([key, one]) => `${key}:${goFormat(one)}`).join(" ")}]`;
  }
  return String(value);
}
