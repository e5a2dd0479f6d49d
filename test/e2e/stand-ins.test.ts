// Stand-ins behind a Gateway of a real stack, by each protocol: HTTP/1.1 and WebSocket, and by a Service port's appProtocol HTTP/2 and
// gRPC. Needs no privileges: the stack is on 127.x addresses.

import { afterAll, beforeAll, expect, setDefaultTimeout, test } from "bun:test";
import { Client, credentials, type ServiceError, status } from "@grpc/grpc-js";
import { eventually, run, TestStack } from "./stack.ts";

const objects = `
apiVersion: gateway.networking.k8s.io/v1
kind: GatewayClass
metadata: {name: fairlead}
spec: {controllerName: fairlead.dev/gateway-controller}
---
apiVersion: gateway.networking.k8s.io/v1
kind: Gateway
metadata: {name: web}
spec: {gatewayClassName: fairlead, listeners: [{name: http, port: 8088, protocol: HTTP}]}
---
apiVersion: gateway.networking.k8s.io/v1
kind: HTTPRoute
metadata: {name: cart}
spec:
  parentRefs: [{name: web}]
  rules:
    - matches: [{path: {type: PathPrefix, value: /old}}]
      backendRefs: [{name: cart, port: 80}]
    - backendRefs: [{name: cart, port: 81}]
---
apiVersion: v1
kind: Service
metadata: {name: cart}
spec:
  selector: {app: cart}
  ports:
    - {name: old, port: 80, targetPort: 8080}
    - {name: new, port: 81, targetPort: 8080, appProtocol: kubernetes.io/h2c}
---
apiVersion: v1
kind: Pod
metadata: {name: cart, labels: {app: cart}}
spec:
  containers:
    - name: app
      image: example/cart
      ports: [{containerPort: 8080}]
      readinessProbe: {grpc: {port: 8080}}
`;

setDefaultTimeout(60_000);
const stack = new TestStack("standins", "loopback");
let authority = "";
beforeAll(async () => {
  const { code, err } = await stack.upWith(objects);
  if (code !== 0) throw new Error(err);
  authority = `${await stack.address("web", "default")}:8088`;
  await eventually(
    () => run(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", `http://${authority}/old`]),
    ({ out }) => out === "200",
  );
});
afterAll(() => stack.remove());

test("HTTP/2 reaches the pod where the Service says so, HTTP/1.1 elsewhere, on one port", async () => {
  const curl = async (path: string) =>
    JSON.parse((await run(["curl", "-s", "--http2-prior-knowledge", `http://${authority}${path}`])).out);
  expect(await curl("/new?x=1")).toMatchObject({ pod: "cart", proto: "HTTP/2.0", path: "/new?x=1", host: authority });
  expect(await curl("/old")).toMatchObject({ pod: "cart", proto: "HTTP/1.1", path: "/old" });
});

test("gRPC: health, and the echo service of Gateway API's conformance tests", async () => {
  const same = (bytes: Buffer) => bytes;
  const client = new Client(authority, credentials.createInsecure());
  const ask = (path: string) =>
    new Promise<Buffer | ServiceError>((resolve) => {
      client.makeUnaryRequest(path, same, same, Buffer.alloc(0), (error, answer) => resolve(error ?? answer!));
    });
  expect(await ask("/grpc.health.v1.Health/Check")).toEqual(Buffer.from([8, 1]));
  const echo = await ask("/gateway_api_conformance.echo_basic.grpcecho.GrpcEcho/Echo");
  expect(String(echo)).toContain("cart");
  expect(await ask("/cart.v1.Cart/Get")).toMatchObject({ code: status.UNIMPLEMENTED });
  client.close();
});

test("WebSocket echoes", async () => {
  const socket = new WebSocket(`ws://${authority}/old/chat`);
  const echoed = await new Promise((resolve, reject) => {
    socket.onopen = () => socket.send("hello");
    socket.onmessage = ({ data }) => resolve(data);
    socket.onerror = () => reject(new Error("no WebSocket"));
  });
  expect(echoed).toBe("hello");
  socket.close();
});
