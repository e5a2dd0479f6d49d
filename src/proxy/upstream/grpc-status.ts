// The HTTP status that outlier detection counts for a status of gRPC (google/rpc/code.proto, "HTTP Mapping"; Envoy's
// grpcToHttpStatus).

const statuses: readonly number[] = [
  200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401,
];

/** 500 for a code that there is not. */
export function httpStatusOfGrpc(code: number): number {
  return statuses[code] ?? 500;
}
