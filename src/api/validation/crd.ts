// Rules of CustomResourceDefinitions (apiextensions-apiserver pkg/apis/apiextensions/validation and pkg/apiserver/schema
// structural): names, versions, and that every schema is structural.

import { isRecord, type Json } from "../data.ts";
import type { KubeObject } from "../object.ts";
import { fromOpenAPI, type Schema, type ValidationRule } from "../schema.ts";
import { checkRule } from "./cel-check.ts";
import { type FieldError, forbidden, invalidValue, notSupported, required } from "./field-error.ts";
import { immutableField } from "./metadata.ts";
import { dns1035LabelProblems, dnsSubdomainProblems } from "./names.ts";
import { patternCompiles } from "./pattern.ts";

interface Version {
  readonly name?: string;
  readonly served?: boolean;
  readonly storage?: boolean;
  readonly schema?: { readonly openAPIV3Schema?: Json };
  readonly subresources?: {
    readonly scale?: { readonly specReplicasPath?: string; readonly statusReplicasPath?: string };
  };
  readonly additionalPrinterColumns?: readonly {
    readonly name?: string;
    readonly type?: string;
    readonly jsonPath?: string;
  }[];
}

export function validateCustomResourceDefinition(object: KubeObject): FieldError[] {
  const errors: FieldError[] = [];
  const spec = object.spec ?? {};
  const names = spec.names ?? {};
  if (object.metadata.name !== `${names.plural ?? ""}.${spec.group ?? ""}`) {
    errors.push(invalidValue("metadata.name", object.metadata.name, 'must be spec.names.plural+"."+spec.group'));
  }
  if (!spec.group) errors.push(required("spec.group"));
  else {
    for (const problem of dnsSubdomainProblems(spec.group))
      errors.push(invalidValue("spec.group", spec.group, problem));
    if (!String(spec.group).includes("."))
      errors.push(invalidValue("spec.group", spec.group, "should be a domain with at least one dot"));
  }
  if (!spec.scope) errors.push(required("spec.scope"));
  else if (!["Cluster", "Namespaced"].includes(spec.scope))
    errors.push(notSupported("spec.scope", spec.scope, ["Cluster", "Namespaced"]));
  for (const field of ["plural", "singular", "kind", "listKind"] as const) {
    const value = names[field];
    if (!value) {
      if (field === "plural" || field === "kind") errors.push(required(`spec.names.${field}`));
      continue;
    }
    const checked = field === "kind" || field === "listKind" ? String(value).toLowerCase() : String(value);
    for (const problem of dns1035LabelProblems(checked)) {
      errors.push(
        invalidValue(
          `spec.names.${field}`,
          value,
          field === checked
            ? problem
            : field.endsWith("ind")
              ? `may have mixed case, but should otherwise match: ${problem}`
              : problem,
        ),
      );
    }
  }
  if (names.kind && names.kind === names.listKind)
    errors.push(invalidValue("spec.names.listKind", names.listKind, "kind and listKind may not be the same"));
  const versions: readonly Version[] = spec.versions ?? [];
  if (versions.length === 0) errors.push(required("spec.versions", "must have at least one version"));
  const stored = versions.filter((version) => version.storage).length;
  if (versions.length > 0 && stored !== 1)
    errors.push(invalidValue("spec.versions", versions, "must have exactly one version marked as storage version"));
  const seen = new Set<string>();
  for (const [index, version] of versions.entries()) {
    const at = `spec.versions[${index}]`;
    if (!version.name) errors.push(required(`${at}.name`));
    else {
      for (const problem of dns1035LabelProblems(version.name))
        errors.push(invalidValue(`${at}.name`, version.name, problem));
      if (seen.has(version.name))
        errors.push(invalidValue("spec.versions", versions, "must contain unique version names"));
      seen.add(version.name);
    }
    // A single version is converted to the old top-level form before it is validated, which its errors name.
    const schemaPath = versions.length === 1 ? "spec.validation.openAPIV3Schema" : `${at}.schema.openAPIV3Schema`;
    const schema = version.schema?.openAPIV3Schema;
    if (!schema) errors.push(required(schemaPath, "schemas are required"));
    else errors.push(...validateStructural(schema, schemaPath, true));
    for (const [number, column] of (version.additionalPrinterColumns ?? []).entries()) {
      const path =
        versions.length === 1
          ? `spec.additionalPrinterColumns[${number}]`
          : `${at}.additionalPrinterColumns[${number}]`;
      if (!column.name) errors.push(required(`${path}.name`));
      const types = ["integer", "number", "string", "boolean", "date"];
      if (!column.type) errors.push(required(`${path}.type`, `must be one of ${types.join(",")}`));
      else if (!types.includes(column.type))
        errors.push(invalidValue(`${path}.type`, column.type, `must be one of ${types.join(",")}`));
      if (!column.jsonPath) errors.push(required(`${path}.JSONPath`));
    }
  }
  return errors;
}

/** Rules at the root see what every object has, and of metadata its names. */
function withRootFields(schema: Json): Schema {
  const own = fromOpenAPI(schema);
  const text: Schema = { type: "string" };
  const metadata: Schema = { type: "object", fields: { name: text, generateName: text } };
  return { ...own, fields: { ...own.fields, apiVersion: text, kind: text, metadata } };
}

