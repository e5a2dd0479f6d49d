// Datagrams to addresses that are not this machine's (IP_TRANSPARENT, the kernel's Documentation/networking/tproxy.rst), which rules of
// TPROXY send here. Where the first of a client to a destination wanted to go comes beside it (IP_RECVORIGDSTADDR, ip(7)), which Bun's
// sockets do not hand on: it is read here, and the kernel says by a signal that there is one (O_ASYNC, signal(7) SIGIO), so that nothing
// polls. From then on both have a socket of Bun's, bound to the destination and connected to the client: TPROXY prefers it.

import { FFIType, ptr } from "bun:ffi";
import type { udp } from "bun";
import { sendDatagram } from "../../base/datagram.ts";
import { lastErrorCode } from "../../base/errno.ts";
import { addressWithPort, formatIPv4, formatIPv6, ipFamily } from "../../base/ip.ts";
import { fixed, openLibc } from "../../base/libc.ts";
import { inNetns } from "../../base/setns.ts";
import { attachFilter } from "../listener/divert.ts";
import type { Destination } from "../listener/original-destination.ts";
import type { Accepting } from "../listener/plain.ts";
import { socketAddress, speakFrom, transparentSocket } from "../upstream/original-source.ts";
import { inTurn } from "../wire.ts";
import { fromClient, hearAgain, hearNoMore } from "./hearing.ts";
import { sendFrom } from "./send-from.ts";
import type { Way } from "./served.ts";

const { i32, u32, i64, ptr: pointer } = FFIType;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const IP_RECVORIGDSTADDR = 20;
const IPV6_RECVORIGDSTADDR = 74;
const F_SETFL = 4;
const F_SETOWN = 8;
const O_NONBLOCK = 0o4000;
const O_ASYNC = 0o20000;
const MSG_DONTWAIT = 0x40;
/** Datagrams of a socket that are read before others have their turn. */
const batch = 128;
/** Flows whose socket is being made, or that have one; and what waits for one. */
const maxFlows = 8_192;
const maxWaiting = 64;

export type Take = (bytes: Buffer, client: Destination, way: Way) => void;

function openCalls() {
  return openLibc(
    {
      bind: { args: [i32, pointer, u32], returns: i32 },
      close: { args: [i32], returns: i32 },
      fcntl: { args: [i32, i32, i64], returns: i32 },
      recvmsg: { args: [i32, pointer, i32], returns: i64 },
      setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
    },
    "datagrams to other addresses cannot be taken",
  );
}

let calls: ReturnType<typeof openCalls> | undefined;
const listening = new Set<TakenDatagrams>();
const onSignal = () => {
  for (const one of listening) one.read();
};

/** Rejects with an Error with `code` when the address cannot be had, with a UserError when this process may not. */
export function listenTaken(address: string, port: number, namespace: string | undefined, take: Take): Accepting {
  calls ??= openCalls();
  return new TakenDatagrams(calls, address, port, namespace, take);
}

interface Flow {
  socket: udp.ConnectedSocket<"buffer"> | undefined;
  waiting: Buffer[];
}

class TakenDatagrams implements Accepting {
  readonly #libc: NonNullable<typeof calls>;
  readonly #fd: number;
  readonly #at: Destination;
  readonly #namespace: string | undefined;
  readonly #take: Take;
  readonly #flows = new Map<string, Flow>();
  /** Flows whose answers leave by this socket. */
  readonly #without = new Set<string>();
  readonly #message = new BigUint64Array(fixed(7 * 8)); // struct msghdr
  readonly #vector = new BigUint64Array(fixed(2 * 8)); // struct iovec
  readonly #name = Buffer.from(fixed(28));
  readonly #bytes = Buffer.from(fixed(65_536));
  readonly #control = Buffer.from(fixed(256));

