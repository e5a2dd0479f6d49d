// Active health checks of one backend's endpoints: HTTP, gRPC (grpc.health.v1) and TCP, each on connections of its own, so that no
// limit of the backend is in their way and nothing of theirs counts. What results make of an endpoint is `health-state.ts`; an
// endpoint that was not checked yet is used, because Kubernetes has said that it is ready.

import { addressWithPort } from "../../base/ip.ts";
import type { Backend } from "../../model/model.ts";
import type { HealthCheck } from "../../model/upstream-policies.ts";
import { type Call, type CallAnswer, type CallRequest, call } from "../call.ts";
import { Deadline, type Deadlines } from "../deadlines.ts";
import { grpcMessage, grpcRequest, messages } from "../filters/grpc-messages.ts";
import type { Reason } from "../reason.ts";
import { Connecting } from "./connecting.ts";
import { EndpointPool, type PoolOwner, type Waiter } from "./pool.ts";
import type { TlsClient } from "./tls.ts";

/** Checks of all backends at once; further ones wait for their turn. */
const maxAtOnce = 64;
/** The first check of an endpoint comes within so many milliseconds, or an interval when that is shorter. */
const firstWithin = 1_000;
/** grpc.health.v1.HealthCheckResponse.ServingStatus. */
const serving = 1;

/** Lets so many checks run at once. One for all backends. */
export class CheckGate {
  #running = 0;
  readonly #waiting = new Set<() => void>();

  /** Runs it now or in its turn. `leave` must follow when it is over. */
  enter(run: () => void): void {
    if (this.#running >= maxAtOnce) {
      this.#waiting.add(run);
      return;
    }
    this.#running++;
    run();
  }

  leave(): void {
    this.#running--;
    const next = this.#waiting.values().next();
    if (next.done) return;
    this.#waiting.delete(next.value);
    this.enter(next.value);
  }

  /** It wants no turn any more. */
  forget(run: () => void): void {
    this.#waiting.delete(run);
  }
}

/** What checks need of the backend that they are for. */
export interface CheckedBackend {
  readonly name: string;
  readonly deadlines: Deadlines;
  readonly protocol: Backend["protocol"];
  readonly tls: TlsClient | undefined;
  readonly proxyProtocol: Backend["proxyProtocol"];
}

export interface Checked {
  readonly address: string;
  readonly port: number;
}

/** `problem` is undefined when the endpoint is well. */
export type CheckResult = (endpoint: Checked, problem: string | undefined) => void;

export class HealthChecks {
  readonly #config: HealthCheck;
  readonly #backend: CheckedBackend;
  readonly #gate: CheckGate;
  readonly #result: CheckResult;
  #checks = new Map<Checked, EndpointCheck>();

  constructor(config: HealthCheck, backend: CheckedBackend, gate: CheckGate, result: CheckResult) {
    this.#config = config;
    this.#backend = backend;
    this.#gate = gate;
    this.#result = result;
  }

  /** Those that stay are checked on as before. */
  setEndpoints(endpoints: Iterable<Checked>): void {
    const before = this.#checks;
    this.#checks = new Map();
    for (const one of endpoints) {
      const check =
        before.get(one) ??
        new EndpointCheck(this.#config, this.#backend, this.#gate, one, (problem) => this.#result(one, problem));
      before.delete(one);
      this.#checks.set(one, check);
    }
    for (const check of before.values()) check.dispose();
  }

  dispose(): void {
    this.setEndpoints([]);
  }
}

/** The checks of one endpoint, one after the other. */
class EndpointCheck extends Deadline {
  readonly #config: HealthCheck;
  readonly #gate: CheckGate;
  readonly #deadlines: Deadlines;
  readonly #endpoint: Checked;
  readonly #backend: CheckedBackend;
  readonly #told: (problem: string | undefined) => void;
  readonly #connections: CheckConnections;
  #running = false;
  #call: Call | undefined = undefined;
  #over = false;

  constructor(
    config: HealthCheck,
    backend: CheckedBackend,
    gate: CheckGate,
    endpoint: Checked,
    told: (problem: string | undefined) => void,
  ) {
    super();
    this.#config = config;
    this.#backend = backend;
    this.#gate = gate;
    this.#deadlines = backend.deadlines;
    this.#endpoint = endpoint;
    this.#told = told;
    this.#connections = new CheckConnections(backend, endpoint, config);
    this.#deadlines.arm(this, Math.random() * Math.min(firstWithin, config.interval));
  }

  expired(): void {
    this.#gate.enter(this.#run);
  }

