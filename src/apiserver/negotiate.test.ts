import { describe, expect, test } from "bun:test";
import { negotiate } from "./negotiate.ts";

const none = new URLSearchParams();
const table = "application/json;as=Table;v=v1;g=meta.k8s.io";

describe("the form of an answer", () => {
  test("is JSON for those who do not mind", () => {
    expect(negotiate(undefined, none).format).toBe("json");
    expect(negotiate("*/*", none).format).toBe("json");
    expect(negotiate("text/html, application/yaml", none).format).toBe("yaml");
  });

  test("is a table where there are tables, and else the next that is accepted", () => {
    expect(negotiate(`${table},application/json`, none, { transforms: ["Table"] }).as).toBe("Table");
    expect(negotiate(`${table},application/json`, none).as).toBeUndefined();
    expect(() => negotiate(table, none)).toThrow("only the following media types are accepted");
  });

  test("follows the client's weights", () => {
    expect(negotiate("application/yaml;q=0.5, application/json", none).format).toBe("json");
    expect(negotiate("application/json;q=0, application/yaml", none).format).toBe("yaml");
  });

  test("is refused when there is none", () => {
    expect(() => negotiate("text/html", none)).toThrow("only the following media types are accepted: application/json");
  });
});
