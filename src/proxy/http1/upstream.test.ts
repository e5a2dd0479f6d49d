import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { FakeClock } from "../../base/clock.ts";
import { Deadlines } from "../deadlines.ts";
import type { RequestHead, UpstreamEvents } from "../exchange.ts";
import { beginTurn, endTurn, turn, type Wire } from "../wire.ts";
import { Http1RequestHead, parseRequestHead } from "./request.ts";
import { Http1Upstream } from "./upstream.ts";

function connect() {
  const clock = new FakeClock();
  const deadlines = new Deadlines(clock);
  let sent = "";
  const log: string[] = [];
  const wire: Wire = {
    write(data, offset, length) {
      sent += Buffer.from(data).latin1Slice(offset, offset + length);
      return length;
    },
    pause: () => log.push("pause"),
    resume: () => log.push("resume"),
    end: () => log.push("end"),
    shutdown: () => log.push("shutdown"),
    terminate: () => log.push("terminate"),
  };
  const owner = { timeouts: { idle: 1000 }, free: () => void log.push("free"), gone: () => void log.push("gone") };
  const connection = new Http1Upstream(wire, owner, deadlines);
  const events: UpstreamEvents = {
    informed: ({ status }) => log.push(`informed ${status}`),
    responded: ({ status }) => log.push(`responded ${status}`),
    responseData(chunk, start, end) {
      const before = log.at(-1) ?? "";
      const text = chunk.latin1Slice(start, end);
      if (before.startsWith("data ")) log[log.length - 1] = before + text;
      else log.push(`data ${text}`);
      return harness.takes;
    },
    responseHalfEnd: () => log.push("half end"),
    responseEnd: (trailers) => log.push(`end${trailers ? ` ${JSON.stringify(trailers.entries())}` : ""}`),
    upstreamFailed: (reason, repeat) => log.push(`failed ${reason}${repeat === "never" ? "" : ` ${repeat}`}`),
    upstreamDrained: () => {},
  };
  const during = (what: () => void) => {
    beginTurn();
    what();
    endTurn();
  };
  const harness = {
    /** Whether what comes of a body is wanted now. */
    takes: true,
    connection,
    log,
    clock,
    sent: () => sent,
    ask: (text = "GET / HTTP/1.1\r\nhost: a\r\n\r\n") =>
      during(() => {
        const head = new Http1RequestHead();
        expect(parseRequestHead(Buffer.from(text), 0, head)).toBeGreaterThan(0);
        connection.begin(events);
        connection.send(head as RequestHead);
        if (head.length === 0) connection.end();
      }),
    receive: (text: string) => during(() => connection.onData(Buffer.from(text, "latin1"))),
    halfClose: () => during(() => connection.onEnd()),
    close: () => during(() => connection.onClose()),
    during,
  };
  return harness;
}

test("a request is sent without what was for the hop before", () => {
  const { ask, sent } = connect();
  ask(
    "GET /a?b HTTP/1.1\r\nHost: x\r\nConnection: close, x-hop\r\nKeep-Alive: 1\r\nTE: gzip\r\nX-Hop: 1\r\nX-A: b\r\n\r\n",
  );
  expect(sent()).toBe("GET /a?b HTTP/1.1\r\nHost: x\r\nX-A: b\r\n\r\n");
});

test("a CONNECT becomes a tunnel by a success, whatever its fields say, and by nothing else", () => {
  const request = "CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n";
  const open = connect();
  open.ask(request);
  expect(open.sent()).toBe("CONNECT db:5432 HTTP/1.1\r\nhost: db:5432\r\n\r\n");
  open.receive("HTTP/1.1 200 Connection established\r\ncontent-length: 5\r\n\r\nfrom the backend");
  expect(open.log).toEqual(["responded 101", "data from the backend"]);

  const refused = connect();
  refused.ask(request);
  refused.receive("HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno");
  expect(refused.log).toEqual(["responded 403", "data no", "free", "end"]);

  const switched = connect();
  switched.ask(request);
  switched.receive("HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\n\r\n");
  expect(switched.log.at(-1)).toBe("failed upstream_malformed");
});

