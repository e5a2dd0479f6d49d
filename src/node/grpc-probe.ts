// A probe of kind grpc, as the kubelet does it (pkg/probe/grpc): one question to grpc.health.v1.Health/Check over HTTP/2 without TLS, on a
// connection of its own. Only the status SERVING is well.

import { connect } from "node:http2";
import { endpointText } from "../services/service-table.ts";
import { framed, stringField } from "./standin/grpc.ts";

/** HealthCheckResponse.ServingStatus, by number. */
const statuses = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"];
/** gRPC's code for a method that is not there. */
const unimplemented = "12";
/** Of an answer; a health check's is a few. */
const mostBytes = 4 * 1024;

/** Resolves with the reason why the service is not well; undefined when it is. `timeout` in milliseconds. */
export function grpcProblem(
  address: string,
  port: number,
  service: string,
  timeout: number,
): Promise<string | undefined> {
  return new Promise((resolve) => {
    const place = endpointText({ address, port });
    const session = connect(`http://${place}`);
    const end = (problem: string | undefined) => {
      clearTimeout(timer);
      session.destroy();
      resolve(problem);
    };
    const timer = setTimeout(() => end(`timeout: failed to connect service "${place}" within ${timeout} ms`), timeout);
    session.on("error", (error) => end(`error: failed to connect to "${place}": ${error.message}`));
    const stream = session.request({
      ":method": "POST",
      ":path": "/grpc.health.v1.Health/Check",
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": "kube-probe/1.36",
    });
    let code: string | undefined;
    let httpStatus: number | undefined;
    let body = Buffer.alloc(0);
    stream.on("response", (headers) => {
      httpStatus = headers[":status"];
      code = headers["grpc-status"] as string | undefined;
    });
    stream.on("trailers", (trailers) => {
      code = trailers["grpc-status"] as string | undefined;
    });
    stream.on("data", (chunk: Buffer) => {
      body = Buffer.concat([body, chunk]);
      if (body.length > mostBytes) end("error: health rpc failed: the answer is too long");
    });
    stream.on("error", (error) => end(`error: health rpc failed: ${error.message}`));
    stream.on("close", () => end(verdict(httpStatus, code, body)));
    stream.end(framed(stringField(1, service)));
  });
}

function verdict(httpStatus: number | undefined, code: string | undefined, body: Buffer): string | undefined {
  if (httpStatus === undefined) return "error: health rpc failed: the connection was closed";
  if (code === unimplemented)
    return "error: this server does not implement the grpc health protocol (grpc.health.v1.Health)";
  if (code !== "0") return `error: health rpc failed: HTTP status ${httpStatus}, grpc-status ${code ?? "absent"}`;
  // Behind the message's length: field 1, a number of one byte; nothing at all is 0.
  const status = body.length > 5 && body[5] === 8 ? (body[6] ?? 0) : 0;
  return status === 1 ? undefined : `service unhealthy (responded with "${statuses[status] ?? status}")`;
}
