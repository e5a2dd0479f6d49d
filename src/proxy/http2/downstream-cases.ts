// A client's HTTP/2 connection as tests of it (`downstream*`) begin with: a peer that says what it is told, a server that keeps what it is
// handed. Not a socket, and no proxy behind.

import type { Downstream, DownstreamEvents, RequestHead } from "../exchange.ts";
import { localAnswer } from "../local-answer.ts";
import type { Reason } from "../reason.ts";
import { type ClientServer, defaultClientTimeouts } from "../server.ts";
import { Http2Downstream } from "./downstream.ts";
import { deadlines, during } from "./each-test.ts";
import { preface } from "./frame.ts";
import { Peer, settings, settingsAck } from "./peer.ts";

interface Seen {
  readonly down: Downstream;
  readonly head: { method: string; authority: string; path: string; query: string | undefined; length: number };
  readonly fields: [string, string][];
  body: string;
  ends: number;
  trailers: [string, string][];
  failed: Reason | undefined;
  drained: number;
  crowded: number;
}

/** Keeps what it is told of each request; answers when the test does. */
class FakeServer implements ClientServer {
  timeouts = defaultClientTimeouts;
  draining = false;
  takesBody = true;
  answersAtOnce = false;
  readonly refusals: Reason[] = [];
  readonly seen: Seen[] = [];
  open = 1;

  request(down: Downstream, head: RequestHead): DownstreamEvents {
    const { method, authority, path, query, length } = head;
    const seen: Seen = {
      down,
      head: { method, authority, path, query, length },
      fields: head.headers.entries(),
      body: "",
      ends: 0,
      trailers: [],
      failed: undefined,
      drained: 0,
      crowded: 0,
    };
    this.seen.push(seen);
    if (this.answersAtOnce) answer(down, "hello");
    return {
      requestData: (chunk, start, end) => {
        seen.body += chunk.latin1Slice(start, end);
        return this.takesBody;
      },
      requestEnd: (trailers) => {
        seen.ends++;
        seen.trailers = trailers?.entries() ?? [];
      },
      requestFailed: (reason) => {
        seen.failed = reason;
      },
      downstreamCrowded: () => {
        seen.crowded++;
      },
      downstreamDrained: () => {
        seen.drained++;
      },
    };
  }
  refused(reason: Reason): void {
    this.refusals.push(reason);
  }
  closed(): void {
    this.open--;
  }
  turnedOut(): boolean {
    return false;
  }
}

export function answer(down: Downstream, text: string): void {
  const { head, body } = localAnswer(200, text, []);
  down.respond(head);
  down.write(body, 0, body.length);
  down.end();
}

export const get = { ":method": "GET", ":scheme": "https", ":authority": "example.com", ":path": "/a?b" };
export const post = { ...get, ":method": "POST" };

export function connect(greeting = true) {
  const server = new FakeServer();
  const peer = new Peer();
  const connection = new Http2Downstream(peer, server, deadlines, "192.0.2.1", "https");
  const send = (...frames: readonly Uint8Array[]) => during(() => connection.onData(Buffer.concat(frames)));
  if (greeting) send(preface, settings(), settingsAck);
  return { server, peer, connection, send, during };
}
