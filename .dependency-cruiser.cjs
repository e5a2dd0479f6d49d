// The room table of docs/architecture.md as rules: a room imports only what its row names.
const rooms = {
  base: [],
  api: ["base"],
  store: ["base", "api"],
  collections: ["base", "api", "store"],
  model: ["base"],
  services: ["base", "api", "store", "collections", "model"],
  dialects: ["base", "api", "store", "collections", "model"],
  identity: ["base", "api", "store", "collections"],
  distribution: ["base", "api", "store", "collections", "model", "identity"],
  proxy: ["base", "model"],
  node: ["base", "api", "store", "collections", "model", "services", "distribution"],
  dns: ["base", "api", "store", "collections", "model", "services"],
  apiserver: ["base", "api", "store"],
  workloads: ["base", "api", "store", "collections"],
  telemetry: ["base", "model"],
};
const everything = "^src/";

module.exports = {
  forbidden: [
    { name: "no-circular", severity: "error", from: {}, to: { circular: true, viaOnly: { dependencyTypesNot: ["type-only"] } } },
    ...Object.entries(rooms).map(([room, allowed]) => ({
      name: `room-${room}`,
      severity: "error",
      from: { path: `^src/${room}/` },
      to: { path: everything, pathNot: `^src/(${[room, ...allowed].join("|")})/` },
    })),
    {
      name: "dialects-do-not-know-each-other",
      severity: "error",
      from: { path: "^src/dialects/([^/]+)/" },
      to: { path: "^src/dialects/([^/]+)/", pathNot: "^src/dialects/$1/" },
    },
    {
      name: "tests-stay-outside",
      severity: "error",
      from: { path: "^src/", pathNot: "\\.test\\.ts$" },
      to: { path: "\\.test\\.ts$" },
    },
  ],
  options: {
    doNotFollow: { path: "node_modules" },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: "tsconfig.json" },
    enhancedResolveOptions: { extensions: [".ts", ".js", ".json"] },
  },
};