/** A structural schema names a type everywhere, and its value validations only what it also specifies. */
function validateStructural(schema: Json, path: string, root = false): FieldError[] {
  const errors: FieldError[] = [];
  const type = schema["type"];
  const intOrString = schema["x-kubernetes-int-or-string"] === true;
  const preserves = schema["x-kubernetes-preserve-unknown-fields"] === true;
  if (root && type !== "object") {
    if (type === undefined || type === "") errors.push(required(`${path}.type`, "must not be empty at the root"));
    else errors.push(invalidValue(`${path}.type`, type, "must be object at the root"));
  } else if (!type && !intOrString && !preserves) {
    const inItems = path.endsWith(".items");
    const detail = inItems
      ? "must not be empty for specified array items"
      : "must not be empty for specified object fields";
    errors.push(required(`${path}.type`, detail));
  }
  if (type && !["object", "array", "string", "integer", "number", "boolean"].includes(String(type))) {
    errors.push(notSupported(`${path}.type`, type, ["array", "boolean", "integer", "number", "object", "string"]));
  }
  if (intOrString && type)
    errors.push(invalidValue(`${path}.type`, type, "must be empty if x-kubernetes-int-or-string is true"));
  if (schema["$ref"] !== undefined) errors.push(forbidden(`${path}.$ref`, "$ref is not supported"));
  if (schema["uniqueItems"] === true)
    errors.push(
      forbidden(
        `${path}.uniqueItems`,
        "uniqueItems cannot be set to true since the runtime complexity becomes quadratic",
      ),
    );
  if (typeof schema["pattern"] === "string" && !patternCompiles(schema["pattern"])) {
    errors.push(
      invalidValue(
        `${path}.pattern`,
        schema["pattern"],
        `must be a valid regular expression, but isn't: error parsing regexp`,
      ),
    );
  }
  const rules = (schema["x-kubernetes-validations"] ?? []) as readonly ValidationRule[];
  for (const [index, rule] of rules.entries()) {
    const at = `${path}.x-kubernetes-validations[${index}]`;
    if (!rule.rule?.trim()) errors.push(required(`${at}.rule`, "rule is not specified"));
    else errors.push(...checkRule(rule, root ? withRootFields(schema) : fromOpenAPI(schema), at));
  }
  const listType = schema["x-kubernetes-list-type"];
  if (listType !== undefined) {
    if (type !== "array")
      errors.push(invalidValue(`${path}.type`, type ?? "", "must be array if x-kubernetes-list-type is specified"));
    if (!["atomic", "set", "map"].includes(String(listType)))
      errors.push(notSupported(`${path}.x-kubernetes-list-type`, listType, ["atomic", "map", "set"]));
    const keys = (schema["x-kubernetes-list-map-keys"] ?? []) as readonly string[];
    if (listType === "map" && keys.length === 0)
      errors.push(required(`${path}.x-kubernetes-list-map-keys`, "must not be empty if x-kubernetes-list-type is map"));
    if (listType === "map") {
      const items = schema["items"] as Json | undefined;
      const properties = (items?.["properties"] ?? {}) as Json;
      for (const [index, key] of keys.entries()) {
        const property = properties[key] as Json | undefined;
        if (!property)
          errors.push(
            invalidValue(
              `${path}.x-kubernetes-list-map-keys[${index}]`,
              key,
              "entries must all be names of item properties",
            ),
          );
        else if (
          property["default"] === undefined &&
          !((items?.["required"] ?? []) as readonly string[]).includes(key)
        ) {
          errors.push(
            required(
              `${path}.items.properties[${key}].default`,
              "this property is in x-kubernetes-list-map-keys, so it must have a default or be a required property",
            ),
          );
        }
      }
    }
  }
  if (schema["properties"] !== undefined && isRecord(schema["additionalProperties"])) {
    errors.push(forbidden(`${path}.additionalProperties`, "additionalProperties and properties are mutual exclusive"));
  }
  for (const [name, one] of Object.entries((schema["properties"] ?? {}) as Record<string, Json>)) {
    if (root && name === "metadata") continue;
    errors.push(...validateStructural(one, `${path}.properties[${name}]`));
  }
  const additional = schema["additionalProperties"];
  if (isRecord(additional)) errors.push(...validateStructural(additional, `${path}.additionalProperties`));
  const items = schema["items"];
  if (isRecord(items)) errors.push(...validateStructural(items, `${path}.items`));
  else if (type === "array") errors.push(required(`${path}.items`, "must be specified"));
  return errors;
}

export function validateCustomResourceDefinitionUpdate(object: KubeObject, old: KubeObject): FieldError[] {
  const errors = validateCustomResourceDefinition(object);
  const established = ((old.status?.conditions ?? []) as readonly { type: string; status: string }[]).some(
    (one) => one.type === "Established" && one.status === "True",
  );
  if (!established) return errors;
  return [
    ...errors,
    ...immutableField("spec.scope", object.spec?.scope, old.spec?.scope),
    ...immutableField("spec.group", object.spec?.group, old.spec?.group),
    ...immutableField("spec.names.kind", object.spec?.names?.kind, old.spec?.names?.kind),
    ...immutableField("spec.names.plural", object.spec?.names?.plural, old.spec?.names?.plural),
  ];
}
