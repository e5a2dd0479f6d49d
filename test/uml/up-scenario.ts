// What runs inside the User-Mode Linux machine for the whole stack: `fairlead up --proxy-mode ipvs` with a pod and a Service, and
// requests over the Service's name, its node port and the pod's own Service. Reports as ipvs-scenario.ts does.

import { join } from "node:path";

const fairlead = join(import.meta.dir, "../../bin/fairlead");
const name = "uml";
const objects = "/run/objects.yaml";

function report(step: string, value: unknown): void {
  console.log(`fl-uml: ${step} ${JSON.stringify(value)}`);
}

function call(...words: string[]): string {
  const { stdout, stderr } = Bun.spawnSync([fairlead, ...words, "--name", name], {
    env: { ...process.env, FAIRLEAD_HOME: "/run/fairlead-home" },
  });
  return `${stdout}${stderr}`;
}

/** A command inside of the node or a pod. */
const inside = (place: string, ...argv: string[]) => {
  const { stdout, stderr } = Bun.spawnSync([fairlead, "exec", place, "--name", name, "--", ...argv], {
    env: { ...process.env, FAIRLEAD_HOME: "/run/fairlead-home" },
  });
  return `${stdout}${stderr}`;
};

const labels = "labels: { app: web }";
await Bun.write(
  objects,
  `apiVersion: v1
kind: Pod
metadata: { name: a, ${labels} }
spec: { containers: [{ name: c, image: web, ports: [{ containerPort: 8080 }] }] }
---
apiVersion: v1
kind: Service
metadata: { name: web }
spec: { type: NodePort, selector: { app: web }, ports: [{ port: 80, targetPort: 8080, nodePort: 30080 }] }
`,
);
report("up", [call("up", "--proxy-mode", "ipvs", "-f", objects)]);
report("by name", [inside("default/a", "curl", "-sS", "--max-time", "5", "http://web/")]);
report("by node port", [inside("node/node-1", "curl", "-sS", "--max-time", "5", "http://10.98.0.1:30080/")]);
report("listing", [inside("node/node-1", "ipvsadm", "-Ln")]);
report("down", [call("down")]);
report("done", Math.round(performance.now()));
process.exit(0);
