// The cluster DNS server's sockets: UDP and TCP on one address and port (RFC 1035, 7766). What is answered is decided in
// `answer.ts`; names of others go to the forwarder, and without one they are refused, as CoreDNS does without `forward`.

import { decode } from "dns-packet";
import { type AsyncDisposable, type Disposable, disposable } from "../base/disposal.ts";
import { messageOf, UserError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { answer, denyReverse } from "./answer.ts";
import type { Forwarder } from "./forwarder.ts";
import { emptyReply, encodeReply, parseQuery, type Query, udpLimit } from "./message.ts";
import type { ZoneView } from "./names.ts";
import type { DnsRecord, Reply } from "./records.ts";
import { serveTcp } from "./tcp.ts";

export interface DnsServerOptions {
  readonly names: ZoneView;
  /** A literal address. */
  readonly address: string;
  /** 53 unless given; 0 takes a free one. */
  readonly port?: number;
  /** Runs `open` where the sockets belong (inside a node's network namespace). */
  readonly bind?: <T>(open: () => T) => T;
  readonly forwarder?: Forwarder;
  readonly log: Logger;
  /** A number in [0, 1): orders equal addresses anew for each asker; replaced in tests. */
  readonly random?: () => number;
}

export interface DnsServer extends AsyncDisposable {
  readonly address: string;
  readonly port: number;
}

/** Answers one message. Calls `send` at most once; at once, unless another server has to be asked. Never throws. */
export function handleMessage(
  bytes: Uint8Array,
  over: "udp" | "tcp",
  options: Pick<DnsServerOptions, "names" | "forwarder" | "random" | "log">,
  send: (reply: Uint8Array) => void,
): void {
  const parsed = parseQuery(bytes);
  if (parsed.kind === "refused") send(parsed.reply);
  if (parsed.kind !== "query") return;
  const { query } = parsed;
  const { names, forwarder, random = Math.random } = options;
  const limit = over === "udp" ? udpLimit(query) : 65_535;
  const reply = (what: Reply) => {
    send(encodeReply(query, shuffled(what, random), limit, { recursionAvailable: forwarder !== undefined }));
  };
  const failed = (error: unknown) => {
    options.log.error("a DNS question could not be answered", { ...query.question, error: messageOf(error) });
    reply(emptyReply("SERVFAIL"));
  };
  try {
    const local = answer(query.question, names);
    const target = local && forwarder && danglingTarget(local, query, names);
    if (local && target && forwarder) chase(forwarder, query, local, target).then(reply).catch(failed);
    else if (local) reply(local);
    else if (forwarder) pass(forwarder, query, over, send, reply).catch(failed);
    else reply(denyReverse(query.question, names) ?? emptyReply("REFUSED"));
  } catch (error) {
    failed(error);
  }
}

async function pass(
  forwarder: Forwarder,
  query: Query,
  over: "udp" | "tcp",
  send: (reply: Uint8Array) => void,
  reply: (what: Reply) => void,
): Promise<void> {
  const bytes = await forwarder.ask(query, over);
  if (bytes) send(bytes);
  else reply(emptyReply("SERVFAIL"));
}

/** The name outside of the zone that a CNAME leads to, when the asker wants what is there. */
function danglingTarget(reply: Reply, query: Query, names: ZoneView): string | undefined {
  const last = reply.answers.at(-1);
  if (last?.type !== "CNAME" || query.question.type === "CNAME") return undefined;
  return last.data.endsWith(`.${names.zone}`) ? undefined : last.data;
}

/** The CNAME with the records of its target behind it. */
async function chase(forwarder: Forwarder, query: Query, reply: Reply, target: string): Promise<Reply> {
  const bytes = await forwarder.ask(questionFor(query, target), "tcp");
  if (!bytes) return reply;
  const records = (decode(Buffer.from(bytes)).answers ?? []).filter(
    (one) => one.type === "CNAME" || one.type === query.question.type,
  );
  return { ...reply, answers: [...reply.answers, ...(records as unknown as DnsRecord[])] };
}

function questionFor(query: Query, name: string): Query {
  const labels = name.split(".").map((label) => Buffer.from(label, "latin1"));
  const type = query.questionBytes.subarray(query.questionBytes.length - 4);
  const parts = labels.flatMap((label) => [Buffer.from([label.length]), label]);
  return {
    ...query,
    question: { name, type: query.question.type },
    questionBytes: Buffer.concat([...parts, Buffer.from([0]), type]),
  };
}

/** Equal addresses in another order each time, so that askers who take the first one spread (CoreDNS's loadbalance). */
function shuffled(reply: Reply, random: () => number): Reply {
  if (reply.answers.length < 2 || reply.answers.some((one) => one.type === "CNAME")) return reply;
  const answers = [...reply.answers];
  for (let at = answers.length - 1; at > 0; at--) {
    const other = Math.floor(random() * (at + 1));
    [answers[at], answers[other]] = [answers[other]!, answers[at]!];
  }
  return { ...reply, answers };
}

/** Opens both sockets. Rejects with a UserError when the address or port cannot be had. */
export async function startDnsServer(options: DnsServerOptions): Promise<DnsServer> {
  const { address, port = 53, bind = <T>(open: () => T) => open(), log } = options;
  const parts: Disposable[] = [];
  try {
    const udp = await bind(() =>
      Bun.udpSocket({
        hostname: address,
        port,
        socket: {
          data(socket, data, fromPort, fromAddress) {
            handleMessage(data, "udp", options, (reply) => {
              // A full send buffer loses the answer; the asker asks again.
              if (!socket.closed) socket.send(reply, fromPort, fromAddress);
            });
          },
          error(_socket, error) {
            log.debug("DNS over UDP", { error: messageOf(error) });
          },
        },
      }),
    );
    parts.push(disposable(() => udp.close()));
    const tcp = bind(() =>
      serveTcp(address, udp.port, (message, send) => handleMessage(message, "tcp", options, send)),
    );
    parts.push(tcp);
    return {
      address,
      port: udp.port,
      async dispose() {
        for (const part of parts.splice(0).reverse()) part.dispose();
      },
    };
  } catch (error) {
    for (const part of parts.reverse()) part.dispose();
    throw new UserError(`DNS server ${address}:${port}: cannot listen: ${messageOf(error)}`, {
      remedy: "free the port, or choose another address",
      cause: error,
    });
  }
}
