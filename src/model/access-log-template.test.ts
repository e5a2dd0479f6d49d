// Templates of access logs: what of Envoy's operators is refused, and with which words.

import { expect, test } from "bun:test";
import { templatePieces } from "./access-log-template.ts";

test.each<[string, string]>([
  ["%ENVIRONMENT(HOME)%", "write the value itself into the template"],
  ["%DYNAMIC_METADATA(a:b)%", "ROUTE_NAME, UPSTREAM_CLUSTER and REQUESTED_SERVER_NAME say what was chosen"],
  ["%UPSTREAM_WIRE_BYTES_SENT%", "only bodies are counted"],
  ["%COMMON_DURATION(DS_RX_BEG:US_RX_BEG:ms)%", "use DURATION, REQUEST_DURATION"],
  ["%CONNECTION_ID%", "use STREAM_ID"],
  ["%GRPC_STATUS(HEX)%", "GRPC_STATUS has no argument like this"],
  ["%DURATION:3%", "DURATION has no length"],
  ["%START_TIME(%s):3%", "START_TIME has no length"],
  ["%TRAILER%", "needs the name of a field"],
  ["%PATH(XX)%", "takes WQ or NQ"],
  ["%QUERY_PARAM()%", "needs the name of a query parameter"],
  ["%START_TIME(%Q)%", '"%Q" is no conversion of times'],
  ["%START_TIME(%Y%)%", '"%" is no conversion of times'],
  ["%START_TIME(%s%", "%START_TIME(%"],
  ["%NO%", "there are PROTOCOL,"],
])("%s is refused: %s", (template, words) => {
  expect(() => templatePieces(template)).toThrow(words);
});

test("the signs in a format of a time end no operator", () => {
  const pieces = templatePieces("[%START_TIME(%Y-%m)%] %EMIT_TIME%%%");
  expect(pieces).toEqual([
    "[",
    { time: "start", format: expect.anything() },
    "] ",
    { time: "emit", format: undefined },
    "%",
  ]);
});
