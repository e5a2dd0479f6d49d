import { afterAll, describe, expect, test } from "bun:test";
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { lineOf, orderForApply, parseManifests, readManifests } from "./manifests.ts";
import { emptySources, locate, recordSources } from "./sources.ts";

const route = `# a comment first
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata:
  name: orders
  annotations:
    example.com/owner: me
spec:
  rules:
  - matches:
    - path: {type: PathPrefix, value: /a}
    - headers:
      - name: x
        value: "1"
    backendRefs: [{name: a, port: 80},
      {name: b, port: 80}]
---
# nothing here
---
apiVersion: v1
kind: Service
metadata: {name: a, namespace: shop}
`;

const problem = (text: string) => parseManifests(text, "f.yaml").problems.join("\n");

describe("a manifest file", () => {
  test("gives its objects with the line they start on and the line of each field", () => {
    const { manifests, problems } = parseManifests(route, "route.yaml");
    expect(problems).toEqual([]);
    expect(manifests.map(({ object, source }) => [object.kind, source.line])).toEqual([
      ["HTTPRoute", 2],
      ["Service", 20],
    ]);
    const { source } = manifests[0]!;
    expect(lineOf(source, "spec.rules[0]")).toBe(10);
    expect(lineOf(source, "spec.rules[0].matches[1]")).toBe(12);
    expect(lineOf(source, "spec.rules[0].matches[1].headers[0].value")).toBe(14);
    expect(lineOf(source, "spec.rules[0].backendRefs[1]")).toBe(16);
    expect(lineOf(source, "metadata.annotations[example.com/owner]")).toBe(7);
    expect(lineOf(source, "metadata.annotations.example.com/owner")).toBe(7);
  });

  test("answers for a field that is not there with its nearest parent", () => {
    const { source } = parseManifests(route, "route.yaml").manifests[0]!;
    expect(lineOf(source, "spec.rules[0].filters[3].type")).toBe(10);
    expect(lineOf(source, "spec.hostnames[0]")).toBe(8);
    expect(lineOf(source, "status")).toBe(2);
    expect(lineOf(source, "")).toBe(2);
  });

  test("may be JSON, and a List is its items", () => {
    const list = JSON.stringify(
      { apiVersion: "v1", kind: "List", items: [{ apiVersion: "v1", kind: "Pod", metadata: { name: "p" }, spec: {} }] },
      null,
      2,
    );
    const { manifests } = parseManifests(list, "list.json");
    expect(manifests.map(({ object }) => object.metadata.name)).toEqual(["p"]);
    expect(manifests[0]!.source.line).toBe(5);
    expect(lineOf(manifests[0]!.source, "metadata.name")).toBe(9);
  });

  test("is read as kubectl does: yes is true, 0644 is octal, 12:30 and times are text, anchors merge", () => {
    const { manifests } = parseManifests(
      `apiVersion: v1
kind: X
metadata: {name: x, labels: &l {a: b}}
spec: {on1: yes, mode: 0644, time: 12:30, dot: ., half: .5, one: 1.,  day: 2026-01-01, more: {<<: *l, c: d}, quoted: "yes"}
`,
      "x.yaml",
    );
    expect(manifests[0]!.object.spec).toEqual({
      on1: true,
      mode: 0o644,
      time: "12:30",
      dot: ".",
      half: 0.5,
      one: 1,
      day: "2026-01-01",
      more: { a: "b", c: "d" },
      quoted: "yes",
    });
  });

  test("that is wrong is named with file, line and cause", () => {
    expect(problem("a: [1, 2\nb: }")).toMatch(/^f\.yaml:2:\d+: not YAML: /);
    expect(problem("kind: {{ .Values.kind }}\n  x: 1")).toContain("render it first");
    expect(problem("a: 1\na: 2\n")).toContain("f.yaml:2:1: not YAML: map keys must be unique");
    expect(problem("just text")).toBe("f.yaml:1: the document is a text, not a Kubernetes object");
    expect(problem("- 1\n")).toContain("is a list, not a Kubernetes object");
    expect(problem("kind: Pod\nmetadata: {name: a}\n")).toBe("f.yaml:1: Pod: apiVersion is missing");
    expect(problem("apiVersion: v1\nmetadata: {name: a}\n")).toBe("f.yaml:1: object: kind is missing");
    expect(problem("apiVersion: v1\nkind: Pod\n")).toBe("f.yaml:1: Pod: metadata.name is missing");
    expect(problem("apiVersion: v1\nkind: Pod\nmetadata:\n  labels: {}\n")).toBe(
      "f.yaml:3: Pod: metadata.name is missing",
    );
    expect(problem("apiVersion: v1\nkind: Pod\nmetadata:\n  name: 12\n")).toBe(
      "f.yaml:4: Pod: metadata.name must be a string, not the number 12: put it in quotes",
    );
    expect(problem("apiVersion: kustomize.config.k8s.io/v1beta1\nkind: Kustomization\n")).toContain(
      "kubectl kustomize",
    );
    expect(problem("apiVersion: v1\nkind: Pod\nmetadata: {generateName: a-}\n")).toContain(
      "generateName cannot be applied",
    );
  });
});

