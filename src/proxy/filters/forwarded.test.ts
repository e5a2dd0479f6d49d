import { expect, test } from "bun:test";
import type { Filter } from "../../model/model.ts";
import { lookAtForwarding } from "./order.ts";

const from = { kind: "Test", name: "test", field: "" };

test("forwarding headers are one by one where a filter looks at them, or may", () => {
  const sets = (name: string): Filter => ({
    kind: "requestHeaders",
    from,
    change: { set: [], add: [], remove: [name] },
  });
  const fault = (name: string): Filter => ({
    kind: "fault",
    from,
    when: [{ name, match: { kind: "present" } }],
    abort: { perMillion: 1, status: 500 },
  });
  const mirror: Filter = { kind: "mirror", from, backend: "b", perMillion: 1 };
  const blind: Filter = { kind: "bodyLimit", from, bytes: 1 };
  expect(lookAtForwarding([])).toBeFalse();
  expect(lookAtForwarding([blind, sets("x-a"), fault("x-a")])).toBeFalse();
  expect(lookAtForwarding([blind, sets("x-forwarded-for")])).toBeTrue();
  expect(lookAtForwarding([fault("x-request-id")])).toBeTrue();
  expect(lookAtForwarding([mirror])).toBeTrue();
});
