// What commands ask the control process of a stack over its Unix socket (HTTP with JSON bodies), beside the Kubernetes API.
// The types of questions and answers, and the asking side; `control-server.ts` answers.

import { existsSync } from "node:fs";
import { messageOf, UserError } from "../base/errors.ts";
import type { PacketDecision } from "../services/packet.ts";
import type { ExplainRequest, Explanation } from "./explain.ts";
import type { PacketRequest } from "./explain-packet.ts";
import type { Manifest } from "./manifests.ts";
import { stackPaths } from "./stack.ts";

export interface Step {
  readonly name: string;
  readonly milliseconds: number;
}

/** How the start went: the steps so far, and the error that ended it. */
export interface StartReport {
  readonly steps: readonly Step[];
  readonly finished: boolean;
  readonly error?: string;
  readonly remedy?: string;
}

export interface ObjectReference {
  readonly apiVersion: string;
  readonly kind: string;
  readonly namespace?: string;
  readonly name: string;
}

export interface WaitRequest {
  readonly objects: readonly ObjectReference[];
  readonly timeoutMilliseconds: number;
}

export interface WaitReport {
  readonly ready: boolean;
  /** One sentence for each object that does not work: object, condition, reason. */
  readonly problems: readonly string[];
}

export interface ProcessStatus {
  readonly component: string;
  readonly pid: number | undefined;
  readonly state: "running" | "stopped" | "restarting";
  readonly restarts: number;
}

export interface ProxyStatus {
  readonly proxy: string;
  readonly connected: boolean;
  /** Since when it is connected, or not; milliseconds since 1970. */
  readonly since: number;
  readonly pid: number | undefined;
  /** Which program it is; not set by one that does not say. */
  readonly program: string | undefined;
  /** Its admin socket. */
  readonly admin: string | undefined;
  readonly scopes: readonly string[];
  /** By resource type: how many it has in force, and whether that is what it should have. */
  readonly types: Readonly<Record<string, { readonly count: number; readonly state: "synced" | "stale" | "rejected" }>>;
  readonly sent: number;
  readonly applied: number;
  /** `listeners gateway/infra/web/443: address in use`. */
  readonly rejected: readonly string[];
  /** Set for a composition: how many workers it is to have, and those that are there, each as a proxy of its own. */
  readonly workers?: { readonly of: number; readonly present: readonly ProxyStatus[] };
}

/** A proxy of another program than the present one that could not hand over to it, and goes on. */
export interface PendingUpgrade {
  /** The present one. */
  readonly program: string;
  readonly failures: number;
  readonly reason: string;
  /** When it is tried again; milliseconds since 1970. */
  readonly next: number;
}

export interface StackStatus {
  readonly name: string;
  readonly network: string;
  readonly nodes: readonly {
    readonly name: string;
    readonly ready: boolean;
    readonly address: string;
    readonly pods: number;
  }[];
  readonly ranges: Readonly<Record<string, string>>;
  readonly apiServer: string;
  readonly processes: readonly ProcessStatus[];
  readonly proxies: readonly ProxyStatus[];
  /** Set while the stack's proxy is to become another program, and did not yet. */
  readonly pendingUpgrade?: PendingUpgrade;
  /** What could not be computed or applied: collections' errors, rules that could not be written. */
  readonly errors: readonly string[];
  /** What dialects say about users' objects: `error: HTTPRoute shop/web: …`. */
  readonly findings: readonly string[];
  /** `port 80 → 8080`: where loopback had to move ports. */
  readonly movedPorts: readonly { readonly port: number; readonly effective: number }[];
}

export interface ExecPlan {
  /** Put before the command's own words. */
  readonly argv: readonly string[];
  /** Something the user should know, said on stderr. */
  readonly note?: string;
}

/** The asking side. Every method throws a UserError when nobody answers. */
export class ControlClient {
  readonly #name: string;
  readonly #socket: string;

  constructor(name: string) {
    this.#name = name;
    this.#socket = stackPaths(name).controlSocket;
  }

  /** Whether somebody listens on the stack's socket. */
  async answers(): Promise<boolean> {
    if (!existsSync(this.#socket)) return false;
    try {
      const response = await fetch("http://control/ping", { unix: this.#socket });
      return response.ok;
    } catch {
      return false;
    }
  }

  /** The start so far, once it has more than `seen` steps or is over. */
  started(seen: number): Promise<StartReport> {
    return this.#ask("GET", `/started?seen=${seen}`);
  }

  status(): Promise<StackStatus> {
    return this.#ask("GET", "/status");
  }

  wait(request: WaitRequest): Promise<WaitReport> {
    return this.#ask("POST", "/wait", request);
  }

  explain(request: ExplainRequest): Promise<Explanation> {
    return this.#ask("POST", "/explain", request);
  }

  explainPacket(request: PacketRequest): Promise<PacketDecision> {
    return this.#ask("POST", "/explain-packet", request);
  }

  recordSources(sources: readonly Manifest[]): Promise<void> {
    return this.#ask("POST", "/sources", sources);
  }

  execPlan(target: string): Promise<ExecPlan> {
    return this.#ask("GET", `/exec?target=${encodeURIComponent(target)}`);
  }

  /**
   * Hands the stack's proxy over to another process of the present program, from now on of `workers` workers if given; resolves when
   * that one serves.
   */
  replaceProxy(workers?: number): Promise<void> {
    return this.#ask("POST", "/replace-proxy", { workers });
  }

  /** Asks the control process to end, with all that it started. */
  stop(): Promise<void> {
    return this.#ask("POST", "/stop");
  }

  async #ask<T>(method: string, path: string, body?: unknown): Promise<T> {
    let response: Response;
    try {
      response = await fetch(`http://control${path}`, {
        method,
        unix: this.#socket,
        ...(body === undefined ? {} : { body: JSON.stringify(body) }),
      });
    } catch (error) {
      throw new UserError(`stack "${this.#name}" does not answer (${messageOf(error)})`, {
        remedy: `Start it with: fairlead up${this.#name === "default" ? "" : ` --name ${this.#name}`}`,
      });
    }
    const answer = (await response.json()) as T & { error?: string; remedy?: string };
    if (response.ok) return answer;
    throw new UserError(answer.error ?? `the control process answered ${response.status}`, {
      ...(answer.remedy ? { remedy: answer.remedy } : {}),
    });
  }
}
