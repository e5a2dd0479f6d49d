import { describe, expect, test } from "bun:test";
import { fromOpenAPI } from "../schema.ts";
import { validateRules } from "./cel.ts";

const schema = fromOpenAPI({
  type: "object",
  "x-kubernetes-validations": [{ rule: "self.min <= self.max", message: "min must not exceed max" }],
  properties: {
    min: { type: "integer" },
    max: { type: "integer" },
    name: {
      type: "string",
      "x-kubernetes-validations": [{ rule: "self == oldSelf", message: "name is immutable" }],
    },
    ports: {
      type: "array",
      "x-kubernetes-list-type": "map",
      "x-kubernetes-list-map-keys": ["port"],
      items: {
        type: "object",
        properties: { port: { type: "integer" }, mode: { type: "string" } },
        "x-kubernetes-validations": [
          { rule: "self.mode != 'tls' || self.port == 443", messageExpression: "'no tls on ' + string(self.port)" },
        ],
      },
    },
    "the-list": {
      type: "array",
      items: { type: "integer" },
      "x-kubernetes-validations": [{ rule: "self.isSorted() && self.sum() < 10" }],
    },
  },
});

describe("CEL rules", () => {
  test("a value that keeps them has no errors", () => {
    expect(validateRules({ min: 1, max: 2, name: "a" }, schema, "spec")).toEqual([]);
  });

  test("a broken rule says its message at the place where it is written", () => {
    expect(validateRules({ min: 3, max: 2 }, schema, "spec")).toEqual([
      { type: "FieldValueInvalid", field: "spec", message: 'Invalid value: "object": min must not exceed max' },
    ]);
  });

  test("rules that speak of the old value are asked on updates only", () => {
    expect(validateRules({ min: 1, max: 2, name: "b" }, schema, "spec")).toEqual([]);
    expect(validateRules({ min: 1, max: 2, name: "b" }, schema, "spec", { min: 1, max: 2, name: "a" })).toEqual([
      { type: "FieldValueInvalid", field: "spec.name", message: 'Invalid value: "string": name is immutable' },
    ]);
  });

  test("a message can be computed", () => {
    const value = { min: 1, max: 2, ports: [{ port: 80, mode: "tls" }] };
    expect(validateRules(value, schema, "spec")[0]?.message).toBe('Invalid value: "object": no tls on 80');
  });

  test("lists have Kubernetes' functions, and a rule without a message quotes itself", () => {
    expect(validateRules({ min: 1, max: 2, "the-list": [1, 2, 3] }, schema, "spec")).toEqual([]);
    expect(validateRules({ min: 1, max: 2, "the-list": [3, 1] }, schema, "spec")[0]?.message).toBe(
      'Invalid value: "array": failed rule: self.isSorted() && self.sum() < 10',
    );
  });

  test("a missing key is an error of the evaluation, not a pass", () => {
    expect(validateRules({ min: 1 }, schema, "spec")[0]?.message).toContain("no such key: max");
  });
});
