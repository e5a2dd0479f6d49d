import { describe, expect, test } from "bun:test";
import { credentials, quoted } from "./basic-auth.ts";

const basic = (text: string | Buffer) => `Basic ${Buffer.from(text).toString("base64")}`;

describe("what an Authorization field says", () => {
  test("name and password; the password may have colons", () => {
    expect(credentials(basic("ann:a:b"))).toMatchObject({ name: "ann", password: "a:b" });
    expect(credentials(`bAsIc ${btoa("ann:")}`)).toMatchObject({ name: "ann", password: "" });
  });

  test("names are UTF-8, and the bytes go on in a header", () => {
    const given = credentials(basic("jörg:x"))!;
    expect(given.name).toBe("jörg");
    expect(Buffer.from(given.headerName, "latin1").toString("utf8")).toBe("jörg");
  });

  test("nothing, other schemes, no colon, no name, control characters", () => {
    for (const text of [
      undefined,
      "",
      "Bearer abc",
      "Basic",
      "Basic ***",
      basic("ann"),
      basic(":x"),
      basic("a\r\nb:x"),
    ]) {
      expect(credentials(text)).toBeUndefined();
    }
  });
});

test("a realm is a quoted string", () => {
  expect(quoted('a "b" \\')).toBe('"a \\"b\\" \\\\"');
});
