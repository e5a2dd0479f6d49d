// The backends of a soak: HTTP/1.1 with WebSocket, gRPC, TCP and UDP, each of which says back what it was told.

import * as grpc from "@grpc/grpc-js";

export const big = new Uint8Array(1_000_000).fill(97);

export interface Servers {
  readonly http: readonly number[];
  readonly grpc: readonly number[];
  readonly tcp: readonly number[];
  readonly udp: readonly number[];
  stop(): void;
}

const same = (bytes: Buffer) => bytes;
const asIs = { requestSerialize: same, requestDeserialize: same, responseSerialize: same, responseDeserialize: same };

export const echoService = {
  unary: { path: "/soak.Echo/Unary", requestStream: false, responseStream: false, ...asIs },
  chat: { path: "/soak.Echo/Chat", requestStream: true, responseStream: true, ...asIs },
};

export async function startServers(): Promise<Servers> {
  const http = Array.from({ length: 4 }, httpServer);
  const calls = await Promise.all(Array.from({ length: 2 }, grpcServer));
  const tcp = Array.from({ length: 2 }, tcpServer);
  const udp = await Promise.all(Array.from({ length: 2 }, udpServer));
  return {
    http: http.map(({ port }) => port!),
    grpc: calls.map(({ port }) => port),
    tcp: tcp.map(({ port }) => port),
    udp: udp.map(({ port }) => port),
    stop() {
      for (const server of http) void server.stop(true);
      for (const { server } of calls) server.forceShutdown();
      for (const server of tcp) server.stop(true);
      for (const server of udp) server.close();
    },
  };
}

function httpServer() {
  return Bun.serve<undefined>({
    hostname: "127.0.0.1",
    port: 0,
    // Longer than the proxy keeps a connection: who closes first would cut off a POST that is on its way just then.
    idleTimeout: 120,
    async fetch(request, server) {
      const { pathname } = new URL(request.url);
      if (pathname === "/socket" && server.upgrade(request)) return undefined;
      if (pathname === "/big") return new Response(big);
      const body = await request.bytes();
      return new Response(`${request.method} ${body.length}`);
    },
    websocket: {
      message: (socket, text) => {
        socket.send(text);
      },
    },
  });
}

async function grpcServer(): Promise<{ server: grpc.Server; port: number }> {
  const server = new grpc.Server();
  server.addService(echoService, {
    unary(call: grpc.ServerUnaryCall<Buffer, Buffer>, done: grpc.sendUnaryData<Buffer>) {
      done(null, call.request);
    },
    chat(call: grpc.ServerDuplexStream<Buffer, Buffer>) {
      call.on("data", (bytes: Buffer) => call.write(bytes));
      call.on("end", () => call.end());
    },
  } as unknown as grpc.UntypedServiceImplementation);
  const port = await new Promise<number>((resolve, reject) => {
    server.bindAsync("127.0.0.1:0", grpc.ServerCredentials.createInsecure(), (error, bound) =>
      error ? reject(error) : resolve(bound),
    );
  });
  return { server, port };
}

function tcpServer() {
  return Bun.listen({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes) {
        socket.write(bytes);
      },
      error() {},
    },
  });
}

async function udpServer() {
  return await Bun.udpSocket({
    hostname: "127.0.0.1",
    port: 0,
    socket: {
      data(socket, bytes, port, address) {
        socket.send(bytes, port, address);
      },
    },
  });
}
