// An admin interface's socket: HTTP at a path that only its owner may open, taken over from a process that still has it.

import { linkSync, renameSync, rmSync, statSync } from "node:fs";
import { messageOf, UserError } from "../../base/errors.ts";
import { requestTarget } from "../../base/request-path.ts";

/** By method and path: `GET /metrics`. */
export type AdminHandlers = Readonly<Record<string, (url: URL, request: Request) => Response | Promise<Response>>>;

/**
 * Listens at `path`, also when another process of ours still does: that one is left its socket and loses the name. `help` is the
 * answer to what there is no handler for. Throws an Error when the socket cannot be made.
 */
export function listenAdmin(path: string, handlers: AdminHandlers, help: string): { stop(): void } {
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
        return new Response(`${messageOf(error)}\n`, { status: error instanceof UserError ? 409 : 500 });
      }
    },
  });
  process.umask(mask);
  const { ino } = statSync(beside);
  linkSync(beside, `${beside}.new`);
  renameSync(`${beside}.new`, path);
  rmSync(beside, { force: true });
  return {
    stop() {
      void server.stop(true);
      if (statSync(path, { throwIfNoEntry: false })?.ino === ino) rmSync(path, { force: true });
    },
  };
}

/** A parameter that is a whole number from 0 to `most`; undefined for anything else. */
export function wholeNumber(url: URL, name: string, otherwise: number, most: number): number | undefined {
  const value = Number(url.searchParams.get(name) ?? otherwise);
  return Number.isInteger(value) && value >= 0 && value <= most ? value : undefined;
}

export const defaultDrain = 30_000;
