// The backend of the gRPC benchmark: answers every call with one small message and `grpc-status: 0`, over HTTP/2 without TLS.
// Prints its port.

import http2 from "node:http2";

const message = Buffer.from([0, 0, 0, 0, 5, 10, 3, 97, 98, 99]);
const server = http2.createServer({ settings: { maxConcurrentStreams: 1000 } });
server.on("stream", (stream: http2.ServerHttp2Stream) => {
  stream.on("error", () => {});
  stream.respond({ ":status": 200, "content-type": "application/grpc" }, { waitForTrailers: true });
  stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
  stream.end(message);
});
server.listen(0, "127.0.0.1", () => process.stdout.write(`${(server.address() as { port: number }).port}\n`));
