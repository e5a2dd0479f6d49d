import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import fc from "fast-check";
import { resourceName, resourceTypes } from "../../model/model.ts";
import { Redacted } from "../../model/redacted.ts";
import { arbitraryModel } from "../../model/testing/arbitrary.ts";
import { parseModel, readModel } from "./read-model.ts";

const good = `kind: Listener
name: web
port: 8080
chains:
  - serve: { routes: shop }
---
kind: RouteTable
name: shop
hosts:
  - rules:
      - name: all
        retry: { on: [5xx], attempts: 2 }
        filters:
          - kind: requestHeaders
            change: { set: [{ name: x-shop, value: blue }] }
        action:
          kind: forward
          to:
            - target: { backend: cart }
---
kind: Backend
name: cart
---
kind: Endpoints
backend: cart
endpoints:
  - { address: 127.0.0.1, port: 9001 }
`;

const problems = (text: string) => parseModel(text, "a.yaml").problems;
const changed = (from: string, to: string) => {
  expect(good).toContain(from);
  return problems(good.replace(from, to));
};

describe("a model in a file", () => {
  test("is the model's own, with what may be left out filled in", () => {
    const { model, problems, locate } = parseModel(good, "a.yaml");
    expect(problems).toEqual([]);
    const [rule] = model.routeTables.get("shop")!.hosts[0]!.rules;
    expect(rule).toMatchObject({ match: {}, retry: { on: ["5xx"], statuses: [], backoff: { base: 25, max: 250 } } });
    expect(rule!.filters[0]).toMatchObject({ kind: "requestHeaders", change: { add: [], remove: [] } });
    expect(model.listeners.get("web")).toMatchObject({ address: "127.0.0.1", transport: "tcp" });
    expect(model.listeners.get("web")!.chains[0]!.when).toEqual({ kind: "plain" });
    expect(model.endpoints.get("cart")!.endpoints[0]!.weight).toBe(1);
    expect(rule!.filters[0]!.from).toEqual({
      kind: "RouteTable",
      name: "shop",
      field: "hosts[0].rules[0].filters[0]",
    });
    expect(locate(rule!.filters[0]!.from)).toMatchObject({ file: "a.yaml", line: 14 });
  });

  test("is the same when its lines move, so that nothing is sent to the proxy again", () => {
    expect(parseModel(`# a comment\n\n${good}`, "a.yaml").model).toEqual(parseModel(good, "a.yaml").model);
  });

  test("may be JSON", () => {
    const text = JSON.stringify({ kind: "Endpoints", backend: "b", endpoints: [] });
    expect(problems(`${text}\n---\n${JSON.stringify({ kind: "Backend", name: "b" })}`)).toEqual([]);
  });

  test.each([
    ["port: 8080", "prt: 8080", "a.yaml:3: Listener web: prt is not known: did you mean port?"],
    ["port: 8080", 'port: "8080"', 'a.yaml:3: Listener web: port must be a number, not "8080": leave the quotes out'],
    ["port: 8080", "port: 99999", "a.yaml:3: Listener web: port 99999 is no port"],
    [
      "attempts: 2",
      "atempts: 2",
      "a.yaml:12: RouteTable shop: hosts[0].rules[0].retry.atempts is not known: did you mean attempts?",
    ],
    [
      "value: blue",
      "value: 1",
      "a.yaml:15: RouteTable shop: hosts[0].rules[0].filters[0].change.set[0].value must be a text, not 1: put it in quotes",
    ],
    [
      "kind: requestHeaders",
      "kind: requestHeader",
      'a.yaml:14: RouteTable shop: hosts[0].rules[0].filters[0].kind "requestHeader" is not known: did you mean requestHeaders?',
    ],
    ["kind: Backend", "kind: Bakend", 'a.yaml:21: kind "Bakend" is not known: did you mean Backend?'],
    ["routes: shop", "routes: shp", "a.yaml:5: Listener web: chains[0].serve.routes route table shp is not known"],
    ["routes: shop", "rotes: shop", "a.yaml:5: Listener web: chains[0].serve needs one of routes, tcp, original"],
    [
      "target: { backend: cart }",
      "target: { backend: crt }",
      "a.yaml:19: RouteTable shop: hosts[0].rules[0].action.to[0].target.backend backend crt is not known",
    ],
    [
      "name: cart",
      "name: cart\nconnectTimeout: soon",
      'a.yaml:23: Backend cart: connectTimeout must be a number, not "soon"',
    ],
  ])("with %p as %p is refused at its line", (from, to, problem) => {
    expect(changed(from, to)).toContain(problem);
  });

  test.each(["serve: { original: true }", "serve: { tcp: [], original: true }"])(
    "with %p passes connections on to where they wanted to go",
    (serve) => {
      const { model, problems } = parseModel(
        good.replace("port: 8080", "port: 8080\noriginalDestination: true").replace("serve: { routes: shop }", serve),
        "a.yaml",
      );
      expect(problems).toEqual([]);
      expect(model.listeners.get("web")!.chains[0]!.serve).toMatchObject({ tcp: [], original: true });
      expect(changed("serve: { routes: shop }", serve)).toEqual([
        "a.yaml:5: Listener web: chains[0].serve.original needs originalDestination or transparent of its listener",
      ]);
    },
  );

  test("tells every bad resource, and the good ones are left out of it", () => {
    const found = changed("port: 8080", "prt: 8080");
    expect(found).toHaveLength(2);
    expect(found.every((one) => one.includes("Listener web"))).toBe(true);
  });

  test("has each name once, and each port once", () => {
    expect(problems(`${good}---\nkind: Backend\nname: cart\n`)).toEqual([
      "a.yaml:30: Backend cart: is there already, at a.yaml:21",
    ]);
    const other = good.slice(0, good.indexOf("---")).replace("name: web", "name: other");
    expect(problems(`${good}---\n${other}`)).toEqual([
      "a.yaml:31: Listener other: port 8080 of 127.0.0.1 is that of Listener web, too",
    ]);
  });

  test("must say who answers for a backend", () => {
    expect(problems("kind: Backend\nname: lonely")).toEqual([
      "a.yaml:2: Backend lonely: name has no document of kind Endpoints: nobody could answer",
    ]);
  });

  test("that is no YAML, or of Kubernetes, says so", () => {
    expect(problems("kind: [")[0]).toMatch(/^a\.yaml:\d+:\d+: not YAML: /);
    expect(problems("kind: Service\napiVersion: v1")[0]).toContain("fairlead up -f");
  });
});

