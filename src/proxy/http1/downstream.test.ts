import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../../base/clock.ts";
import { Deadlines } from "../deadlines.ts";
import type { DownstreamEvents, RequestHead } from "../exchange.ts";
import { HeaderBlock } from "../headers.ts";
import { localAnswer } from "../local-answer.ts";
import type { Reason } from "../reason.ts";
import { type ClientServer, defaultClientTimeouts } from "../server.ts";
import { beginTurn, endTurn, turn, type Wire } from "../wire.ts";
import { Http1Downstream } from "./downstream.ts";

let clock: FakeClock;
let deadlines: Deadlines;
const systemSource = turn.source;

beforeEach(() => {
  clock = new FakeClock();
  turn.source = () => clock.now();
  turn.now = clock.now();
  deadlines = new Deadlines(clock);
  deadlines.beforehand = beginTurn;
  deadlines.afterwards = endTurn;
});

afterEach(() => {
  turn.source = systemSource;
  turn.now = systemSource();
});

/** A client's socket: what was sent, how much the kernel takes, whether and how it was closed. */
class FakeWire implements Wire {
  sent = "";
  room = Number.POSITIVE_INFINITY;
  state: "open" | "ended" | "terminated" = "open";
  paused = false;

  write(data: Uint8Array, offset: number, length: number): number {
    const taken = Math.min(length, this.room);
    this.sent += Buffer.from(data).latin1Slice(offset, offset + taken);
    this.room -= taken;
    return taken;
  }
  pause(): void {
    this.paused = true;
  }
  resume(): void {
    this.paused = false;
  }
  end(): void {
    if (this.state === "open") this.state = "ended";
  }
  terminate(): void {
    this.state = "terminated";
  }
}

/** Records what it is told of each request and answers when the test says so. */
class FakeServer implements ClientServer {
  timeouts = defaultClientTimeouts;
  draining = false;
  readonly refusals: Reason[] = [];
  readonly requests: { path: string; body: string; ended: boolean; failed: Reason | undefined; drained: number }[] = [];
  open = 1;
  takesBody = true;

  request(_downstream: unknown, head: RequestHead): DownstreamEvents {
    const record = { path: head.path, body: "", ended: false, failed: undefined as Reason | undefined, drained: 0 };
    this.requests.push(record);
    return {
      requestData: (chunk, start, end) => {
        record.body += chunk.latin1Slice(start, end);
        return this.takesBody;
      },
      requestEnd: () => {
        record.ended = true;
      },
      requestFailed: (reason) => {
        record.failed = reason;
      },
      downstreamCrowded: () => {},
      downstreamDrained: () => {
        record.drained++;
      },
    };
  }
  refused(reason: Reason): void {
    this.refusals.push(reason);
  }
  turnedOut(): boolean {
    return false;
  }
  closed(): void {
    this.open--;
  }
}

function connect() {
  const wire = new FakeWire();
  const server = new FakeServer();
  const connection = new Http1Downstream(wire, server, deadlines, "10.0.0.1", "http");
  const during = (what: () => void) => {
    beginTurn();
    what();
    endTurn();
  };
  return {
    wire,
    server,
    connection,
    receive: (text: string) => during(() => connection.onData(Buffer.from(text, "latin1"))),
    answer: (text: string) =>
      during(() => {
        const { head, body } = localAnswer(200, text, []);
        connection.respond(head);
        connection.write(body, 0, body.length);
        connection.end();
      }),
    during,
  };
}

const get = (path: string, ...fields: string[]) =>
  `GET ${path} HTTP/1.1\r\nhost: a\r\n${fields.map((field) => `${field}\r\n`).join("")}\r\n`;