  readonly #run = (): void => {
    this.#running = true;
    const { check, timeout } = this.#config;
    const { name } = this.#backend;
    const { address, port } = this.#endpoint;
    if (check.kind === "tcp") {
      this.#connect(address, port, timeout);
      return;
    }
    const authority = addressWithPort(address, port);
    const scheme = this.#backend.tls ? "https" : "http";
    if (check.kind === "grpc") {
      const to = { backend: name, authority, path: "/grpc.health.v1.Health/Check", timeout };
      const request = grpcRequest(to, messages.healthCheckRequest, { service: check.service });
      this.#ask({ ...request, scheme }, (answer) => {
        const message = grpcMessage<{ status: number }>(answer, messages.healthCheckResponse);
        if (!message) return "its answer is no answer of grpc.health.v1";
        return message.status === serving ? undefined : `it is not serving (${message.status})`;
      });
      return;
    }
    const { path, host = authority, method = "GET", headers = [], expected = [{ first: 200, last: 200 }] } = check;
    const request: CallRequest = {
      ...{ backend: name, method, scheme, authority: host, path, timeout },
      headers: [{ name: "user-agent", value: "fairlead health check" }, ...headers],
      maxBytes: "discard",
    };
    this.#ask(request, ({ status }) =>
      expected.some(({ first, last }) => status >= first && status <= last) ? undefined : `it answered ${status}`,
    );
  };

  #ask(request: CallRequest, problem: (answer: CallAnswer) => string | undefined): void {
    const backends = { get: () => this.#connections };
    this.#call = call({ backends, deadlines: this.#deadlines }, request, (end) => {
      this.#call = undefined;
      this.#done(typeof end === "string" ? end : problem(end));
    });
    if (!this.#running) this.#call = undefined;
  }

  /** A connection, with TLS a handshake, is all there is to a check of TCP. */
  #connect(address: string, port: number, timeout: number): void {
    const done = (problem: string | undefined) => {
      if (this.#running) this.#done(problem);
    };
    new Connecting(
      {
        opened: (_wire, attempt) => {
          done(undefined);
          // Nothing is to be said on it.
          attempt.failed("connect_failed");
          return undefined;
        },
        settled() {},
        refused: (reason: Reason) => done(reason),
      },
      this.#deadlines,
      { address, port, tls: this.#backend.tls },
      timeout,
    );
  }

  #done(problem: string | undefined): void {
    this.#running = false;
    this.#gate.leave();
    if (this.#over) return;
    const { interval, jitter = 0 } = this.#config;
    this.#deadlines.arm(this, interval * (1 + (Math.random() * jitter) / 100));
    this.#told(problem);
  }

  dispose(): void {
    this.#over = true;
    if (this.wheel) this.#deadlines.disarm(this);
    this.#gate.forget(this.#run);
    const underWay = this.#call;
    this.#call = undefined;
    underWay?.cancel();
    if (underWay) this.#done(undefined);
    this.#connections.close();
  }
}

/** The connections that one endpoint is checked on: a pool of its own, of a backend without limits. */
class CheckConnections implements PoolOwner {
  readonly deadlines: Deadlines;
  readonly timeouts: { readonly idle: number };
  readonly connectTimeout: number;
  readonly isFull = false;
  readonly isAwaited = false;
  readonly requestsPerConnection = Number.POSITIVE_INFINITY;
  readonly connectionDuration = Number.POSITIVE_INFINITY;
  readonly idleTimeout = Number.POSITIVE_INFINITY;
  readonly idleConnections = Number.POSITIVE_INFINITY;
  connections = 0;
  active = 0;
  waiting = 0;
  connectFailures = 0;
  readonly #backend: CheckedBackend;
  readonly #pool: EndpointPool;

  constructor(backend: CheckedBackend, { address, port }: Checked, { timeout }: HealthCheck) {
    this.#backend = backend;
    this.deadlines = backend.deadlines;
    this.timeouts = { idle: timeout };
    this.connectTimeout = timeout;
    this.#pool = new EndpointPool(this, address, port, 1);
  }

  get protocol(): Backend["protocol"] {
    return this.#backend.protocol;
  }

  get tls(): TlsClient | undefined {
    return this.#backend.tls;
  }

  get proxyProtocol(): Backend["proxyProtocol"] {
    return this.#backend.proxyProtocol;
  }

  /** Checks are the proxy's own. */
  get originalSource(): undefined {
    return undefined;
  }

  acquire(waiter: Waiter): undefined {
    const connection = this.#pool.take(waiter);
    if (connection) waiter.connected(connection, this.#pool);
    else this.#pool.connect(waiter);
  }

  forget(waiter: Waiter): void {
    this.#pool.forget(waiter);
  }

  offer(): boolean {
    return false;
  }

  close(): void {
    this.#pool.remove();
  }
}
