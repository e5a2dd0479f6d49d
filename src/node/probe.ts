// Probes of containers that run as commands (pkg/kubelet/prober): how one is done, and how results add up to passing or
// failing. Stand-ins are not probed: they serve as soon as their ports are open.

import type { Container, Probe } from "../api/kinds.ts";
import type { Clock } from "../base/clock.ts";
import type { Disposable } from "../base/disposal.ts";
import { messageOf } from "../base/errors.ts";
import { endpointText } from "../services/service-table.ts";
import { grpcProblem } from "./grpc-probe.ts";
import type { CommandResult } from "./network.ts";

/** Where and how a probe reaches its container. */
export interface ProbeTarget {
  readonly address: string;
  readonly container: Container;
  effectivePort(port: number): number;
  /** Runs a command as the container would run it. */
  exec(argv: readonly string[], timeout: number): Promise<CommandResult>;
}

export interface ProbeResult {
  readonly ok: boolean;
  readonly message: string;
}

/** Does a probe once. Never rejects. */
export async function probeOnce(probe: Probe, target: ProbeTarget): Promise<ProbeResult> {
  const timeout = (probe.timeoutSeconds ?? 1) * 1000;
  try {
    if (probe.exec) {
      const result = await target.exec(probe.exec.command ?? [], timeout);
      return { ok: result.exitCode === 0, message: (result.stdout + result.stderr).trim().slice(0, 500) };
    }
    if (probe.httpGet) {
      const { host, path = "/", scheme = "HTTP", httpHeaders = [] } = probe.httpGet;
      const port = portOf(probe.httpGet.port, target);
      const authority = endpointText({ address: host || target.address, port });
      const url = `${scheme.toLowerCase()}://${authority}${path.startsWith("/") ? "" : "/"}${path}`;
      const response = await fetch(url, {
        headers: [
          ["user-agent", "kube-probe/1.36"],
          ...httpHeaders.map(({ name, value }): [string, string] => [name, value]),
        ],
        redirect: "manual",
        signal: AbortSignal.timeout(timeout),
        tls: { rejectUnauthorized: false },
      });
      await response.body?.cancel();
      return {
        ok: response.status >= 200 && response.status < 400,
        message: `HTTP probe failed with statuscode: ${response.status}`,
      };
    }
    if (probe.grpc) {
      const { port, service = "" } = probe.grpc;
      const problem = await grpcProblem(target.address, target.effectivePort(port), service, timeout);
      return { ok: problem === undefined, message: problem ?? "" };
    }
    if (probe.tcpSocket) {
      const { host, port } = probe.tcpSocket;
      await connectOnce(host ?? target.address, portOf(port, target), timeout);
      return { ok: true, message: "" };
    }
    return { ok: true, message: "" };
  } catch (error) {
    return { ok: false, message: messageOf(error) };
  }
}

function portOf(port: number | string, target: ProbeTarget): number {
  if (typeof port === "number") return target.effectivePort(port);
  const named = target.container.ports?.find((one) => one.name === port)?.containerPort ?? Number(port);
  if (!Number.isInteger(named)) throw new Error(`container ${target.container.name} has no port named "${port}"`);
  return target.effectivePort(named);
}

function connectOnce(hostname: string, port: number, timeout: number): Promise<void> {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(
      () => reject(new Error(`dial tcp ${endpointText({ address: hostname, port })}: i/o timeout`)),
      timeout,
    );
    Bun.connect({
      hostname,
      port,
      socket: {
        open(socket) {
          clearTimeout(timer);
          socket.end();
          resolve();
        },
        data() {},
        error() {},
      },
    }).catch((error) => {
      clearTimeout(timer);
      reject(error);
    });
  });
}

/** Milliseconds between looks until the first verdict. */
const eagerly = 250;

/**
 * Repeats a probe and says when the verdict changes. Until the first verdict it looks more often than the period says, so
 * that what starts quickly is ready quickly; failures of these additional looks do not count.
 */
export class Prober implements Disposable {
  readonly #probe: Probe;
  readonly #once: () => Promise<ProbeResult>;
  readonly #clock: Clock;
  readonly #verdict: (passing: boolean, message: string) => void;
  /** Results in a row: successes above zero, failures below. */
  #run = 0;
  /** When a result was last counted. */
  #counted = Number.NEGATIVE_INFINITY;
  #last: boolean | undefined;
  #timer: Disposable;
  #ended = false;

  /** `verdict` is called when so many results in a row as the thresholds ask for agree, the first time and at each change. */
  constructor(
    probe: Probe,
    once: () => Promise<ProbeResult>,
    clock: Clock,
    verdict: (passing: boolean, message: string) => void,
  ) {
    this.#probe = probe;
    this.#once = once;
    this.#clock = clock;
    this.#verdict = verdict;
    this.#timer = clock.after((probe.initialDelaySeconds ?? 0) * 1000, () => void this.#look());
  }

  dispose(): void {
    this.#ended = true;
    this.#timer.dispose();
  }

  async #look(): Promise<void> {
    const { ok, message } = await this.#once();
    if (this.#ended) return;
    const period = (this.#probe.periodSeconds ?? 10) * 1000;
    const now = this.#clock.now();
    if (ok || now - this.#counted >= period) {
      this.#counted = now;
      this.#count(ok, message);
    }
    if (this.#ended) return;
    const delay = this.#last === undefined ? Math.min(period, eagerly) : period;
    this.#timer = this.#clock.after(delay, () => void this.#look());
  }

  #count(ok: boolean, message: string): void {
    this.#run = ok ? Math.max(this.#run, 0) + 1 : Math.min(this.#run, 0) - 1;
    const passed = this.#run >= (this.#probe.successThreshold ?? 1);
    const failed = -this.#run >= (this.#probe.failureThreshold ?? 3);
    if ((passed && this.#last !== true) || (failed && this.#last !== false)) {
      this.#last = passed;
      this.#verdict(passed, message);
    }
  }
}
