import { beforeEach, describe, expect, test } from "bun:test";
import { BodyStage } from "./body-stage.ts";
import type { Downstream, ResponseHead } from "./exchange.ts";
import { type FilterExchange, type Handlers, waits } from "./filter.ts";
import { type FilteredExchange, Filtering } from "./filtering.ts";
import { HeaderBlock } from "./headers.ts";

let log: string[];
/** What the sinks say to a write. */
let backendTakes: boolean;
let clientTakes: boolean;
/** Bytes of bodies that the exchange was told of. */
let sent: number;

beforeEach(() => {
  log = [];
  backendTakes = true;
  clientTakes = true;
  sent = 0;
});

function filtering(handlers: readonly Handlers[], head: object = {}): Filtering {
  const down = {
    head: { method: "POST", path: "/", authority: "a", length: -1, headers: new HeaderBlock(), ...head },
    inform: ({ status }: ResponseHead) => log.push(`inform ${status}`),
    write(chunk: Buffer, start: number, end: number) {
      log.push(`client ${chunk.toString("latin1", start, end)}`);
      return clientTakes;
    },
    end: () => log.push("client end"),
    pauseBody: () => log.push("pause"),
    resumeBody: () => log.push("resume client"),
  } as unknown as Downstream;
  const exchange: FilteredExchange = {
    passed: () => log.push("passed"),
    write(chunk, start, end) {
      log.push(`backend ${chunk.toString("latin1", start, end)}`);
      return backendTakes;
    },
    end: () => log.push("backend end"),
    answerLocally: ({ head: { status } }, reason) => log.push(`answer ${status} ${reason}`),
    failed: (reason) => log.push(`failed ${reason}`),
    answered: ({ status }) => log.push(`status ${status}`),
    dropAnswer: (length) => log.push(`drop ${length}`),
    tellQuery: (query) => log.push(`query ${query}`),
    sent(bytes) {
      sent += bytes;
    },
    ended: (reason) => log.push(`ended ${reason ?? "well"}`),
    resumeAnswer: () => log.push("resume backend"),
  };
  return new Filtering(handlers, exchange, down);
}

const data = (of: Filtering, text: string) => of.requestData(Buffer.from(text), 0, text.length);
const answerHead = (status = 200, length = -1): ResponseHead => ({
  status,
  phrase: "",
  headers: new HeaderBlock(),
  length,
});

/** Handlers that log, and a way to let the second go on. */
function waiting(): { handlers: Handlers[]; exchange: () => FilterExchange } {
  let held: FilterExchange | undefined;
  const named = (name: string): Handlers => ({
    request() {
      log.push(`in ${name}`);
      return undefined;
    },
    response() {
      log.push(`out ${name}`);
      return undefined;
    },
  });
  const second: Handlers = {
    request(_head, exchange) {
      log.push("in wait");
      held = exchange;
      return exchange.wait(() => log.push("cancelled"));
    },
  };
  return { handlers: [named("one"), second, named("two")], exchange: () => held! };
}

describe("a request", () => {
  test("passes its filters in order, an answer the other way round", () => {
    const { handlers } = waiting();
    const run = filtering([handlers[0]!, handlers[2]!]);
    run.request();
    run.respond(answerHead());
    expect(log).toEqual(["in one", "in two", "passed", "out two", "out one", "status 200"]);
  });

  test("waits, and its body with it; then both go on", () => {
    const { handlers, exchange } = waiting();
    const run = filtering(handlers);
    run.request();
    expect(data(run, "ab")).toBeTrue();
    expect(data(run, "x".repeat(70_000))).toBeFalse();
    expect(log).toEqual(["in one", "in wait"]);
    exchange().goOn();
    expect(log.map((line) => line.slice(0, 12))).toEqual([
      "in one",
      "in wait",
      "in two",
      "passed",
      "backend ab",
      "backend xxxx",
      "resume clien",
    ]);
    expect(data(run, "cd")).toBeTrue();
    run.requestEnd(undefined);
    expect(log.slice(-2)).toEqual(["backend cd", "backend end"]);
  });

  test("is told to go on before the handler has returned", () => {
    const early: Handlers = {
      request(_head, exchange) {
        exchange.goOn();
        return exchange.wait(() => log.push("cancelled"));
      },
    };
    const run = filtering([early, early]);
    run.request();
    run.over();
    expect(log).toEqual(["passed"]);
  });

  test("is answered after waiting; nothing behind sees it, and a late word changes nothing", () => {
    const { handlers, exchange } = waiting();
    const run = filtering(handlers);
    run.request();
    exchange().answer({ reason: "rate_limited", status: 503 });
    exchange().goOn();
    exchange().answer({ reason: "rate_limited" });
    expect(log).toEqual(["in one", "in wait", "answer 503 rate_limited"]);
  });

  test("that is over while it waits cancels what it waits for, once", () => {
    const { handlers, exchange } = waiting();
    const run = filtering(handlers);
    run.request();
    run.over();
    exchange().goOn();
    run.over();
    expect(log).toEqual(["in one", "in wait", "cancelled"]);
  });

  test("has its body read first, as far as somebody wants it", () => {
    const reading: Handlers = {
      request: (_head, exchange) =>
        exchange.readBody(4, (chunks, whole) => {
          log.push(`read ${Buffer.concat(chunks)} ${whole}`);
          exchange.goOn();
        }),
    };
    const short = filtering([reading]);
    short.request();
    data(short, "ab");
    short.requestEnd(undefined);
    expect(log).toEqual(["read ab true", "passed", "backend ab", "backend end"]);
    log = [];
    const long = filtering([reading]);
    long.request();
    data(long, "abcd");
    expect(log).toEqual([]);
    data(long, "e");
    expect(log).toEqual(["read abcde false", "passed", "backend abcd", "backend e"]);
    log = [];
    filtering([reading], { length: 0 }).request();
    expect(log).toEqual(["read  true", "passed"]);
  });
});

