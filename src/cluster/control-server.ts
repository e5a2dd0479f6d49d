// The answering side of `control-api.ts`: HTTP on the stack's Unix socket, which only its user can open.

import { chmodSync, rmSync } from "node:fs";
import type { AsyncDisposable } from "../base/disposal.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { requestTarget } from "../base/request-path.ts";
import type { PacketDecision } from "../services/packet.ts";
import type { ExecPlan, StackStatus, StartReport, WaitReport, WaitRequest } from "./control-api.ts";
import type { ExplainRequest, Explanation } from "./explain.ts";
import type { PacketRequest } from "./explain-packet.ts";
import type { Manifest } from "./manifests.ts";
import { checkProxyWorkers } from "./proxy-workers.ts";

/** What the control process can be asked. */
export interface ControlHandlers {
  /** Resolves when more than `seen` steps of the start are done, or it is over, well or not. */
  started(seen: number): Promise<StartReport>;
  status(): Promise<StackStatus>;
  wait(request: WaitRequest): Promise<WaitReport>;
  explain(request: ExplainRequest): Explanation;
  explainPacket(request: PacketRequest): PacketDecision;
  recordSources(sources: readonly Manifest[]): void;
  execPlan(target: string): ExecPlan;
  replaceProxy(workers?: number): Promise<void>;
  /** Begins to end; the answer goes out first. */
  stop(): void;
}

/** The largest question taken, in bytes: the field lines of many files. */
const maxQuestionBytes = 64 * 1024 * 1024;

export function startControlServer(socket: string, handlers: ControlHandlers): AsyncDisposable {
  rmSync(socket, { force: true });
  const mask = process.umask(0o177);
  // Waiting for objects takes longer than Bun's ten idle seconds; its types know the option for TCP only.
  const forever = { idleTimeout: 0 } as object;
  const server = Bun.serve({
    unix: socket,
    maxRequestBodySize: maxQuestionBytes,
    ...forever,
    routes: {
      "/ping": () => Response.json({}),
      "/started": answer((request) => handlers.started(Number(requestTarget(request).searchParams.get("seen") ?? 0))),
      "/status": answer(() => handlers.status()),
      "/wait": answer(async (request) => handlers.wait((await request.json()) as WaitRequest)),
      "/explain": answer(async (request) => handlers.explain((await request.json()) as ExplainRequest)),
      "/explain-packet": answer(async (request) => handlers.explainPacket((await request.json()) as PacketRequest)),
      "/sources": answer(async (request) => {
        handlers.recordSources((await request.json()) as Manifest[]);
        return {};
      }),
      "/exec": answer((request) => handlers.execPlan(requestTarget(request).searchParams.get("target") ?? "")),
      "/replace-proxy": answer(async (request) => {
        const { workers } = (await request.json()) as { workers?: number };
        await handlers.replaceProxy(
          workers === undefined ? undefined : checkProxyWorkers(String(workers), "--workers", "proxy"),
        );
        return {};
      }),
      "/stop": answer(() => {
        handlers.stop();
        return {};
      }),
    },
    fetch: () => Response.json({ error: "there is no such question" }, { status: 404 }),
  });
  process.umask(mask);
  chmodSync(socket, 0o600);
  return {
    async dispose() {
      await server.stop(true);
      rmSync(socket, { force: true });
    },
  };
}

function answer(handle: (request: Request) => unknown): (request: Request) => Promise<Response> {
  return async (request) => {
    try {
      return Response.json(await handle(request));
    } catch (error) {
      const remedy = error instanceof UserError ? error.remedy : undefined;
      return Response.json({ error: messageOf(error), remedy }, { status: error instanceof UserError ? 400 : 500 });
    }
  };
}
