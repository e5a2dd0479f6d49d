// Ports below 1024 for a process without privileges: tried once, and where the kernel forbids them moved by one rule that people
// can do in their heads: p becomes p + 8000 (80 → 8080, 443 → 8443).

/** Added to a port that may not be had. */
export const lowPortShift = 8000;

export function movedPort(port: number, lowPortsAllowed: boolean): number {
  return port < 1024 && !lowPortsAllowed ? port + lowPortShift : port;
}

/** Whether this process may listen on low ports (it is root, has the capability, or the kernel asks for none): by trying. */
export function lowPortsAllowed(address: string): boolean {
  try {
    Bun.listen({ hostname: address, port: 1, socket: { data() {} } }).stop(true);
    return true;
  } catch (error) {
    // Anything but a refusal (somebody listens there) means that it is not forbidden.
    return (error as NodeJS.ErrnoException).code !== "EACCES";
  }
}
