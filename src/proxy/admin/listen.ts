// An admin interface's socket: HTTP at a path that only its owner may open, taken over from a process that still has it.

import { linkSync, renameSync, rmSync, statSync } from "node:fs";
import { messageOf, UserError } from "../../base/errors.ts";
import { requestTarget } from "../../base/request-path.ts";

/** By method and path: `GET /metrics`. */
export type AdminHandlers = Readonly<Record<string, (url: URL, request: Request) => Response | Promise<Response>>>;

/** Nobody is there who could answer: the answer is 503. */
export class Unavailable extends Error {}

export interface AdminSocket {
  /** Whether the name is still this process's, and not its successor's. */
  isOwn(): boolean;
  /** Returns whether the name was still this process's, and not its successor's. */
  stop(): boolean;
}

/**
 * Listens at `path`, also when another process of ours still does: that one is left its socket and loses the name. `help` is the
 * answer to what there is no handler for. Throws an Error when the socket cannot be made.
 */
export function listenAdmin(path: string, handlers: AdminHandlers, help: string): AdminSocket {
  const beside = `${path}.${process.pid}`;
  rmSync(beside, { force: true });
  // By the mask rather than by chmod afterwards, so that there is no moment in which others could connect.
  const mask = process.umask(0o177);
  // A profile takes longer than Bun's ten idle seconds; its types know the option for TCP only.
  const forever = { idleTimeout: 0 } as object;
  const server = Bun.serve({
    unix: beside,
    ...forever,
    async fetch(request) {
      const url = requestTarget(request);
      const handler = handlers[`${request.method} ${url.pathname}`];
      if (!handler) return new Response(help, { status: 404 });
      try {
        return await handler(url, request);
      } catch (error) {
        const status = error instanceof Unavailable ? 503 : error instanceof UserError ? 409 : 500;
        return new Response(`${messageOf(error)}\n`, { status });
      }
    },
  });
  process.umask(mask);
  const { ino } = statSync(beside);
  linkSync(beside, `${beside}.new`);
  renameSync(`${beside}.new`, path);
  rmSync(beside, { force: true });
  const isOwn = () => statSync(path, { throwIfNoEntry: false })?.ino === ino;
  return {
    isOwn,
    stop() {
      void server.stop(true);
      const owned = isOwn();
      if (owned) rmSync(path, { force: true });
      return owned;
    },
  };
}

/** A parameter that is a whole number from 0 to `most`; undefined for anything else. */
export function wholeNumber(url: URL, name: string, otherwise: number, most: number): number | undefined {
  const value = Number(url.searchParams.get(name) ?? otherwise);
  return Number.isInteger(value) && value >= 0 && value <= most ? value : undefined;
}

const defaultDrain = 30_000;
/** Sockets of one port. */
const mostSuccessors = 16_384;

/** `POST /drain?deadline=MS&successors=N`: calls `drain`, unless a parameter is wrong. */
export function answerDrain(url: URL, drain: (deadline: number, successors: number | undefined) => void): Response {
  const deadline = wholeNumber(url, "deadline", defaultDrain, Number.MAX_SAFE_INTEGER);
  if (deadline === undefined) return new Response("deadline is a number of milliseconds\n", { status: 400 });
  const told = url.searchParams.has("successors");
  const successors = wholeNumber(url, "successors", 0, mostSuccessors);
  if (successors === undefined)
    return new Response(`successors is a number from 0 to ${mostSuccessors}\n`, { status: 400 });
  drain(deadline, told ? successors : undefined);
  return new Response("draining\n", { status: 202 });
}