  constructor(
    libc: NonNullable<typeof calls>,
    address: string,
    port: number,
    namespace: string | undefined,
    take: Take,
  ) {
    this.#libc = libc;
    this.#namespace = namespace;
    this.#take = take;
    const fd = transparentSocket(ipFamily(address) ?? 4);
    this.#fd = fd;
    this.#at = { address, port };
    const one = new Uint32Array([1]);
    libc.setsockopt(fd, SOL_IP, IP_RECVORIGDSTADDR, ptr(one), 4);
    libc.setsockopt(fd, SOL_IPV6, IPV6_RECVORIGDSTADDR, ptr(one), 4);
    const name = socketAddress(address, port);
    if (libc.bind(fd, ptr(name), name.length) !== 0) {
      const code = lastErrorCode();
      libc.close(fd);
      throw Object.assign(new Error(`${addressWithPort(address, port)} cannot be had (${code})`), { code });
    }
    // For good: a signal that is on its way when nobody waits for it any more ends the process.
    if (process.listenerCount("SIGIO") === 0) process.on("SIGIO", onSignal);
    listening.add(this);
    libc.fcntl(fd, F_SETOWN, BigInt(process.pid));
    libc.fcntl(fd, F_SETFL, BigInt(O_NONBLOCK | O_ASYNC));
    // What came before the kernel knew whom to tell.
    this.read();
  }

