import { describe, expect, test } from "bun:test";
import { decode } from "./decode.ts";
import { JsonSyntaxError, parseJson } from "./json.ts";
import { Deployments, HTTPRoutes, Pods } from "./kinds.ts";
import { canonicalQuantity } from "./quantity.ts";
import { builtinScheme } from "./scheme.ts";
import { StatusError } from "./status-error.ts";
import { suggest } from "./suggest.ts";

const scheme = builtinScheme();
const pod = (spec: object) => ({ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec });

function refusal(run: () => unknown): StatusError {
  try {
    run();
  } catch (error) {
    if (error instanceof StatusError) return error;
    throw error;
  }
  throw new Error("was not refused");
}

describe("decoding", () => {
  test("a misspelt field is refused with upstream's text, and a hint beside it", () => {
    const body = { apiVersion: "apps/v1", kind: "Deployment", metadata: { name: "d" }, spec: { replica: 1 } };
    const error = refusal(() => decode(scheme, Deployments, body, { fieldValidation: "Strict" }));
    expect(error.message).toBe(
      'Deployment in version "v1" cannot be handled as a Deployment: strict decoding error: unknown field "spec.replica"',
    );
    expect(error.hints).toEqual(['unknown field "spec.replica": did you mean "spec.replicas"?']);
  });

  test("without strictness unknown fields are dropped with a warning", () => {
    const { object, warnings } = decode(scheme, Pods, pod({ containers: [{ name: "c", imag: "x" }] }), {
      fieldValidation: "Warn",
    });
    expect(warnings).toEqual(['unknown field "spec.containers[0].imag"']);
    expect(object.spec.containers[0].imag).toBeUndefined();
  });

  test("a wrong type names the Go field and its path", () => {
    expect(refusal(() => decode(scheme, Pods, pod({ containers: [{ name: 1 }] }))).message).toContain(
      "json: cannot unmarshal number into Go struct field Container.spec.containers.name of type string",
    );
  });

  test("built-in kinds lose what Go would not write again, and keep given pointers", () => {
    const { object } = decode(
      scheme,
      Pods,
      pod({ hostNetwork: false, automountServiceAccountToken: false, nodeSelector: {}, containers: [] }),
    );
    expect(object.spec).toEqual({ automountServiceAccountToken: false, containers: [] });
  });

  test("the Gateway API is pruned by its schema", () => {
    const body = {
      apiVersion: "gateway.networking.k8s.io/v1",
      kind: "HTTPRoute",
      metadata: { name: "r" },
      spec: { rules: [{ matchs: [] }] },
    };
    const error = refusal(() => decode(scheme, HTTPRoutes, body, { fieldValidation: "Strict" }));
    expect(error.hints).toEqual(['unknown field "spec.rules[0].matchs": did you mean "spec.rules[0].matches"?']);
  });

  test("a result of a patch is refused as the patch", () => {
    const error = refusal(() =>
      decode(
        scheme,
        Deployments,
        { kind: "Deployment", apiVersion: "apps/v1", spec: { x: 1 } },
        { fieldValidation: "Strict", patch: { type: "strategic", body: { spec: { x: 1, y: null } } } },
      ),
    );
    expect(error.code).toBe(422);
    expect(error.details?.causes?.[0]?.message).toBe(
      'Invalid value: "map[spec:map[x:1 y:<nil>]]": strict decoding error: unknown field "spec.x"',
    );
  });
});

describe("JSON text", () => {
  test("duplicate fields are found with their paths", () => {
    expect(parseJson('{"a":{"b":1,"b":2},"c":[{"d":1,"d":1}]}').duplicates()).toEqual(["a.b", "c[0].d"]);
    expect(parseJson('{"a":"{\\"b\\":1}"}').duplicates()).toEqual([]);
  });

  test("what is no JSON is described as Go does", () => {
    const problem = (text: string) => {
      try {
        parseJson(text);
      } catch (error) {
        if (error instanceof JsonSyntaxError) return error.message;
        throw error;
      }
      return undefined;
    };
    expect(problem("{nope")).toBe("invalid character 'n' looking for beginning of object key string");
    expect(problem("")).toBe("unexpected end of JSON input");
    expect(problem('{"a":1')).toBe("unexpected end of JSON input");
    expect(problem('{"a" 1}')).toBe("invalid character '1' after object key");
    expect(problem("[1 2]")).toBe("invalid character '2' after array element");
    expect(problem("{} x")).toBe("invalid character 'x' after top-level value");
    expect(problem("trux")).toBe("invalid character 'x' in literal true (expecting 'e')");
  });
});

test("quantities are stored in canonical form", () => {
  const pairs = {
    "0.5": "500m",
    "1.5Gi": "1536Mi",
    "1024Mi": "1Gi",
    "2000m": "2",
    "1000": "1k",
    "1e3": "1e3",
    "0": "0",
    "0.5Ki": "512",
    "-1": "-1",
  };
  for (const [given, stored] of Object.entries(pairs)) expect(canonicalQuantity(given)).toBe(stored);
  expect(canonicalQuantity("1 Gi")).toBeUndefined();
});

test("a suggestion is near, or there is none", () => {
  expect(suggest("contianers", ["containers", "volumes"])).toBe("containers");
  expect(suggest("zzz", ["containers", "volumes"])).toBeUndefined();
});
