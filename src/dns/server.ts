// The cluster DNS server's sockets: UDP and TCP on one address and port (RFC 1035, 7766). What is answered is decided in
// `answer.ts`; names of others go to the forwarder, and without one they are refused, as CoreDNS does without `forward`.

import { sendDatagram, udpError } from "../base/datagram.ts";
import { type AsyncDisposable, type Disposable, disposable } from "../base/disposal.ts";
import { messageOf, UserError } from "../base/errors.ts";
import type { Logger } from "../base/log.ts";
import { answer, denyReverse } from "./answer.ts";
import { AnswerCache } from "./answer-cache.ts";
import { recordsOf, searchedName, searchOn } from "./autopath.ts";
import type { Forwarder } from "./forwarder.ts";
import { emptyReply, encodeReply, parseQuery, type Query, queryFor, rcodeNumber, udpLimit } from "./message.ts";
import type { DnsMetrics, Transport } from "./metrics.ts";
import type { ServiceNames, ZoneView } from "./names.ts";
import type { Reply } from "./records.ts";
import { serveTcp } from "./tcp.ts";
import { ZoneTable } from "./zone-table.ts";

/** What questions are answered from, and for whom. */
export interface Answering {
  readonly names: ZoneView;
  /** The same names under other zones. */
  readonly aliases?: readonly ZoneView[];
  readonly forwarder?: Forwarder;
  /** Whose questions about names of others are taken; everybody's unless given. */
  readonly allows?: (client: string) => boolean;
  /** Whether pods' search paths are gone along for them. */
  readonly autopath?: boolean;
  readonly metrics?: DnsMetrics;
  readonly log: Logger;
  /** A number in [0, 1): orders equal addresses anew for each asker; replaced in tests. */
  readonly random?: () => number;
}

export interface DnsServerOptions {
  /** Asked for each question, so that another configuration counts from the next one on. */
  readonly answering: Answering | (() => Answering);
  /** Literal addresses, at least one; all have the same port. */
  readonly addresses: readonly string[];
  /** 53 unless given; 0 takes a free one. */
  readonly port?: number;
  /** Runs `open` where the sockets belong (inside a node's network namespace). */
  readonly bind?: <T>(open: () => T) => T;
  /** Lets another process of ours listen there, too (SO_REUSEPORT). */
  readonly shared?: boolean;
  readonly log: Logger;
}

export interface DnsServer extends AsyncDisposable {
  readonly port: number;
}

/**
 * Answers one message of the client at an address. Calls `send` at most once; at once, unless another server has to be asked.
 * Never throws.
 */
export function handleMessage(
  bytes: Uint8Array,
  over: Transport,
  answering: Answering,
  send: (reply: Uint8Array) => void,
  client = "127.0.0.1",
  cache?: AnswerCache,
): void {
  const began = performance.now();
  const parsed = parseQuery(bytes);
  if (parsed.kind === "refused") send(parsed.reply);
  if (parsed.kind !== "query") return;
  const { query } = parsed;
  const { random = Math.random, metrics } = answering;
  const limit = over === "udp" ? udpLimit(query) : 65_535;
  const zones = [answering.names, ...(answering.aliases ?? [])];
  const forwarder = answering.forwarder && (answering.allows?.(client) ?? true) ? answering.forwarder : undefined;
  const type = typeNumber(query);
  const count = (zone: number, rcode: number) =>
    metrics?.answered(over, zone < 0 ? metrics.otherZone : zone, type, rcode, (performance.now() - began) / 1000);
  const reply = (what: Reply, zone: number) => {
    count(zone, rcodeNumber(what.rcode));
    send(encodeReply(query, shuffled(what, random), limit, { recursionAvailable: forwarder !== undefined }));
  };
  const failed = (error: unknown) => {
    answering.log.error("a DNS question could not be answered", { ...query.question, error: messageOf(error) });
    reply(emptyReply("SERVFAIL"), -1);
  };
  try {
    let zone = zones.findIndex((view) => isBelow(query.question.name, view.zone));
    const view = zones[Math.max(0, zone)]!;
    const local = answer(query.question, view);
    if (local && zone < 0) zone = 0; // an address of the cluster's
    if (!local) {
      if (forwarder?.handles(query.question.name)) {
        pass(forwarder, query, over, send, (what) => reply(what, -1), count).catch(failed);
      } else reply(denyReverse(query.question, view) ?? emptyReply("REFUSED"), -1);
      return;
    }
    const target = forwarder && danglingTarget(local, query, zones);
    if (target && forwarder?.handles(target)) {
      chase(forwarder, query, local, target)
        .then((what) => reply(what, zone))
        .catch(failed);
      return;
    }
    const found = serviceOf(query.question.name, view);
    const searched =
      answering.autopath && found.namespace !== undefined && local.rcode === "NXDOMAIN" && isAddress(type)
        ? searchedName(query.question.name, found.namespace, view)
        : undefined;
    if (searched !== undefined && view.namespaceOfPod?.(client) === found.namespace) {
      searchOn(query, searched, view, forwarder)
        .then((what) => {
          if (what) metrics?.searched();
          reply(what ?? local, zone);
        })
        .catch(failed);
      return;
    }
    const alone = found.service?.kind === "external" ? undefined : found.service;
    if (searched === undefined && local.rcode !== "SERVFAIL") cache?.keep(bytes, query, local, zone, alone);
    reply(local, zone);
  } catch (error) {
    failed(error);
  }
}

function isBelow(asked: string, zone: string): boolean {
  const name = asked.toLowerCase();
  return name === zone || name.endsWith(`.${zone}`);
}

