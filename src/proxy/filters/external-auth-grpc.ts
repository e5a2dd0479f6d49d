import type { ExternalAuthorization } from "../../model/filters.ts";
import type { Questions } from "./external-auth.ts";

export function grpcQuestions(
  _config: ExternalAuthorization,
  _grpc: Extract<ExternalAuthorization["protocol"], { kind: "grpc" }>,
): Questions {
  throw new Error("external authorization over gRPC is not supported by this proxy yet");
}
