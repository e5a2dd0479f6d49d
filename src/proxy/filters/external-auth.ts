// Asks a service whether a request may pass, and does what it says. What is asked and how an answer is read is the protocol's:
// `external-auth-http.ts`, `external-auth-grpc.ts`. While the service fails, requests pass or get a status, as the rule says.

import type { ExternalAuthorization } from "../../model/filters.ts";
import type { HeaderValue } from "../../model/model.ts";
import { type CallAnswer, type CallRequest, call } from "../call.ts";
import type { RequestHead } from "../exchange.ts";
import { type Filter, type FilterAnswer, type FilterExchange, waits } from "../filter.ts";
import { grpcQuestions } from "./external-auth-grpc.ts";
import { httpQuestions, originalUrl } from "./external-auth-http.ts";
import { disown, guardTrailers } from "./fields.ts";

/** What a service said. */
export type AuthVerdict =
  | {
      readonly kind: "yes";
      /** Of the backend's request: set, added behind what is there, taken away. */
      readonly set: readonly HeaderValue[];
      readonly add: readonly HeaderValue[];
      readonly remove: readonly string[];
      /** Added to the answer. */
      readonly toClient: readonly HeaderValue[];
    }
  | { readonly kind: "no"; readonly status: number; readonly headers: readonly HeaderValue[]; readonly body: Buffer }
  | { readonly kind: "failing" };

export interface Questions {
  ask(head: RequestHead, exchange: FilterExchange, body: readonly Buffer[], partial: boolean): CallRequest;
  read(answer: CallAnswer): AuthVerdict;
}

export const externalAuth: Filter<"externalAuth"> = {
  kind: "externalAuth",
  compile(config, runtime) {
    const { protocol } = config;
    const questions = protocol.kind === "http" ? httpQuestions(config, protocol) : grpcQuestions(config, protocol);
    const asked = (head: RequestHead, exchange: FilterExchange, body: readonly Buffer[], partial: boolean) => {
      let answered = false;
      const underWay = call(runtime, questions.ask(head, exchange, body, partial), (end) => {
        answered = true;
        const verdict: AuthVerdict = typeof end === "string" ? { kind: "failing" } : questions.read(end);
        if (verdict.kind === "failing" && config.whenFailing === "pass") exchange.goOn();
        else if (verdict.kind === "failing") exchange.answer(failure(config));
        else if (verdict.kind === "no") exchange.answer(refusal(config, verdict, head, exchange));
        else {
          const spokenFor = [...verdict.remove, ...verdict.set.map(({ name }) => name)];
          for (const name of spokenFor) disown(head.headers, name);
          guardTrailers(["authorization", ...spokenFor], head, exchange);
          for (const { name, value } of verdict.set) head.headers.set(name, value);
          for (const { name, value } of verdict.add) head.headers.add(name, value);
          if (verdict.toClient.length > 0) exchange.keep(config, verdict.toClient);
          exchange.goOn();
        }
      });
      // The request may be gone before the answer comes; the call goes with it.
      if (!answered) exchange.wait(() => underWay.cancel());
    };
    return {
      request(head, exchange) {
        const { bytes, partial } = config.body;
        if (bytes === 0 || head.length === 0 || head.upgrade !== undefined) {
          asked(head, exchange, [], false);
          return waits;
        }
        if (head.length > bytes && !partial) return { reason: "body_too_large" };
        return exchange.readBody(bytes, (chunks, whole) => {
          if (whole || partial) asked(head, exchange, firstBytes(chunks, bytes), !whole);
          else exchange.answer({ reason: "body_too_large" });
        });
      },
      response({ headers }, exchange) {
        for (const { name, value } of exchange.kept<readonly HeaderValue[]>(config) ?? []) headers.add(name, value);
        return undefined;
      },
    };
  },
};

function failure({ whenFailing }: ExternalAuthorization): FilterAnswer {
  const status = whenFailing === "pass" ? 403 : whenFailing.status;
  return { reason: "authorization_failed", status };
}

function refusal(
  { signIn }: ExternalAuthorization,
  { status, headers, body }: Extract<AuthVerdict, { kind: "no" }>,
  head: RequestHead,
  exchange: FilterExchange,
): FilterAnswer {
  if (signIn === undefined || status !== 401) return { reason: "refused_by_authorization", status, headers, body };
  const cookies = headers.filter(({ name }) => name === "set-cookie");
  const location = { name: "location", value: signInUrl(signIn, originalUrl(head, exchange)) };
  return { reason: "refused_by_authorization", status: 302, headers: [location, ...cookies], body: "" };
}

/** Where to come back to is put into the query as `rd`, unless the page names it already (ingress-nginx auth-signin). */
export function signInUrl(page: string, back: string): string {
  if (/[?&]rd=/.test(page)) return page;
  return `${page}${page.includes("?") ? "&" : "?"}rd=${encodeURIComponent(back)}`;
}

export function firstBytes(chunks: readonly Buffer[], bytes: number): readonly Buffer[] {
  const first: Buffer[] = [];
  let left = bytes;
  for (const chunk of chunks) {
    if (left <= 0) break;
    first.push(chunk.length <= left ? chunk : chunk.subarray(0, left));
    left -= chunk.length;
  }
  return first;
}