function typeNumber({ questionBytes }: Query): number {
  return (questionBytes[questionBytes.length - 4]! << 8) | questionBytes[questionBytes.length - 3]!;
}

function isAddress(type: number): boolean {
  return type === 1 || type === 28;
}

/** Which Service and namespace a name below `svc` speaks of. */
function serviceOf(
  asked: string,
  view: ZoneView,
): { readonly service?: ServiceNames | undefined; readonly namespace?: string } {
  const name = asked.toLowerCase();
  if (!name.endsWith(`.svc.${view.zone}`)) return {};
  const labels = name.slice(0, -view.zone.length - ".svc.".length).split(".");
  const namespace = labels.at(-1)!;
  const service = labels.length > 1 ? view.service(namespace, labels.at(-2)!) : undefined;
  return { namespace, service };
}

async function pass(
  forwarder: Forwarder,
  query: Query,
  over: Transport,
  send: (reply: Uint8Array) => void,
  reply: (what: Reply) => void,
  count: (zone: number, rcode: number) => void,
): Promise<void> {
  const bytes = await forwarder.ask(query, over);
  if (!bytes) return reply(emptyReply("SERVFAIL"));
  count(-1, bytes[3]! & 15);
  send(bytes);
}

/** The name outside of the zones that a CNAME leads to, when the asker wants what is there. */
function danglingTarget(reply: Reply, query: Query, zones: readonly ZoneView[]): string | undefined {
  const last = reply.answers.at(-1);
  if (last?.type !== "CNAME" || query.question.type === "CNAME") return undefined;
  return zones.some((view) => isBelow(last.data, view.zone)) ? undefined : last.data;
}

/** The CNAME with the records of its target behind it. */
async function chase(forwarder: Forwarder, query: Query, reply: Reply, target: string): Promise<Reply> {
  const bytes = await forwarder.ask(queryFor(query, target), "tcp");
  if (!bytes) return reply;
  return { ...reply, answers: [...reply.answers, ...recordsOf(bytes, query.question.type)] };
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

/** As Bun's own node:dgram asks for SO_REUSEPORT; its types do not name it. */
const reusePort: object = { flags: 4 };

/** How many ports are tried when any will do. */
const maxPortAttempts = 20;

/** Opens both sockets on each address; port 0 is any that is free on all of them. Rejects with a UserError when an address or the port cannot be had. */
export async function startDnsServer(options: DnsServerOptions): Promise<DnsServer> {
  const { addresses, port = 53, bind = <T>(open: () => T) => open(), shared = false, log } = options;
  const current = typeof options.answering === "function" ? options.answering : () => options.answering as Answering;
  const parts: Disposable[] = [];
  const { names, random = Math.random } = current();
  const cache = names instanceof ZoneTable ? new AnswerCache(names, random) : undefined;
  if (cache) parts.push(cache);
  const open = async (address: string, port: number): Promise<number> => {
    const udp = await bind(() =>
      Bun.udpSocket({ hostname: address, port, socket: handlers, ...(shared ? reusePort : {}) }),
    );
    parts.push(disposable(() => udp.close()));
    const tcp = bind(() =>
      serveTcp(address, udp.port, shared, (message, send, client) =>
        handleMessage(message, "tcp", current(), send, client, cache),
      ),
    );
    parts.push(tcp);
    return udp.port;
  };
  const handlers: Bun.udp.SocketHandler<"buffer"> = {
    data(socket, data, fromPort, fromAddress) {
      const answering = current();
      const began = answering.metrics && performance.now();
      const length = cache?.answer(data, 512, offersRecursion(answering, fromAddress)) ?? 0;
      // A full send buffer loses the answer; the asker asks again.
      if (length === 0) {
        const send = (reply: Uint8Array) => {
          if (!socket.closed) sendDatagram(() => socket.send(reply, fromPort, fromAddress));
        };
        handleMessage(data, "udp", answering, send, fromAddress, cache);
        return;
      }
      sendDatagram(() => socket.send(cache!.out.subarray(0, length), fromPort, fromAddress));
      const { zone, type, rcode } = cache!.given;
      answering.metrics?.answered("udp", zone, type, rcode, (performance.now() - began!) / 1000);
    },
    error(...told: readonly unknown[]) {
      log.debug("DNS over UDP", { error: messageOf(udpError(told)) });
    },
  };
  let opening = addresses[0] ?? "";
  try {
    let opened = port;
    for (let attempt = 1; ; attempt++) {
      const before = parts.length;
      try {
        for (const address of addresses) {
          opening = address;
          opened = await open(address, opened);
        }
        break;
      } catch (error) {
        // The port that UDP was given may be somebody's over TCP, or on the next address: another one then.
        if (port !== 0 || attempt === maxPortAttempts) throw error;
        for (const part of parts.splice(before).reverse()) part.dispose();
        opened = 0;
      }
    }
    return {
      port: opened,
      async dispose() {
        for (const part of parts.splice(0).reverse()) part.dispose();
      },
    };
  } catch (error) {
    for (const part of parts.reverse()) part.dispose();
    throw new UserError(`DNS server ${opening}:${port}: cannot listen: ${messageOf(error)}`, {
      remedy: "free the port, or choose another address",
      cause: error,
    });
  }
}

/** The RA bit: whether this client's questions about names of others are passed on. */
function offersRecursion({ forwarder, allows }: Answering, client: string): boolean {
  return forwarder !== undefined && (allows === undefined || allows(client));
}
