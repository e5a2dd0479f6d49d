// When the endpoints of a Service last changed at their source (a pod became ready, went), as whoever wrote its slices noted it:
// what network programming latency is measured from.

import { triggerTimeAnnotation } from "./endpoint-slices.ts";
import type { ServiceInputs } from "./inputs.ts";

/** The newest note on the slices of a row's Service, RFC 3339; undefined when there is none. */
export function endpointsChangedAt({
  slicesByService,
}: Pick<ServiceInputs, "slicesByService">): (row: {
  readonly namespace: string;
  readonly service: string;
}) => string | undefined {
  return ({ namespace, service }) => {
    let latest: string | undefined;
    for (const { metadata } of slicesByService.where(`${namespace}/${service}`)) {
      const time = metadata.annotations?.[triggerTimeAnnotation];
      if (time !== undefined && (latest === undefined || time > latest)) latest = time;
    }
    return latest;
  };
}
