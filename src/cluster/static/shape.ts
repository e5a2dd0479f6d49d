// Shapes of what people write for the routing model: which fields there are, of which type, which may be left out and what they are
// then. A shape turns what YAML gave into a value of the model's type, and tells what it could not take. It knows no line numbers
// and judges no values: ports, paths and names are `model/validate.ts`'s.

import { isRecord } from "../../api/data.ts";
import { suggest } from "../../api/suggest.ts";
import { messageOf } from "../../base/errors.ts";
import type { Provenance } from "../../model/provenance.ts";

/** What a document is read with. */
export interface Reading {
  problem(field: string, message: string): void;
  provenance(field: string): Provenance;
  /** The text of a file that the document names. Throws an Error that says why there is none. */
  file(path: string): string;
}

export interface Shape<T> {
  /** Problems are told to `reading`; what comes back is of no use then. */
  take(value: unknown, field: string, reading: Reading): T;
  /** What the field is when it is left out; it must be there unless given. `field` is the mapping that it is missing in. */
  readonly absent?: (field: string, reading: Reading) => T;
}

/** All fields of a type, also those that may be left out: a field that the model gains does not compile until it is named here. */
export type Fields<T> = { readonly [K in keyof T]-?: Shape<T[K]> };

export function object<T extends object>(fields: Fields<T>): Shape<T> {
  const shapes = Object.entries(fields) as [string, Shape<unknown>][];
  const names = shapes.filter(([, shape]) => shape !== provenance).map(([name]) => name);
  return {
    take(value, field, reading) {
      if (!isRecord(value)) return wrong(`a mapping (of ${names.join(", ")})`, value, field, reading);
      for (const key of Object.keys(value)) {
        if (names.includes(key)) continue;
        const near = suggest(key, names);
        const remedy = near ? `did you mean ${near}?` : `there are ${names.join(", ")}`;
        reading.problem(below(field, key), `is not known: ${remedy}`);
      }
      const taken: Record<string, unknown> = {};
      for (const [name, shape] of shapes) {
        const given = value[name] ?? undefined;
        if (given !== undefined && shape !== provenance) taken[name] = shape.take(given, below(field, name), reading);
        else if (shape.absent) {
          const filled = shape.absent(field, reading);
          if (filled !== undefined) taken[name] = filled;
        } else reading.problem(below(field, name), "is missing");
      }
      return taken as T;
    },
  };
}

/** Variants that their `kind` tells apart. */
export function byKind<T extends { readonly kind: string }>(
  variants: Readonly<Record<T["kind"], Shape<object>>>,
): Shape<T> {
  const kinds = Object.keys(variants);
  return {
    take(value, field, reading) {
      if (!isRecord(value)) return wrong(`a mapping with a kind (${kinds.join(", ")})`, value, field, reading);
      const { kind } = value;
      if (typeof kind === "string" && Object.hasOwn(variants, kind))
        return variants[kind as T["kind"]].take(value, field, reading) as T;
      const near = typeof kind === "string" ? suggest(kind, kinds) : undefined;
      const remedy = near ? `did you mean ${near}?` : `there are ${kinds.join(", ")}`;
      const problem = kind === undefined ? "is missing" : `${JSON.stringify(kind)} is not known`;
      reading.problem(below(field, "kind"), `${problem}: ${remedy}`);
      return undefined as never;
    },
  };
}

/** Variants that are told apart by which of these fields is there; those that have one shape may be there together. */
export function byField<T extends object>(variants: Readonly<Record<string, Shape<object>>>): Shape<T> {
  const names = Object.keys(variants);
  return {
    take(value, field, reading) {
      if (!isRecord(value)) return wrong(`a mapping (of one of ${names.join(", ")})`, value, field, reading);
      const given = names.filter((name) => value[name] !== undefined);
      const [shape, ...others] = new Set(given.map((name) => variants[name]!));
      if (shape && others.length === 0) return shape.take(value, field, reading) as T;
      reading.problem(field, `needs one of ${names.join(", ")}${given.length > 1 ? ", not several" : ""}`);
      return undefined as never;
    },
  };
}

export function list<T>(item: Shape<T>): Shape<readonly T[]> {
  return {
    take(value, field, reading) {
      if (!Array.isArray(value)) return wrong("a list", value, field, reading, "put it in brackets");
      return value.map((one, index) => item.take(one, `${field}[${index}]`, reading));
    },
  };
}

/** A list that is empty when it is left out. */
export function listOrNone<T>(item: Shape<T>): Shape<readonly T[]> {
  return or(list(item), []);
}

