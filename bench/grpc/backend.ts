// The backend of the gRPC benchmark: answers every call with one small message and `grpc-status: 0`, over HTTP/2 without TLS, on
// the proxy's own codec. Bun's `node:http2` cannot be it: it puts fields into the compression table of a client that has said that
// its table has no room (SETTINGS_HEADER_TABLE_SIZE 0, RFC 7541 §4.2), which NGINX says and then takes for an error. Prints its port.

import type { Socket } from "bun";
import { systemClock } from "../../src/base/clock.ts";
import { Deadlines } from "../../src/proxy/deadlines.ts";
import type { Downstream, DownstreamEvents } from "../../src/proxy/exchange.ts";
import { HeaderBlock } from "../../src/proxy/headers.ts";
import { Http2Downstream } from "../../src/proxy/http2/downstream.ts";
import { type ClientServer, defaultClientTimeouts } from "../../src/proxy/server.ts";
import { beginTurn, endTurn } from "../../src/proxy/wire.ts";

const message = Buffer.from([0, 0, 0, 0, 5, 10, 3, 97, 98, 99]);
const headers = new HeaderBlock();
headers.add("content-type", "application/grpc");
const trailers = new HeaderBlock();
trailers.add("grpc-status", "0");

function answering(downstream: Downstream): DownstreamEvents {
  return {
    requestData: () => true,
    requestEnd() {
      downstream.respond({ status: 200, phrase: "", headers, length: -1 });
      downstream.write(message, 0, message.length);
      downstream.end(trailers);
    },
    requestFailed() {},
    downstreamDrained() {},
    downstreamCrowded() {},
  };
}

const server: ClientServer = {
  timeouts: defaultClientTimeouts,
  draining: false,
  request: answering,
  refused(reason) {
    console.error(`the backend refuses a call: ${reason}`);
  },
  closed() {},
  turnedOut: () => false,
};
const deadlines = new Deadlines(systemClock);
const listener = Bun.listen<Http2Downstream>({
  hostname: "127.0.0.1",
  port: 0,
  socket: {
    open(socket: Socket<Http2Downstream>) {
      socket.setNoDelay(true);
      socket.data = new Http2Downstream(socket, server, deadlines, "127.0.0.1", "http");
    },
    data(socket, bytes) {
      beginTurn();
      socket.data.onData(bytes);
      endTurn();
    },
    drain: (socket) => socket.data.onDrain(),
    close: (socket) => socket.data.onClose(),
  },
});
process.stdout.write(`${listener.port}\n`);
