// What names, labels and keys may look like (apimachinery util/validation, api/validation, api/validation/path). Each function returns
// the problems of one text as upstream words them; an empty list is a good name.

const dns1123Label = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/;
const dns1123Subdomain = /^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const wildcardSubdomain = /^\*\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$/;
const dns1035Label = /^[a-z]([-a-z0-9]*[a-z0-9])?$/;
const qualifiedName = /^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$/;
const labelValue = /^(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?$/;
const configKey = /^[-._a-zA-Z0-9]+$/;
const envVarName = /^[-._a-zA-Z][-._a-zA-Z0-9]*$/;
const portName = /^[-a-z0-9]+$/;

const tooLong = (limit: number) => `must be no more than ${limit} bytes`;
const example = (...examples: string[]) => examples.map((one) => `'${one}'`).join(",  or ");

export const subdomainText =
  "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

export type NameCheck = (name: string) => string[];

/** `my-name`: at most 63 bytes, no dots. */
export const dnsLabelProblems: NameCheck = (name) => [
  ...(name.length > 63 ? [tooLong(63)] : []),
  ...(dns1123Label.test(name)
    ? []
    : [
        `a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. ${example("my-name", "123-abc")}, regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')`,
      ]),
];

/** `example.com`: at most 253 bytes. */
export const dnsSubdomainProblems: NameCheck = (name) => [
  ...(name.length > 253 ? [tooLong(253)] : []),
  ...(dns1123Subdomain.test(name) ? [] : [subdomainText]),
];

export const wildcardSubdomainProblems: NameCheck = (name) => [
  ...(name.length > 253 ? [tooLong(253)] : []),
  ...(wildcardSubdomain.test(name)
    ? []
    : [
        "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character (e.g. '*.example.com', regex used for validation is '\\*\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
      ]),
];

export const dns1035LabelProblems: NameCheck = (name) => [
  ...(name.length > 63 ? [tooLong(63)] : []),
  ...(dns1035Label.test(name)
    ? []
    : [
        `a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. ${example("my-name", "abc-123")}, regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')`,
      ]),
];

/** Names that are only path segments (RBAC roles). */
export const pathSegmentProblems: NameCheck = (name) => {
  if (name === "." || name === "..") return [`may not be '${name}'`];
  return ["/", "%"].filter((one) => name.includes(one)).map((one) => `may not contain '${one}'`);
};

/** The key of a label or annotation: `name` or `prefix/name`. */
export function labelNameProblems(key: string): string[] {
  const parts = key.split("/");
  const problems: string[] = [];
  let name = key;
  if (parts.length === 2) {
    name = parts[1]!;
    const prefix = parts[0]!;
    if (prefix === "") problems.push("prefix part must be non-empty");
    else problems.push(...dnsSubdomainProblems(prefix).map((problem) => `prefix part ${problem}`));
  } else if (parts.length > 2) {
    return [
      `a qualified name must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. ${example("MyName", "my.name", "123-abc")}, regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')`,
    ];
  }
  if (name === "") problems.push("name part must be non-empty");
  else if (name.length > 63) problems.push("name part must be no more than 63 bytes");
  if (!qualifiedName.test(name)) {
    problems.push(
      `name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. ${example("MyName", "my.name", "123-abc")}, regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')`,
    );
  }
  return problems;
}

export function labelValueProblems(value: string): string[] {
  return [
    ...(value.length > 63 ? [tooLong(63)] : []),
    ...(labelValue.test(value)
      ? []
      : [
          `a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. ${example("MyValue", "my_value", "12345")}, regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')`,
        ]),
  ];
}

/** A key of a ConfigMap or Secret. */
export function configKeyProblems(key: string): string[] {
  const problems: string[] = [];
  if (key.length > 253) problems.push(tooLong(253));
  if (!configKey.test(key)) {
    problems.push(
      `a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. ${example("key.name", "KEY_NAME", "key-name")}, regex used for validation is '[-._a-zA-Z0-9]+')`,
    );
  }
  if (key === ".") problems.push("must not be '.'");
  else if (key === "..") problems.push("must not be '..'");
  else if (key.startsWith("..")) problems.push("must not start with '..'");
  return problems;
}

export function envVarNameProblems(name: string): string[] {
  if (!envVarName.test(name)) {
    return [
      `a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', and must not start with a digit (e.g. ${example("my.env-name", "MY_ENV.NAME", "MyEnvName1")}, regex used for validation is '[-._a-zA-Z][-._a-zA-Z0-9]*')`,
    ];
  }
  return name === "." || name === ".." ? [`must not be '${name}'`] : [];
}

/** The name of a container port (IANA service name). */
export function portNameProblems(name: string): string[] {
  const problems: string[] = [];
  if (name.length > 15) problems.push("must be no more than 15 characters");
  if (!portName.test(name)) problems.push("must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
  if (!/[a-z]/.test(name)) problems.push("must contain at least one letter (a-z)");
  if (name.includes("--")) problems.push("must not contain consecutive hyphens");
  if (name.startsWith("-") || name.endsWith("-")) problems.push("must not begin or end with a hyphen");
  return problems;
}

/** 1-65535. */
export function portProblems(port: unknown): string[] {
  return typeof port === "number" && Number.isInteger(port) && port >= 1 && port <= 65535
    ? []
    : ["must be between 1 and 65535, inclusive"];
}

/** What is wrong with text that should be an address and is none. */
export const ipProblem = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";
