// Access logs and traces of a listener, as people write them.

import type { AccessLogSettings, TracingSettings } from "../../model/listener-telemetry.ts";
import { byField, list, may, number, object, oneOf, or, record, text } from "./shape.ts";

type Format = AccessLogSettings["format"];

export const accessLog = object<AccessLogSettings>({
  path: text,
  format: byField<Format>({
    text: object<{ text: string }>({ text }),
    json: object<Extract<Format, { json: unknown }>>({ json: record(text) }),
  }),
  sample: may(number),
});

export const tracing = object<TracingSettings>({
  backend: text,
  path: may(text),
  service: or(text, "fairlead"),
  sample: or(number, 1),
  formats: or(list(oneOf("w3c", "b3", "b3multi")), ["w3c"]),
});
