// What stands behind the proxies that `side-by-side-policies.test.ts` compares: origins that keep what they saw under the request's
// key, hold requests and fall ill when told, and two servers of gRPC.

import * as grpc from "@grpc/grpc-js";
import { messages } from "../../src/proxy/filters/grpc-messages.ts";
import { shown } from "./beside.ts";

/** What was seen of a request, by its `x-key`. */
export type Seen = Map<string, string[]>;

/**
 * Answers `good NAME`, or as the request says: `x-status`; `x-hold: 1` until it is released, `x-hold: N` for N milliseconds; and to
 * questions of a proxy under `/check` what `x-auth` says.
 */
export class Origin {
  readonly #server: ReturnType<typeof Bun.serve>;
  readonly #held = new Map<string, PromiseWithResolvers<void>>();

  constructor(name: string, seen: Seen, isWell: () => boolean = () => true) {
    this.#server = Bun.serve({
      hostname: "127.0.0.1",
      port: 0,
      fetch: async (request) => {
        const { pathname, search } = new URL(request.url);
        if (pathname === "/health") return new Response("", { status: isWell() ? 200 : 503 });
        const key = request.headers.get("x-key") ?? "";
        const about = shown(request.headers).filter((line) => !/^x-(key|hold|status|hash):/.test(line));
        const partial = request.headers.get("x-envoy-auth-partial-body");
        if (partial !== null) about.push(`partial: ${partial}`);
        const line = `${name}: ${request.method} ${request.headers.get("host")} ${pathname}${search} ${about.join(", ")} ${await request.text()}`;
        const lines = seen.get(key);
        if (lines) lines.push(line);
        else seen.set(key, [line]);
        if (pathname.startsWith("/check")) return verdict(request.headers.get("x-auth"));
        const hold = Number(request.headers.get("x-hold") ?? 0);
        if (hold === 1) await this.#until(key).promise;
        else if (hold > 1) await Bun.sleep(hold);
        const status = Number(request.headers.get("x-status") ?? 200);
        return new Response(`${status < 400 ? "good" : "bad"} ${name}`, { status });
      },
    });
  }

  get port(): number {
    return this.#server.port!;
  }

  #until(key: string): PromiseWithResolvers<void> {
    let held = this.#held.get(key);
    if (!held) {
      held = Promise.withResolvers<void>();
      this.#held.set(key, held);
    }
    return held;
  }

  /** Answers what is held, or comes to be, under the key. */
  release(key: string): void {
    this.#until(key).resolve();
  }

  stop(): void {
    this.#server.stop(true);
  }
}

function verdict(said: string | null): Response {
  if (said === "yes") return new Response("", { headers: { "x-user": "ann", "x-inside": "1", "set-cookie": "s=1" } });
  if (said === "no") return new Response("not you", { status: 403, headers: { "x-why": "rule 7", "x-inside": "1" } });
  return new Response("", { status: 500 });
}

interface Served {
  readonly port: number;
  stop(): void;
}

async function serveGrpc(
  path: string,
  decode: (bytes: Buffer) => unknown,
  encode: (message: never) => Buffer,
  answer: (message: never, metadata: grpc.Metadata, done: grpc.sendUnaryData<unknown>) => void,
): Promise<Served> {
  const server = new grpc.Server();
  const method = {
    path,
    requestStream: false,
    responseStream: false,
    requestSerialize: (bytes: Buffer) => bytes,
    requestDeserialize: decode,
    responseSerialize: encode as (message: unknown) => Buffer,
    responseDeserialize: (bytes: Buffer) => bytes,
  };
  server.addService(
    { ask: method },
    {
      ask: (call: grpc.ServerUnaryCall<unknown, unknown>, done: grpc.sendUnaryData<unknown>) =>
        answer(call.request as never, call.metadata, done),
    },
  );
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { port, stop: () => server.forceShutdown() };
}

/** `/test.Echo/Unary`: the message back with a trailer; of `fail` the status 9. */
export function echoOverGrpc(): Promise<Served> {
  const same = (bytes: Buffer) => bytes;
  return serveGrpc("/test.Echo/Unary", same, same, (message: Buffer, _metadata, done) => {
    if (message.toString() === "fail") return done({ code: grpc.status.FAILED_PRECONDITION, details: "as asked" });
    const trailer = new grpc.Metadata();
    trailer.set("x-trailer", "last");
    return done(null, message, trailer);
  });
}

interface Asked {
  readonly attributes: {
    readonly request: {
      readonly http: Readonly<Record<string, unknown>> & { readonly headers: Record<string, string> };
    };
  };
}

/** Envoy's Check: yes, no and broken, as the request's `x-auth` says. */
export function authorityOverGrpc(seen: Seen): Promise<Served> {
  const { checkRequest, checkResponse } = messages;
  return serveGrpc(
    "/envoy.service.auth.v3.Authorization/Check",
    (bytes) => checkRequest.toObject(checkRequest.decode(bytes), { longs: Number }),
    (message) => Buffer.from(checkResponse.encode(checkResponse.fromObject(message)).finish()),
    ({ attributes }: Asked, _metadata, done) => {
      const { headers: asked, method, path, host, scheme, size, protocol, body, rawBody } = attributes.request.http;
      const fields = Object.entries(asked)
        .filter(([name]) => !/^x-(key|forwarded-.*|request-id)$/.test(name))
        .sort();
      const line = JSON.stringify({
        method,
        path,
        host,
        scheme,
        size,
        protocol,
        body,
        rawBody: String(rawBody ?? ""),
        fields,
      });
      const key = asked["x-key"] ?? "";
      seen.set(key, [...(seen.get(key) ?? []), `auth: ${line}`]);
      const said = asked["x-auth"];
      if (said === "yes") {
        const headers = [
          { header: { key: "x-user", value: "ann" } },
          { header: { key: "x-tags", value: "b" }, append: { value: true } },
        ];
        const responseHeadersToAdd = [{ header: { key: "x-told", value: "1" } }];
        return done(null, {
          status: { code: 0 },
          okResponse: { headers, headersToRemove: ["x-gone"], responseHeadersToAdd },
        });
      }
      if (said === "no") {
        const headers = [{ header: { key: "x-why", value: "law" } }];
        return done(null, {
          status: { code: 7 },
          deniedResponse: { status: { code: 451 }, headers, body: "not you" },
        });
      }
      return done({ code: 13, details: "broken" });
    },
  );
}
