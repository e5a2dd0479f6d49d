// The numbers of HTTP/2 (RFC 9113 §6, §7, §11): frame types, flags, error codes, settings.

export const FrameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goaway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const Flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 32 } as const;

export const ErrorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
} as const;

export const Setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  /** RFC 8441 §3. */
  enableConnectProtocol: 8,
} as const;

/** Bytes of a frame's header. */
export const frameHeader = 9;
/** SETTINGS_MAX_FRAME_SIZE before the peer says another, and what we stay with. */
export const defaultFrameSize = 16_384;
/** SETTINGS_INITIAL_WINDOW_SIZE, and the window of the connection, before anybody says another. */
export const defaultWindow = 65_535;
export const maxWindow = 0x7fffffff;

/** What a client sends first (RFC 9113 §3.4). */
export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