describe("a client connection", () => {
  test("serves one request after the other, also when they come together or in pieces", () => {
    const { wire, server, receive, answer } = connect();
    receive(get("/1") + get("/2").slice(0, 10));
    expect(server.requests).toMatchObject([{ path: "/1", ended: true }]);
    receive(get("/2").slice(10));
    expect(server.requests.length).toBe(1);
    answer("one");
    expect(server.requests).toMatchObject([{ path: "/1" }, { path: "/2", ended: true }]);
    answer("two");
    expect(wire.sent.match(/one|two/g)).toEqual(["one", "two"]);
    expect(wire.state).toBe("open");
  });

  test("takes what follows a CONNECT for the tunnel's when there is one, else for nothing", () => {
    const connectTo = "CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n";
    const open = connect();
    open.receive(`${connectTo}early`);
    expect(open.server.requests).toMatchObject([{ path: "", ended: true, body: "" }]);
    open.during(() => {
      const headers = new HeaderBlock();
      headers.add("x-a", "b");
      open.connection.respond({ status: 101, phrase: "Switching Protocols", headers, length: 0 });
    });
    expect(open.wire.sent).toBe("HTTP/1.1 200 OK\r\nx-a: b\r\n\r\n");
    open.receive(get("/not-a-request"));
    expect(open.server.requests).toMatchObject([{ body: `early${get("/not-a-request")}` }]);

    const refused = connect();
    refused.receive(connectTo + get("/smuggled"));
    refused.answer("no");
    expect(refused.wire.sent).toInclude("connection: close\r\n");
    refused.receive(get("/smuggled"));
    expect(refused.server.requests).toHaveLength(1);
    expect(refused.wire.state).toBe("ended");
  });

  test("reads a tunnel that had to wait, and hears that its client has ended its side", () => {
    const { receive, wire, server, connection, during } = connect();
    receive("CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n");
    receive("x".repeat(70_000));
    expect(wire.paused).toBe(true);
    during(() => connection.respond({ status: 101, phrase: "", headers: new HeaderBlock(), length: 0 }));
    expect(wire.paused).toBe(false);
    expect(server.requests[0]!.body).toHaveLength(70_000);
    server.requests[0]!.ended = false;
    during(() => connection.onEnd());
    expect(server.requests[0]!.ended).toBe(true);
    clock.advance(600_000);
    expect(wire.state).toBe("open");
  });

  test("sends head and body in one write", () => {
    const { wire, receive, answer } = connect();
    let writes = 0;
    const write = wire.write.bind(wire);
    wire.write = (data, offset, length) => {
      writes++;
      return write(data, offset, length);
    };
    receive(get("/"));
    answer("hello");
    expect(writes).toBe(1);
    expect(wire.sent).toMatch(/^HTTP\/1\.1 200 OK\r\n.*\r\ndate: .* GMT\r\n\r\nhello$/s);
  });

  test("says that an answer has no body where the backend's version of HTTP did not have to", () => {
    const { wire, connection, receive, during } = connect();
    const none = () => ({ status: 200, phrase: "", headers: new HeaderBlock(), length: 0 });
    for (const [request, status, said] of [
      [get("/"), 200, true],
      [get("/"), 204, false],
      [get("/").replace("GET", "HEAD"), 200, false],
    ] as const) {
      receive(request);
      wire.sent = "";
      during(() => {
        connection.respond({ ...none(), status });
        connection.end();
      });
      expect(wire.sent.includes("content-length: 0\r\n")).toBe(said);
    }
  });

  test("stops reading when too much is pipelined, and goes on afterwards", () => {
    const { wire, server, receive, answer } = connect();
    receive(get("/1"));
    receive(get("/x").repeat(3000));
    expect(wire.paused).toBe(true);
    for (let count = 0; count < 3001; count++) answer("");
    expect(wire.paused).toBe(false);
    expect(server.requests.length).toBe(3001);
  });

  test("holds a body that its taker does not want yet", () => {
    const { wire, server, connection, receive } = connect();
    server.takesBody = false;
    receive("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n");
    receive("hello");
    expect(wire.paused).toBe(true);
    server.takesBody = true;
    connection.resumeBody();
    expect(wire.paused).toBe(false);
    receive("world");
    expect(server.requests).toMatchObject([{ body: "helloworld", ended: true }]);
  });

  test("tells the writer to wait when the client does not read, and when it does again", () => {
    const { wire, server, connection, receive, during } = connect();
    receive(get("/"));
    wire.room = 1000;
    const big = Buffer.alloc(50_000, "x");
    let goOn = true;
    during(() => {
      connection.respond({ ...localAnswer(200, "", []).head, length: -1 });
      goOn = connection.write(big, 0, big.length);
    });
    expect(goOn).toBe(false);
    expect(connection.queued).toBeGreaterThan(48_000);
    wire.room = Number.POSITIVE_INFINITY;
    during(() => connection.onDrain());
    expect(connection.queued).toBe(0);
    expect(server.requests[0]!.drained).toBe(1);
    expect(wire.sent).toContain(`c350\r\n${big.toString()}\r\n`);
  });

  test("closes after an answer that came before the end of the request's body", () => {
    const { wire, receive, answer } = connect();
    receive("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhel");
    answer("no");
    expect(wire.sent).toContain("connection: close");
    expect(wire.state).toBe("ended");
  });

  test("gives the answer to a client that has closed its sending side, but does not wait long", () => {
    const first = connect();
    first.receive(get("/"));
    first.during(() => first.connection.onEnd());
    first.answer("still here");
    expect(first.wire.sent).toContain("still here");
    expect(first.wire.state).toBe("ended");

    const second = connect();
    second.receive(get("/"));
    second.during(() => second.connection.onEnd());
    clock.advance(2_000);
    expect(second.server.requests[0]!.failed).toBe("client_closed");
    expect(second.wire.state).toBe("terminated");
  });

  test("tells of a client that is gone, once", () => {
    const { server, connection, receive, during } = connect();
    receive(get("/"));
    during(() => connection.onClose());
    during(() => connection.onClose());
    expect(server.requests[0]!.failed).toBe("client_closed");
    expect(server.open).toBe(0);
  });
});

