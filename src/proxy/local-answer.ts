// Answers that the proxy gives itself: of the error table, of `respond` actions, of redirects.

import type { HeaderValue, Respond } from "../model/model.ts";
import type { ResponseHead } from "./exchange.ts";
import { HeaderBlock } from "./headers.ts";
import { type Reason, reasons } from "./reason.ts";

export interface LocalAnswer {
  readonly head: ResponseHead;
  readonly body: Buffer;
}

/** A content-type of text/plain is put where `headers` has none. */
export function localAnswer(status: number, text: string | Buffer, headers: readonly HeaderValue[]): LocalAnswer {
  const body = typeof text === "string" ? Buffer.from(text, "utf8") : text;
  const block = new HeaderBlock();
  if (body.length > 0 && !headers.some(({ name }) => name === "content-type")) block.add("content-type", "text/plain");
  if (status !== 204 && status !== 304) block.add("content-length", String(body.length));
  for (const { name, value } of headers) if (name !== "content-length") block.add(name, value);
  return { head: { status, phrase: "", headers: block, length: body.length }, body };
}

/** For a reason of the proxy's own. */
export function reasonAnswer(reason: Reason): LocalAnswer {
  const row = reasons[reason];
  const headers = [{ name: "x-fairlead-reason", value: reason as string }];
  // Envoy's, by which its like in front knows not to try again.
  if (reason === "overflow") headers.push({ name: "x-envoy-overloaded", value: "true" });
  return localAnswer(row.status, `${row.text}\n`, headers);
}

/** What a `respond` says, of an action or in a backend's place. */
export function respondAnswer(respond: Omit<Respond, "kind">): LocalAnswer {
  const body = respond.body ?? (respond.reason === "" ? "" : `${respond.reason}\n`);
  return localAnswer(respond.status, body, respond.headers ?? []);
}

/** Whether a request is one of gRPC (gRPC over HTTP/2, "Requests"; gRPC-Web as well). */
export function isGrpc(headers: HeaderBlock): boolean {
  const type = headers.get("content-type");
  return type !== undefined && /^application\/grpc(-web(-text)?)?(\+[!-~]+)?(;|$)/i.test(type);
}

/** gRPC codes for statuses of HTTP, as gRPC's own clients map them ("HTTP to gRPC Status Code Mapping"). */
const codes: Readonly<Record<number, number>> = {
  400: 13,
  401: 16,
  403: 7,
  404: 12,
  429: 14,
  502: 14,
  503: 14,
  504: 14,
};

/** google.rpc.Code for a status of HTTP; UNKNOWN for those that gRPC does not name, as in Envoy. */
export function statusOfHttp(status: number): number {
  return codes[status] ?? 2;
}

/**
 * google.rpc.Code of an answer of the proxy's own: the reason's, which knows more than its status. Where a policy has the reason answer
 * with another status, whoever wrote that meant what the status says: 503 of an authorization that fails is an outage, which may be
 * tried again, and no refusal.
 */
export function codeOfAnswer(reason: Reason | undefined, status: number): number {
  return reason !== undefined && reasons[reason].status === status ? reasons[reason].grpc : statusOfHttp(status);
}

/** The same answer for a caller of gRPC: status and message in the head, which is all there is ("Trailers-Only"). */
export function grpcAnswer(request: HeaderBlock, { head, body }: LocalAnswer, reason: Reason | undefined): LocalAnswer {
  const block = new HeaderBlock();
  for (const [name, value] of head.headers.entries()) if (!name.startsWith("content-")) block.add(name, value);
  block.add("content-type", request.get("content-type") ?? "application/grpc");
  addStatus(block, codeOfAnswer(reason, head.status), body.toString("utf8").trim().slice(0, 1024));
  return { head: { status: 200, phrase: "", headers: block, length: 0 }, body: Buffer.alloc(0) };
}

/** Trailers for an answer of gRPC that has begun and cannot be completed. */
export function grpcEnd(code: number, text: string, reason: string): HeaderBlock {
  const block = new HeaderBlock();
  addStatus(block, code, text);
  block.add("x-fairlead-reason", reason);
  return block;
}

function addStatus(block: HeaderBlock, code: number, text: string): void {
  block.add("grpc-status", String(code));
  // Percent-encoded UTF-8 but for printable ASCII (gRPC over HTTP/2, "Status-Message").
  if (text !== "")
    block.add(
      "grpc-message",
      text.replaceAll(/[^ -$&-~]/gu, (one) => encodeURIComponent(one.toWellFormed())),
    );
}
