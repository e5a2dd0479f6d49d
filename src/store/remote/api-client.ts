// HTTP to one API server: requests with the credentials of a kubeconfig, failures as StatusErrors.

import { type StatusDetails, StatusError, type StatusReason } from "../../api/status-error.ts";
import { messageOf } from "../../base/errors.ts";
import type { Connection } from "./kubeconfig.ts";

export interface RequestOptions {
  readonly query?: Readonly<Record<string, string | number | boolean | undefined>>;
  readonly body?: string;
  readonly contentType?: string;
  readonly accept?: string;
  readonly signal?: AbortSignal;
}

export class ApiClient {
  readonly #connection: Connection;
  readonly #userAgent: string;

  constructor(connection: Connection, userAgent: string) {
    this.#connection = connection;
    this.#userAgent = userAgent;
  }

  /** The answer, when it is a success. Throws a StatusError for every other, and when nobody answers. */
  async send(method: string, path: string, options: RequestOptions = {}): Promise<Response> {
    const { server, token, ca, clientCertificate, insecure, serverName } = this.#connection;
    const url = new URL(server + path);
    for (const [name, value] of Object.entries(options.query ?? {})) {
      if (value !== undefined && value !== "") url.searchParams.set(name, String(value));
    }
    const headers: Record<string, string> = {
      accept: options.accept ?? "application/json",
      "user-agent": this.#userAgent,
    };
    if (options.body !== undefined) headers["content-type"] = options.contentType ?? "application/json";
    if (token) headers["authorization"] = `Bearer ${token()}`;
    let response: Response;
    try {
      response = await fetch(url, {
        method,
        headers,
        ...(options.body === undefined ? {} : { body: options.body }),
        ...(options.signal ? { signal: options.signal } : {}),
        tls: {
          ...(ca ? { ca } : {}),
          ...clientCertificate,
          ...(serverName ? { serverName } : {}),
          rejectUnauthorized: !insecure,
        },
      });
    } catch (error) {
      if (options.signal?.aborted) throw error;
      throw new StatusError(
        503,
        "ServiceUnavailable",
        `the API server at ${server} does not answer: ${messageOf(error)}`,
      );
    }
    if (response.ok) return response;
    const error = statusErrorOf(response.status, await response.text());
    error.hints = warningsOf(response);
    throw error;
  }

  async json<T>(method: string, path: string, options: RequestOptions = {}): Promise<T> {
    const response = await this.send(method, path, options);
    return (await response.json()) as T;
  }
}

/** What an answer warns of (RFC 7234 section 5.5, code 299), unquoted. */
export function warningsOf(response: Response): readonly string[] {
  const header = response.headers.get("warning") ?? "";
  return [...header.matchAll(/299 - "((?:[^"\\]|\\.)*)"/g)].map(([, text]) => text!.replace(/\\(.)/g, "$1"));
}

/** The failure that a body describes, or one made from its code when it describes none. */
export function statusErrorOf(code: number, text: string): StatusError {
  try {
    const status = JSON.parse(text) as {
      kind?: string;
      message?: string;
      reason?: StatusReason;
      details?: StatusDetails;
      code?: number;
    };
    if (status.kind === "Status") {
      return new StatusError(status.code ?? code, status.reason ?? "Unknown", status.message ?? text, status.details);
    }
  } catch {
    // not a Status; said below with its code
  }
  const reason: StatusReason =
    code === 401 ? "Unauthorized" : code === 403 ? "Forbidden" : code === 404 ? "NotFound" : "Unknown";
  return new StatusError(code, reason, `the API server answered ${code}: ${text.trim().slice(0, 300)}`);
}