describe("files that a Secret names", () => {
  test("are found beside the file, and what is wrong with them names no key", async () => {
    const folder = mkdtempSync(join(tmpdir(), "fl-t-static-"));
    try {
      const file = join(folder, "secret.yaml");
      const content = "content: { kind: certificate, certificate: { file: tls.crt }, privateKey: { file: tls.key } }";
      writeFileSync(file, `kind: Secret\nname: tls\n${content}\n`);
      const missing = await readModel([file]);
      expect(missing.problems[0]).toBe(
        `${file}:3: Secret tls: content.certificate.file ${join(folder, "tls.crt")}: there is no such file`,
      );
      writeFileSync(join(folder, "tls.crt"), "nothing");
      writeFileSync(join(folder, "tls.key"), "a deep secret");
      const wrong = await readModel([file]);
      expect(wrong.files).toContain(join(folder, "tls.key"));
      expect(wrong.problems.join("\n")).toContain("is no PEM private key");
      expect(wrong.problems.join("\n")).not.toContain("a deep secret");
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

describe("whatever the model can say", () => {
  /** As people would write it: without what is filled in. */
  const written = (value: unknown): unknown => {
    if (value instanceof Redacted) return value.reveal();
    if (Array.isArray(value)) return value.map(written);
    if (typeof value !== "object" || value === null) return value;
    const fields = Object.entries(value).filter(([name, one]) => one !== undefined && !isFilledIn(name, one));
    return Object.fromEntries(fields.map(([name, one]) => [name, written(one)]));
  };
  const isFilledIn = (name: string, value: unknown) =>
    name === "scope" || name === "fingerprint" || (name === "from" && typeof value === "object");
  const kinds = {
    secrets: "Secret",
    backends: "Backend",
    endpoints: "Endpoints",
    routeTables: "RouteTable",
    listeners: "Listener",
  };

  test("can be written in a file", () => {
    fc.assert(
      fc.property(arbitraryModel({ maxRules: 4 }), (model) => {
        const resources = resourceTypes.flatMap((type) => [...model[type].values()].map((one) => ({ type, one })));
        const text = resources.map(({ type, one }) =>
          JSON.stringify({ kind: kinds[type], ...(written(one) as object) }),
        );
        const read = parseModel(text.join("\n---\n"), "a.json");
        for (const { type, one } of resources)
          expect(written(read.model[type].get(resourceName(type, one)))).toEqual(written(one));
      }),
      { numRuns: 10 },
    );
  });

  test("and every example of docs/policies.md", () => {
    const page = readFileSync(new URL("../../../docs/policies.md", import.meta.url), "utf8");
    // An example is a paragraph of indented JSON, or several that follow each other.
    const filters = page
      .split(/\n(?=\n|\S| {4}\{ )/)
      .filter((part) => part.startsWith('    { "kind"'))
      .map((part) => JSON.parse(part));
    expect(filters.length).toBeGreaterThan(15);
    const rules = [{ name: "all", filters, action: { kind: "respond", status: 200 } }];
    // Without what is asked of references: nothing that they name is here.
    const found = problems(JSON.stringify({ kind: "RouteTable", name: "all", hosts: [{ rules }] }));
    expect(found.filter((one) => !/ (backend|secret) \S+ is not known$/.test(one))).toEqual([]);
  });
});
