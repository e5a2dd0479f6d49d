// What a node's agent and its stand-in process say to each other: length-prefixed JSON over a Unix socket. The agent always
// sends the whole desired state, so that either side may be started anew; the process answers with what it does.

/** One container that a stand-in takes the place of. */
export interface StandInContainer {
  readonly name: string;
  readonly image: string;
  readonly ports: readonly StandInPort[];
  /** Where its log lines go. */
  readonly logFile: string;
  /** Grows with each start, so that a container started anew is told apart from one that runs on. */
  readonly attempt: number;
}

export interface StandInPort {
  readonly name?: string;
  readonly protocol: "TCP" | "UDP";
  /** As the Pod declares it. */
  readonly port: number;
  /** Where it listens really: the same, but where low ports are forbidden. */
  readonly listenPort: number;
}

export interface StandInPod {
  readonly uid: string;
  readonly namespace: string;
  readonly name: string;
  readonly node: string;
  readonly serviceAccount: string;
  readonly labels: Readonly<Record<string, string>>;
  /** The pod's addresses, as it tells them to clients. */
  readonly addresses: readonly string[];
  /** The addresses to listen on; `::` is all of both families. */
  readonly listenAddresses: readonly string[];
  readonly netns?: string;
  /** Differs when the namespace at the same path is another one. */
  readonly netnsId?: string;
  readonly containers: readonly StandInContainer[];
  /** Set when the pod is to end: requests under way are finished until then (milliseconds since the epoch). */
  readonly drainUntil?: number;
}

/** From the agent: these pods and those to be kept, and no others. */
export interface ServeMessage {
  readonly type: "serve";
  readonly pods: readonly StandInPod[];
  /** Pods that an agent started anew has not come to yet (uids): what is served of them stays as it is. */
  readonly keep: readonly string[];
}

/** To the agent, after each change: per pod whether all ports are open, what failed, and whether it has drained. */
export interface StateMessage {
  readonly type: "state";
  readonly pods: readonly StandInState[];
}

export interface StandInState {
  readonly uid: string;
  readonly serving: boolean;
  /** The containers all of whose ports are open. */
  readonly open: readonly string[];
  /** `port 80: address in use`. */
  readonly problems: readonly string[];
  readonly drained: boolean;
}

/** The longest frame that is taken, in bytes. */
const longestFrame = 64 * 1024 * 1024;

export function encodeFrame(message: ServeMessage | StateMessage): Buffer {
  const text = Buffer.from(JSON.stringify(message));
  const frame = Buffer.allocUnsafe(4 + text.length);
  frame.writeUInt32BE(text.length, 0);
  text.copy(frame, 4);
  return frame;
}

/** Puts frames together from the chunks that a socket gives. */
export class FrameReader<M> {
  #pending: Buffer = Buffer.alloc(0);

  /** The messages that are complete with this chunk. Throws on what is no frame. */
  read(chunk: Uint8Array): M[] {
    this.#pending = this.#pending.length === 0 ? Buffer.from(chunk) : Buffer.concat([this.#pending, chunk]);
    const messages: M[] = [];
    while (this.#pending.length >= 4) {
      const length = this.#pending.readUInt32BE(0);
      if (length > longestFrame) throw new Error(`a frame of ${length} bytes is longer than ${longestFrame}`);
      if (this.#pending.length < 4 + length) break;
      messages.push(JSON.parse(this.#pending.toString("utf8", 4, 4 + length)) as M);
      this.#pending = this.#pending.subarray(4 + length);
    }
    return messages;
  }
}
