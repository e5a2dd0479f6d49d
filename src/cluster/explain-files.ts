// `explain --files`: the same pipeline on a store in memory that holds nothing but the files. Nothing is started; pods do not
// exist, so backends have no endpoints.

import { builtinScheme } from "../api/scheme.ts";
import { messageOf, UserError } from "../base/errors.ts";
import { silentLogger } from "../base/log.ts";
import { listenerStateSource } from "../distribution/distribution.ts";
import { serviceAdmission } from "../services/allocation.ts";
import { serviceCidrAdmission } from "../services/service-cidrs.ts";
import { openSqliteStore } from "../store/sqlite/sqlite-store.ts";
import { type ExplainRequest, type Explanation, explain } from "./explain.ts";
import { explainContext } from "./explain-context.ts";
import { fillManifests } from "./fill-stack.ts";
import { type Manifest, orderForApply, readManifests } from "./manifests.ts";
import { followObjects } from "./objects.ts";
import { modelOf, startPipeline } from "./pipeline.ts";
import { emptySources, recordSources } from "./sources.ts";
import { defaultRanges } from "./stack.ts";

/** Namespaces that a new API server has. */
const builtinNamespaces = new Set(["default", "kube-system", "kube-public", "kube-node-lease"]);

/** Reads the files, and decides the request by them alone. Throws a UserError for files that an API server would refuse. */
export async function explainFiles(
  files: readonly string[],
  request: ExplainRequest,
  options: { readonly fill: boolean },
): Promise<Explanation> {
  const given = await readManifests(files);
  const made = options.fill ? (await fillManifests(given, "default", undefined, async () => [])).manifests : [];
  const ranges = [defaultRanges[4], defaultRanges[6]];
  const scheme = builtinScheme();
  const store = openSqliteStore({
    path: ":memory:",
    scheme,
    admissions: [
      serviceAdmission({ serviceCidr: defaultRanges[4].services, secondaryServiceCidr: defaultRanges[6].services }),
      serviceCidrAdmission(),
    ],
  });
  try {
    const manifests = orderForApply([...made, ...given]);
    const namespaces = new Set(
      manifests.filter(({ object }) => object.kind === "Namespace").map(({ object }) => object.metadata.name),
    );
    for (const manifest of manifests) {
      const { object } = manifest;
      const resource = scheme.byKind(object.apiVersion, object.kind);
      if (!resource) continue; // a custom kind: it has no part in routing yet
      const namespace = resource.scope === "Namespaced" ? (object.metadata.namespace ?? "default") : undefined;
      if (namespace && !namespaces.has(namespace) && !builtinNamespaces.has(namespace)) {
        namespaces.add(namespace);
        await create(store, scheme, { apiVersion: "v1", kind: "Namespace", metadata: { name: namespace } }, manifest);
      }
      await create(
        store,
        scheme,
        { ...object, metadata: { ...object.metadata, ...(namespace ? { namespace } : {}) } },
        manifest,
      );
    }
    const objects = await followObjects(store);
    const pipeline = startPipeline({
      objects,
      loadBalancers: ranges.map(({ loadBalancers }) => loadBalancers),
      listenerStates: listenerStateSource(),
      log: silentLogger,
    });
    const sources = recordSources(emptySources, given);
    const { endpoints } = pipeline.model;
    return {
      ...explain(
        modelOf(pipeline.model),
        request,
        explainContext({ ...objects, endpoints, findings: pipeline.gatewayApi.findings }, () => sources),
      ),
      filesOnly: true,
    };
  } finally {
    store.close();
  }
}

async function create(
  store: ReturnType<typeof openSqliteStore>,
  scheme: ReturnType<typeof builtinScheme>,
  object: Manifest["object"],
  { source }: Manifest,
): Promise<void> {
  try {
    await store.create(scheme.byKind(object.apiVersion, object.kind)!, object, { fieldValidation: "Strict" });
  } catch (error) {
    throw new UserError(`${source.file}:${source.line}: ${messageOf(error)}`);
  }
}