test("it does not matter where the bytes are cut", () => {
  const text =
    get("/1", "x-a: b") +
    "POST /2 HTTP/1.1\r\nhost: a\r\ncontent-length: 11\r\n\r\nhello world" +
    "POST /3 HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n5;x\r\nhello\r\n6\r\n world\r\n0\r\nx-t: 1\r\n\r\n" +
    get("/4", "connection: close");
  fc.assert(
    fc.property(fc.uniqueArray(fc.integer({ min: 1, max: text.length - 1 }), { maxLength: 30 }), (cuts) => {
      const { wire, server, receive, answer } = connect();
      const at = [0, ...cuts.sort((a, b) => a - b), text.length];
      let answered = 0;
      for (let index = 1; index < at.length; index++) {
        receive(text.slice(at[index - 1], at[index]));
        while (server.requests.length > answered && server.requests[answered]!.ended) {
          answered++;
          answer("ok");
        }
      }
      expect(server.requests.map(({ path, body, ended }) => [path, body, ended])).toEqual([
        ["/1", "", true],
        ["/2", "hello world", true],
        ["/3", "hello world", true],
        ["/4", "", true],
      ]);
      expect(wire.sent.match(/HTTP\/1\.1 200 OK/g)?.length).toBe(4);
      expect(wire.state).toBe("ended");
    }),
    { numRuns: 300 },
  );
});

test("random bytes behind a request never make it throw", () => {
  const piece = fc.constantFrom(
    "GET / HTTP/1.1\r\nhost: a\r\n\r\n",
    "POST / HTTP/1.1\r\n",
    "host: a\r\n",
    "content-length: 3\r\n",
  );
  const more = fc.constantFrom(
    "transfer-encoding: chunked\r\n",
    "\r\n",
    "3\r\nabc\r\n",
    "0\r\n\r\n",
    "connection: close\r\n",
    "\n",
    "\0",
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(piece, more, fc.string()), { maxLength: 15 }), (pieces) => {
      const { server, receive, answer, wire } = connect();
      let answered = 0;
      for (const text of pieces) {
        receive(text);
        while (server.requests.length > answered && wire.state === "open") {
          answered++;
          if (server.requests[answered - 1]!.failed === undefined) answer("ok");
        }
      }
      expect(server.refusals.length).toBeLessThanOrEqual(1);
    }),
    { numRuns: 1000 },
  );
});

describe("timeouts", () => {
  test("a head that comes byte by byte is answered with 408", () => {
    const { wire, server, receive } = connect();
    for (const byte of get("/", `x: ${"a".repeat(100)}`).slice(0, 60)) {
      receive(byte);
      clock.advance(500);
    }
    expect(wire.sent).toStartWith("HTTP/1.1 408");
    expect(server.refusals).toEqual(["request_slow"]);
    expect(wire.state).not.toBe("open");
  });

  test("a connection without a request is closed without a word", () => {
    const { wire } = connect();
    clock.advance(defaultClientTimeouts.idle - 1_000);
    expect(wire.state).toBe("open");
    clock.advance(20_000);
    expect(wire.sent).toBe("");
    expect(wire.state).not.toBe("open");
  });

  test("traffic keeps a connection open", () => {
    const { wire, receive, answer } = connect();
    for (let count = 0; count < 10; count++) {
      clock.advance(defaultClientTimeouts.idle - 5_000);
      receive(get("/"));
      answer("ok");
    }
    expect(wire.state).toBe("open");
  });

  test("an answer may take its time", () => {
    const { wire, receive, answer } = connect();
    receive(get("/"));
    clock.advance(3_600_000);
    answer("at last");
    expect(wire.sent).toContain("at last");
  });

  test("a body that stops coming fails the request", () => {
    const { server, receive } = connect();
    receive("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\nhel");
    clock.advance(defaultClientTimeouts.body + 20_000);
    expect(server.requests[0]!.failed).toBe("request_slow");
  });

  test("a client that does not read its answer is dropped", () => {
    const { wire, connection, receive, during } = connect();
    receive(get("/"));
    wire.room = 0;
    during(() => {
      connection.respond(localAnswer(200, "x", []).head);
      connection.write(Buffer.alloc(100_000), 0, 100_000);
    });
    clock.advance(defaultClientTimeouts.write + 20_000);
    expect(wire.state).toBe("terminated");
  });

  test("a closed connection that the client does not close is ended", () => {
    const { wire, receive, answer } = connect();
    receive(get("/", "connection: close"));
    answer("bye");
    expect(wire.state).toBe("ended");
    clock.advance(3_000);
    expect(wire.state).toBe("terminated");
  });
});

test("a drain closes idle connections at once and others after their answer", () => {
  const idle = connect();
  idle.during(() => idle.connection.closeWhenIdle());
  expect(idle.wire.state).toBe("ended");
  const busy = connect();
  busy.receive(get("/1") + get("/2"));
  busy.during(() => busy.connection.closeWhenIdle());
  expect(busy.wire.state).toBe("open");
  busy.answer("done");
  expect(busy.wire.sent).toContain("connection: close");
  expect(busy.wire.state).toBe("ended");
  expect(busy.server.requests.length).toBe(1);
});