  /** All there is, some at a time. */
  read(): void {
    inTurn(() => {
      for (let count = 0; count < batch; count++) if (!this.#next()) return;
      setImmediate(() => this.read());
    });
  }

  #next(): boolean {
    if (!listening.has(this)) return false;
    const bytes = this.#receive(this.#fd);
    if (!bytes) return false;
    const destination = destinationIn(this.#control.subarray(0, Number(this.#message[5])));
    if (destination) this.#came(bytes, readAddress(this.#name), destination);
    return true;
  }

  /** Undefined when there is nothing. Who sent it, and what the kernel says beside it, is where the message says. */
  #receive(fd: number): Buffer | undefined {
    this.#vector.set([BigInt(ptr(this.#bytes)), BigInt(this.#bytes.length)]);
    this.#message.set([
      BigInt(ptr(this.#name)),
      28n,
      BigInt(ptr(this.#vector)),
      1n,
      BigInt(ptr(this.#control)),
      BigInt(this.#control.length),
      0n,
    ]);
    const length = Number(this.#libc.recvmsg(fd, ptr(this.#message), MSG_DONTWAIT));
    return length < 0 ? undefined : Buffer.from(this.#bytes.subarray(0, length));
  }

  /** All that a flow's socket has heard, and from whom. */
  #unread(fd: number): readonly (readonly [Buffer, Destination])[] {
    const all: [Buffer, Destination][] = [];
    for (let one = this.#receive(fd); one; one = this.#receive(fd)) all.push([one, readAddress(this.#name)]);
    return all;
  }

  #came(bytes: Buffer, client: Destination, destination: Destination): void {
    const key = `${client.address} ${client.port} ${destination.address} ${destination.port}`;
    if (destination.port === this.#at.port) {
      this.#takeWithout(bytes, client, destination, key);
      return;
    }
    const flow = this.#flows.get(key);
    if (flow?.socket) this.#hand(bytes, client, destination, key, flow.socket);
    else if (flow) {
      if (flow.waiting.length < maxWaiting) flow.waiting.push(bytes);
    } else if (this.#flows.size < maxFlows) this.#open(bytes, client, destination, key);
  }

  /**
   * On the port that is listened on: a socket of a flow's own would hear what is meant for the listener until it has a peer.
   */
  #takeWithout(bytes: Buffer, client: Destination, destination: Destination, key: string): void {
    const family = ipFamily(this.#at.address) ?? 4;
    this.#without.add(key);
    this.#take(bytes, client, {
      destination,
      answer: (back) => {
        if (this.#without.has(key)) sendFrom(this.#fd, family, back, destination.address, client);
      },
      gone: () => {
        if (this.#without.delete(key)) this.#closeUnused();
      },
    });
  }

  #closeUnused(): void {
    if (!listening.has(this) && this.#without.size === 0) this.#libc.close(this.#fd);
  }

  #open(bytes: Buffer, client: Destination, destination: Destination, key: string): void {
    const flow: Flow = { socket: undefined, waiting: [bytes] };
    this.#flows.set(key, flow);
    inNetns(this.#namespace, () =>
      Bun.udpSocket({
        hostname: client.address.includes(":") ? "::" : "0.0.0.0",
        connect: { hostname: client.address, port: client.port },
        binaryType: "buffer",
        socket: {
          data: (_socket, more) =>
            inTurn(() => {
              if (flow.socket) this.#hand(more, client, destination, key, flow.socket);
            }),
          // A client that did not wait for its answer.
          error() {},
        },
      }),
    ).then(
      (socket) => {
        const fd = (socket as { fd?: number }).fd ?? -1;
        let strangers: readonly (readonly [Buffer, Destination])[] = [];
        try {
          const source = { address: destination.address, port: destination.port };
          speakFrom(fd, source, client.address, client.port);
          // Between its address and its peer it has heard others, too, whose datagrams would be taken for the client's; and what is
          // on its way there must not come behind.
          if (!attachFilter(fd, fromClient(client))) throw new Error("no filter");
          strangers = this.#unread(fd);
        } catch {
          socket.close();
          this.#flows.delete(key);
          return;
        }
        flow.socket = socket;
        inTurn(() => {
          for (const one of flow.waiting.splice(0)) this.#hand(one, client, destination, key, socket);
          for (const [more, from] of strangers) this.#came(more, from, destination);
        });
      },
      () => void this.#flows.delete(key),
    );
  }

  #hand(
    bytes: Buffer,
    client: Destination,
    destination: Destination,
    key: string,
    socket: udp.ConnectedSocket<"buffer">,
  ): void {
    this.#take(bytes, client, {
      destination,
      answer: (back) => {
        try {
          sendDatagram(() => socket.send(back));
        } catch {
          // A client that cannot be reached any more.
        }
      },
      gone: () => {
        if (this.#flows.get(key)?.socket !== socket) return;
        this.#flows.delete(key);
        // What has come meanwhile begins another session by the same socket.
        const fd = (socket as { fd?: number }).fd ?? -1;
        const unread = hearNoMore(fd, destination.address, destination.port) ? this.#unread(fd) : [];
        if (unread.length === 0 || !hearAgain(fd, client)) {
          socket.close();
          return;
        }
        this.#flows.set(key, { socket, waiting: [] });
        for (const [bytes] of unread) this.#hand(bytes, client, destination, key, socket);
      },
    });
  }

  /** What has come is still taken. Sessions go on by sockets of their own until they end. */
  close(): void {
    if (!listening.has(this)) return;
    if (hearNoMore(this.#fd, this.#at.address, this.#at.port))
      inTurn(() => {
        while (this.#next());
      });
    listening.delete(this);
    this.#closeUnused();
  }
}

/** Of struct cmsghdr { u64 length; i32 level, type } with what follows, each at a multiple of 8. */
export function destinationIn(control: Buffer): Destination | undefined {
  for (let at = 0; at + 16 <= control.length; ) {
    const length = Number(control.readBigUInt64LE(at));
    const [level, type] = [control.readInt32LE(at + 8), control.readInt32LE(at + 12)];
    const body = control.subarray(at + 16, at + length);
    if (level === SOL_IP && type === IP_RECVORIGDSTADDR && body.length >= 8) return readAddress(body);
    if (level === SOL_IPV6 && type === IPV6_RECVORIGDSTADDR && body.length >= 24) return readAddress(body);
    at += Math.max(16, (length + 7) & ~7);
  }
  return undefined;
}

/** Of struct sockaddr_in or sockaddr_in6; of a socket for both families, IPv4 as such. */
export function readAddress(bytes: Buffer): Destination {
  const port = bytes.readUInt16BE(2);
  if (bytes.readUInt16LE(0) === 2) return { address: formatIPv4(bytes.readUInt32BE(4)), port };
  const [high, low] = [bytes.readBigUInt64BE(8), bytes.readBigUInt64BE(16)];
  const address = high === 0n && low >> 32n === 0xffffn ? formatIPv4(bytes.readUInt32BE(20)) : undefined;
  return { address: address ?? formatIPv6((high << 64n) | low), port };
}