/** Values under names of the writer's choice. */
export function record<T>(item: Shape<T>): Shape<Readonly<Record<string, T>>> {
  return {
    take(value, field, reading) {
      if (!isRecord(value)) return wrong("a mapping", value, field, reading);
      return Object.fromEntries(
        Object.entries(value).map(([key, one]) => [key, item.take(one, below(field, key), reading)]),
      );
    },
  };
}

/** A field that may be left out. */
export function may<T>(shape: Shape<T>): Shape<T | undefined> {
  return { take: shape.take, absent: () => undefined };
}

/** A field that is `value` when it is left out. */
export function or<T>(shape: Shape<T>, value: T): Shape<T> {
  return { take: shape.take, absent: () => value };
}

/** A mapping of `shape`, or one of `words` in its place. */
export function wordOr<W extends string, T>(words: readonly W[], shape: Shape<T>): Shape<W | T> {
  const plain = oneOf(...words);
  return {
    take: (value, field, reading) => (isRecord(value) ? shape : plain).take(value, field, reading),
  };
}

export function oneOf<const T extends string | number>(...values: readonly T[]): Shape<T> {
  return {
    take(value, field, reading) {
      if (values.includes(value as T)) return value as T;
      const near =
        typeof value === "string"
          ? suggest(
              value,
              values.filter((one) => typeof one === "string"),
            )
          : undefined;
      const remedy = near ? `did you mean ${near}?` : `there are ${values.join(", ")}`;
      const shown = typeof value === "string" ? JSON.stringify(value) : inWords(value);
      reading.problem(field, `${shown} is not known: ${remedy}`);
      return undefined as never;
    },
  };
}

export const text: Shape<string> = {
  take: (value, field, reading) =>
    typeof value === "string" ? value : wrong("a text", value, field, reading, "put it in quotes"),
};

export const number: Shape<number> = {
  take: (value, field, reading) =>
    typeof value === "number" ? value : wrong("a number", value, field, reading, unitHint(value)),
};

export const flag: Shape<boolean> = {
  take: (value, field, reading) => (typeof value === "boolean" ? value : wrong("true or false", value, field, reading)),
};

/** A text in place, or `{ file: PATH }`. */
export const textOrFile: Shape<string> = {
  take(value, field, reading) {
    if (typeof value === "string") return value;
    const { file } = object<{ file: string }>({ file: text }).take(value, field, reading) ?? {};
    if (typeof file !== "string") return undefined as never;
    try {
      return reading.file(file);
    } catch (error) {
      reading.problem(below(field, "file"), messageOf(error));
      return undefined as never;
    }
  },
};

/** Where a node stands; never written, always filled in. */
export const provenance: Shape<Provenance> = {
  take: (_value, field, reading) => reading.provenance(field),
  absent: (field, reading) => reading.provenance(field),
};

/** A value made of what is written. */
export function mapped<A, B>(shape: Shape<A>, map: (value: A) => B): Shape<B> {
  return { take: (value, field, reading) => map(shape.take(value, field, reading)) };
}

/** The path of a field, as `manifests.ts` writes it. */
function below(field: string, key: string): string {
  if (!/^[A-Za-z0-9_$-]+$/.test(key)) return `${field}[${key}]`;
  return field === "" ? key : `${field}.${key}`;
}

/** What is there instead is shown only where it cannot be a secret, which numbers, flags and single values are not. */
function wrong(wanted: string, value: unknown, field: string, reading: Reading, remedy?: string): never {
  const single = typeof value !== "object" || value === null;
  const mapping = wanted.startsWith("a mapping");
  const shown = typeof value === "string" && !mapping && value.length <= 40 ? JSON.stringify(value) : inWords(value);
  reading.problem(field, `must be ${wanted}, not ${shown}${remedy && single ? `: ${remedy}` : ""}`);
  return undefined as never;
}

/** For those who write a unit behind a number. */
function unitHint(value: unknown): string | undefined {
  if (typeof value !== "string") return undefined;
  if (/^[0-9.]+ ?%$/.test(value)) return "shares are parts of a million, other percentages numbers without a sign";
  if (/^[0-9.]+ ?[a-z]{1,3}$/i.test(value)) return "times are milliseconds and sizes bytes, without a unit";
  return /^-?[0-9.]+$/.test(value) ? "leave the quotes out" : undefined;
}

function inWords(value: unknown): string {
  if (Array.isArray(value)) return "a list";
  if (isRecord(value)) return "a mapping";
  return typeof value === "string" ? "a text" : String(value);
}
