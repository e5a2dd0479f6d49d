// Names of model resources that several rooms make independently of each other and that must agree.

import type { BackendName, SecretName } from "./model.ts";

/** The backend of one Service port: `service/shop/cart/80`. `port` is the Service's port number, not the pod's. */
export function serviceBackendName(namespace: string, service: string, port: number): BackendName {
  return `service/${namespace}/${service}/${port}`;
}

/** The secret made from a Kubernetes Secret: `secret/shop/cart-tls`. */
export function kubernetesSecretName(namespace: string, name: string): SecretName {
  return `secret/${namespace}/${name}`;
}
