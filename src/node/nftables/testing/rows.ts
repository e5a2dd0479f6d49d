// Rows of a service table for tests of this backend, whose chains are named by their ports.

import type { ServicePort } from "../../../services/service-table.ts";
import { port as row } from "../../testing/rows.ts";

export { table } from "../../testing/rows.ts";

/** A Service whose port is called `http`. */
export const port = (service: number, endpoints: readonly number[], more: Partial<ServicePort> = {}) =>
  row(service, endpoints, more, "http");