describe("reading -f", () => {
  const directory = mkdtempSync(join(tmpdir(), "fl-t-manifests-"));
  afterAll(() => rmSync(directory, { recursive: true, force: true }));
  const object = (name: string) => `apiVersion: v1\nkind: ConfigMap\nmetadata: {name: ${name}}\n`;

  test("takes files, directories with all below in order of their names, and standard input", async () => {
    mkdirSync(join(directory, "tree", "b"), { recursive: true });
    writeFileSync(join(directory, "tree", "c.yml"), object("c"));
    writeFileSync(
      join(directory, "tree", "b", "x.json"),
      '{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"x"}}',
    );
    writeFileSync(join(directory, "tree", "a.yaml"), object("a"));
    writeFileSync(join(directory, "tree", "README.md"), "no");
    const read = await readManifests([join(directory, "tree"), "-"], { stdin: async () => object("in") });
    expect(read.map(({ object: { metadata } }) => metadata.name)).toEqual(["a", "x", "c", "in"]);
  });

  test("says what is wrong with the file", async () => {
    expect(readManifests([join(directory, "none.yaml")])).rejects.toThrow("there is no such file or directory");
    expect(readManifests(["https://example.com/a.yaml"])).rejects.toThrow("is a URL");
    writeFileSync(join(directory, "empty.yaml"), "# nothing\n");
    expect(readManifests([join(directory, "empty.yaml")])).rejects.toThrow("no Kubernetes object in");
    writeFileSync(join(directory, "bad.yaml"), `${object("ok")}---\n{`);
    expect(readManifests([join(directory, "bad.yaml")])).rejects.toThrow(/bad\.yaml:5:\d+: not YAML/);
  });

  const mission = join(import.meta.dir, "../../../shared/mission/manifests");
  test.skipIf(!existsSync(mission))("takes the mission's manifests", async () => {
    expect((await readManifests([mission])).length).toBe(19);
  });
});

describe("the order of applying", () => {
  test("puts what others refer to first and keeps the rest as written", () => {
    const kinds = [
      "HTTPRoute",
      "Deployment",
      "Gateway",
      "Service",
      "Secret",
      "CustomResourceDefinition",
      "Namespace",
      "Widget",
    ];
    const manifests = kinds.map((kind) => ({ object: { apiVersion: "v1", kind, metadata: { name: "x" } } }));
    expect(orderForApply(manifests).map(({ object }) => object.kind)).toEqual([
      "Namespace",
      "CustomResourceDefinition",
      "Secret",
      "Service",
      "Deployment",
      "HTTPRoute",
      "Gateway",
      "Widget",
    ]);
  });
});

describe("the record of sources", () => {
  test("completes a provenance with file and line, also after a round trip through JSON", () => {
    const { manifests } = parseManifests(route, "route.yaml");
    const record = JSON.parse(JSON.stringify(recordSources(emptySources, manifests, "/home/me")));
    expect(
      locate(record, { kind: "HTTPRoute", namespace: "default", name: "orders", field: "spec.rules[0].matches[1]" }),
    ).toEqual({
      kind: "HTTPRoute",
      namespace: "default",
      name: "orders",
      field: "spec.rules[0].matches[1]",
      file: "/home/me/route.yaml",
      line: 12,
    });
    expect(locate(record, { kind: "Service", namespace: "shop", name: "a", field: "" })).toMatchObject({ line: 20 });
    const unknown = { kind: "Service", namespace: "shop", name: "other", field: "" };
    expect(locate(record, unknown)).toEqual(unknown);
  });

  test("is replaced for objects that are read again", () => {
    const first = recordSources(emptySources, parseManifests(route, "/a.yaml").manifests);
    const second = recordSources(first, parseManifests(route, "/b.yaml").manifests);
    expect(Object.keys(second.objects).length).toBe(2);
    expect(locate(second, { kind: "Service", namespace: "shop", name: "a", field: "" }).file).toBe("/b.yaml");
  });
});