describe("a backend that sends no more", () => {
  const upgrade = "GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
  const switching = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
  function tunnel() {
    const open = connect();
    open.ask(upgrade);
    open.receive(`${switching}hello`);
    expect(open.log.splice(0)).toEqual(["responded 101", "data hello"]);
    return open;
  }

  test("in a tunnel still hears the client, until that ends, too", () => {
    const { connection, during, halfClose, close, log, sent } = tunnel();
    halfClose();
    expect(log).toEqual(["half end"]);
    during(() => connection.write(Buffer.from("more"), 0, 4));
    expect(sent()).toEndWith("\r\n\r\nmore");
    during(() => connection.end());
    close();
    expect(log).toEqual(["half end", "shutdown", "end", "gone"]);
  });

  test("ends the tunnel where the client has ended before", () => {
    const { connection, during, halfClose, close, log } = tunnel();
    during(() => connection.end());
    halfClose();
    close();
    expect(log).toEqual(["shutdown", "end", "gone"]);
  });

  test("and is gone then, ends the tunnel, whatever the client still has to say", () => {
    const { halfClose, close, log } = tunnel();
    halfClose();
    close();
    expect(log).toEqual(["half end", "gone", "end"]);
  });

  test("is not heard of before what it said last has been taken", () => {
    const open = tunnel();
    const { connection, during, halfClose, receive, log } = open;
    open.takes = false;
    receive(" and");
    // Both were read before the pause could take effect.
    receive(" goodbye");
    halfClose();
    expect(log.splice(0)).toEqual(["data  and", "pause"]);
    open.takes = true;
    during(() => connection.resumeBody());
    expect(log).toEqual(["data  goodbye", "half end"]);
  });

  test("outside of tunnels is told nothing more, and a connection of which it was not known is not kept", () => {
    const idle = connect();
    idle.ask();
    idle.receive("HTTP/1.1 204 No Content\r\n\r\n");
    idle.halfClose();
    expect(idle.log).toEqual(["responded 204", "free", "end", "gone", "end"]);

    const open = connect();
    open.ask();
    open.takes = false;
    open.receive("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n");
    open.receive("1\r\nb\r\n0\r\n\r\n");
    open.halfClose();
    open.takes = true;
    open.during(() => open.connection.resumeBody());
    expect(open.log).toEqual(["responded 200", "data a", "pause", "data b", "terminate", "gone", "end"]);
  });
});

test("it does not matter where an answer is cut", () => {
  const answers = [
    [
      "HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello",
      ["informed 103", "responded 200", "data hello", "free", "end"],
    ],
    [
      "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3;x=y\r\nllo\r\n0\r\nx-t: 1\r\n\r\n",
      ["responded 200", "data hello", "free", 'end [["x-t","1"]]'],
    ],
    ["HTTP/1.1 204 No Content\r\n\r\n", ["responded 204", "free", "end"]],
  ] as const;
  for (const [text, wanted] of answers) {
    fc.assert(
      fc.property(fc.uniqueArray(fc.integer({ min: 1, max: text.length - 1 }), { maxLength: 20 }), (cuts) => {
        const { ask, receive, log } = connect();
        ask();
        const at = [0, ...cuts.sort((a, b) => a - b), text.length];
        for (let index = 1; index < at.length; index++) receive(text.slice(at[index - 1], at[index]));
        expect(log).toEqual([...wanted]);
      }),
      { numRuns: 100 },
    );
  }
});

test("an answer without a length ends with the connection", () => {
  const { ask, receive, close, log } = connect();
  ask();
  receive("HTTP/1.1 200 OK\r\n\r\nhel");
  receive("lo");
  close();
  expect(log).toEqual(["responded 200", "data hello", "gone", "end"]);
});

test("an answer that stops short fails, and only an unused kept connection may be called idempotent", () => {
  const short = connect();
  short.ask();
  short.receive("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhe");
  short.close();
  expect(short.log.at(-1)).toBe("failed upstream_closed");

  const fresh = connect();
  fresh.ask();
  fresh.close();
  expect(fresh.log.at(-1)).toBe("failed upstream_closed");

  const kept = connect();
  kept.ask();
  kept.receive("HTTP/1.1 204 No Content\r\n\r\n");
  kept.ask();
  kept.close();
  expect(kept.log.at(-1)).toBe("failed upstream_closed idempotent");

  const begun = connect();
  begun.ask();
  begun.receive("HTTP/1.1 204 No Content\r\n\r\n");
  begun.ask();
  begun.receive("HTTP/1.1 2");
  begun.close();
  expect(begun.log.at(-1)).toBe("failed upstream_closed");
});

test("what nobody asked for closes the connection", () => {
  const behind = connect();
  behind.ask();
  behind.receive("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\n\r\n");
  expect(behind.log).toEqual(["responded 204", "terminate", "gone", "end"]);

  const idle = connect();
  idle.ask();
  idle.receive("HTTP/1.1 204 No Content\r\n\r\n");
  idle.receive("HTTP/1.1 408 Request Timeout\r\n\r\n");
  expect(idle.log.slice(-2)).toEqual(["terminate", "gone"]);
});

test("a malformed answer, endless interim answers and a 101 out of place fail the exchange", () => {
  for (const text of [
    "HTTP/1.1 200 OK\r\nx : y\r\n\r\n",
    "HTTP/1.1 100 Continue\r\n\r\n".repeat(9),
    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
    "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nZ\r\n",
  ]) {
    const { ask, receive, log } = connect();
    ask();
    receive(text);
    expect(log.slice(-3)).toEqual(["terminate", "gone", "failed upstream_malformed"]);
  }
});

test("a silent backend is given up", () => {
  const { ask, clock, log } = connect();
  const source = turn.source;
  turn.source = () => clock.now();
  try {
    ask();
    beginTurn();
    clock.advance(900);
    expect(log).toEqual([]);
    turn.now = clock.now() + 200;
    clock.advance(200);
    endTurn();
    expect(log.at(-1)).toBe("failed upstream_idle");
  } finally {
    turn.source = source;
    turn.now = source();
  }
});