class Shouting extends BodyStage {
  override write(chunk: Buffer, start: number, end: number): boolean {
    const text = Buffer.from(chunk.toString("latin1", start, end).toUpperCase());
    return this.next.write(text, 0, text.length);
  }
  override cancel(): void {
    log.push("stage over");
  }
}

describe("bodies", () => {
  test("pass stages, and the word to wait and to go on passes back", () => {
    const shouting: Handlers = {
      request(_head, exchange) {
        exchange.putRequestStage(new Shouting());
        return undefined;
      },
      response(_head, exchange) {
        exchange.putResponseStage(new Shouting());
        return undefined;
      },
    };
    const run = filtering([shouting, shouting]);
    run.request();
    backendTakes = false;
    expect(data(run, "a")).toBeFalse();
    run.requestDrained();
    run.respond(answerHead());
    clientTakes = false;
    expect(run.responseData(Buffer.from("b"), 0, 1)).toBeFalse();
    run.responseDrained();
    run.responseEnd(undefined);
    expect(log).toEqual([
      "passed",
      "backend A",
      "resume client",
      "status 200",
      "client B",
      "resume backend",
      "ended well",
      "client end",
    ]);
    run.over();
    expect(log.filter((line) => line === "stage over")).toHaveLength(4);
  });

  test("of answers that have none meet no stage", () => {
    const stage: Handlers = {
      response(_head, exchange) {
        exchange.putResponseStage(new Shouting());
        return undefined;
      },
    };
    const run = filtering([stage], { method: "HEAD" });
    run.request();
    run.respond(answerHead(200, 0));
    run.responseEnd(undefined);
    run.over();
    expect(log).toEqual(["passed", "status 200", "ended well", "client end"]);
  });
});

describe("an answer", () => {
  const page = { status: 500, headers: [{ name: "content-type", value: "text/html" }], body: Buffer.from("page") };

  test("is replaced at once: its own body goes nowhere", () => {
    const outer: Handlers = {
      response(head) {
        log.push(
          `out ${head.headers.get("content-type")} ${head.headers.get("etag")} ${head.headers.get("x-kept")} ${head.length}`,
        );
        return undefined;
      },
    };
    const run = filtering([outer, { response: () => page }]);
    run.request();
    const head = answerHead(503, 10);
    head.headers.add("etag", '"1"');
    head.headers.add("x-kept", "1");
    run.respond(head);
    expect(run.responseData(Buffer.from("own"), 0, 3)).toBeTrue();
    run.responseEnd(undefined);
    expect(log).toEqual([
      "passed",
      "drop 10",
      "out text/html undefined 1 4",
      "status 500",
      "client page",
      "ended well",
      "client end",
    ]);
    // What was thrown away was not sent.
    expect(sent).toBe(4);
  });

  test("is replaced later, and a failure of the backend meanwhile is nobody's business", () => {
    let held: FilterExchange | undefined;
    const later: Handlers = {
      response(_head, exchange) {
        held = exchange;
        exchange.wait(() => log.push("cancelled"));
        return waits;
      },
    };
    const run = filtering([later]);
    run.request();
    run.respond(answerHead(503, 10));
    expect(run.dropping).toBeTrue();
    held!.replace(page);
    expect(log).toEqual(["passed", "drop 10", "status 500", "client page", "ended well", "client end"]);
  });

  test("is withheld until a stage lets it go, or another takes its place", () => {
    const holding: Handlers = {
      response(_head, exchange) {
        exchange.holdAnswer();
        return undefined;
      },
    };
    const run = filtering([holding, {}]);
    run.request();
    run.respond(answerHead());
    expect(log).toEqual(["passed"]);
    run.releaseAnswer();
    expect(log).toEqual(["passed", "status 200"]);
  });
});
