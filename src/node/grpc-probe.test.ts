import { afterAll, beforeAll, expect, test } from "bun:test";
import { Server, ServerCredentials, type ServiceError, status } from "@grpc/grpc-js";
import { grpcProblem } from "./grpc-probe.ts";

/** By the name of the service that is asked for. */
const answers: Record<string, number | undefined> = { "": 1, ready: 1, busy: 2 };
const same = (bytes: Buffer) => bytes;
const server = new Server();
let port = 0;

beforeAll(async () => {
  server.addService(
    {
      check: {
        path: "/grpc.health.v1.Health/Check",
        ...{ requestStream: false, responseStream: false },
        ...{ requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same },
      },
    },
    {
      check(call: { request: Buffer }, done: (error: Partial<ServiceError> | null, answer?: Buffer) => void) {
        const found = answers[call.request.subarray(2).toString()];
        if (found === undefined) done({ code: status.NOT_FOUND, details: "unknown service" });
        else done(null, Buffer.from([8, found]));
      },
    },
  );
  port = await new Promise((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
});
afterAll(() => server.forceShutdown());

test("a service that serves is well, another is not, and says why", async () => {
  const ask = (service: string) => grpcProblem("127.0.0.1", port, service, 2_000);
  expect(await ask("")).toBeUndefined();
  expect(await ask("ready")).toBeUndefined();
  expect(await ask("busy")).toBe('service unhealthy (responded with "NOT_SERVING")');
  expect(await ask("nobody")).toBe("error: health rpc failed: HTTP status 200, grpc-status 5");
});

test("where nobody listens, or nobody speaks gRPC, is not well", async () => {
  const web = Bun.serve({ port: 0, hostname: "127.0.0.1", fetch: () => new Response("hi") });
  expect(await grpcProblem("127.0.0.1", web.port!, "", 1_000)).toStartWith("error: ");
  const silent = Bun.listen({ hostname: "127.0.0.1", port: 0, socket: { data() {} } });
  expect(await grpcProblem("127.0.0.1", silent.port, "", 100)).toStartWith("timeout: ");
  silent.stop(true);
  web.stop(true);
  expect(await grpcProblem("127.0.0.1", silent.port, "", 1_000)).toStartWith("error: failed to connect");
});
