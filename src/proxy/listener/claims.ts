// Who has an address. All sockets of a proxy share their ports (SO_REUSEPORT), so that workers share them and the next process takes over
// without a gap; but so could another program of the same user, unnoticed, and each would get some of the connections. So before the
// first socket of an address is made it is asked for without sharing: nobody else may have it. A composition of workers asks
// once for all of them, in the process that started them (`workers.ts`).

import { FFIType, ptr } from "bun:ffi";
import { closeSync } from "node:fs";
import { lastErrorCode } from "../../base/errno.ts";
import { ipFamily } from "../../base/ip.ts";
import { openLibc } from "../../base/libc.ts";
import { SOL_SOCKET } from "../../base/own-sockets.ts";
import { inNetns } from "../../base/setns.ts";
import type { Listener } from "../../model/model.ts";
import { socketAddress } from "../upstream/original-source.ts";

const { i32, u32, ptr: pointer } = FFIType;
const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_DGRAM = 2;
const SOCK_CLOEXEC = 0o2000000;
const SO_REUSEADDR = 2;

/** What a listener's socket is bound to. */
export type Place = Pick<Listener, "address" | "port" | "transport" | "namespace">;

/** A process's view of them. */
export interface Claims {
  /** Before a socket is made. Rejects with an Error with code EADDRINUSE when others have the place. */
  take(place: Place): Promise<void>;
  /** The socket is closed, or could not be made. */
  release(place: Place): void;
}

/** The places of one process, or of all workers of a composition. */
export class AddressClaims {
  /** By port; who holds a place, once for each of its sockets. */
  readonly #held = new Map<string, { readonly address: string; readonly holder: number }[]>();
  readonly #handsOver: () => boolean;
  readonly #isTaken: (place: Place) => boolean;

  /** `handsOver`: another process of this proxy may have its places, too. */
  constructor(handsOver: () => boolean, taken = isTaken) {
    this.#handsOver = handsOver;
    this.#isTaken = taken;
  }

  /** False when others have it. */
  take(place: Place, holder: number): boolean {
    const held = this.#held.get(portOf(place)) ?? [];
    const own = held.some(({ address }) => overlap(address, place.address));
    if (!own && !this.#handsOver() && this.#isTaken(place)) return false;
    held.push({ address: place.address, holder });
    this.#held.set(portOf(place), held);
    return true;
  }

  release(place: Place, holder: number): void {
    const held = this.#held.get(portOf(place)) ?? [];
    const at = held.findIndex((one) => one.address === place.address && one.holder === holder);
    if (at >= 0) held.splice(at, 1);
    if (held.length === 0) this.#held.delete(portOf(place));
  }

  /** A worker has ended, and its sockets with it. */
  gone(holder: number): void {
    for (const [port, held] of this.#held) {
      const left = held.filter((one) => one.holder !== holder);
      if (left.length > 0) this.#held.set(port, left);
      else this.#held.delete(port);
    }
  }

  /** Of a process that is the only one. */
  alone(): Claims {
    return {
      take: async (place) => {
        if (!this.take(place, 0)) throw inUse();
      },
      release: (place) => this.release(place, 0),
    };
  }
}

export function inUse(): Error {
  return Object.assign(new Error("others have the address"), { code: "EADDRINUSE" });
}

const portOf = ({ transport, port, namespace = "" }: Place) => `${transport} ${port} ${namespace}`;
const isAny = (address: string) => address === "0.0.0.0" || address === "::";
const overlap = (a: string, b: string) => a === b || isAny(a) || isAny(b);

/**
 * Whether a socket there keeps others from it. Nothing is heard or accepted meanwhile. What cannot be found out is told by
 * the error of who opens the place.
 */
function isTaken({ address, port, transport, namespace }: Place): boolean {
  try {
    return inNetns(namespace, () => bindsNot(address, port, transport));
  } catch {
    return false;
  }
}

function openCalls() {
  return openLibc(
    {
      bind: { args: [i32, pointer, u32], returns: i32 },
      setsockopt: { args: [i32, i32, i32, pointer, u32], returns: i32 },
      socket: { args: [i32, i32, i32], returns: i32 },
    },
    "addresses cannot be asked for",
  );
}

let calls: ReturnType<typeof openCalls> | undefined;

function bindsNot(address: string, port: number, transport: Place["transport"]): boolean {
  calls ??= openCalls();
  const family = ipFamily(address) === 6 ? AF_INET6 : AF_INET;
  const fd = calls.socket(family, (transport === "udp" ? SOCK_DGRAM : SOCK_STREAM) | SOCK_CLOEXEC, 0);
  if (fd < 0) return false;
  const one = new Uint32Array([1]);
  // What is left of connections, and flows with addresses of their own, do not count; sockets that listen do all the same.
  calls.setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, ptr(one), 4);
  const name = socketAddress(address, port);
  const taken = calls.bind(fd, ptr(name), name.length) !== 0 && lastErrorCode() === "EADDRINUSE";
  closeSync(fd);
  return taken;
}
