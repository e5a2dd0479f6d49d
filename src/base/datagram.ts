// Datagrams over a socket that stays, often one that many peers send to. The kernel tells of a peer's refusal (it no longer waits for an answer) at the
// next send, whoever that is for, and does not send it (ip(7), IP_RECVERR): without another try one peer's end would lose
// another's answer.

/** Errors that an earlier datagram's way can have left on the socket. */
const others = new Set(["ECONNREFUSED", "EHOSTUNREACH", "ENETUNREACH", "EHOSTDOWN", "EPROTO", "EACCES", "EPERM"]);

const mostAttempts = 4;

/**
 * Hands a datagram to the kernel by `send`, again where the error is an earlier one's. False when the kernel's buffer is full or
 * when it does not let the datagram out; other errors are thrown.
 */
export function sendDatagram(send: () => boolean): boolean {
  for (let attempt = 1; ; attempt++) {
    try {
      return send();
    } catch (error) {
      if (!others.has((error as NodeJS.ErrnoException).code ?? "")) throw error;
      if (attempt === mostAttempts) return false;
    }
  }
}

/**
 * The error among what Bun told a UDP socket's `error` handler. Its types say the socket and the error; Bun 1.4 gives the error
 * alone.
 */
export function udpError(told: readonly unknown[]): unknown {
  return told.at(-1);
}
