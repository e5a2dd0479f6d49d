// Which containers run a host command in place of their image: by `--image 'PATTERN=COMMAND'`, or by the pod's annotations
// `fairlead.dev/command` (its first container) and `fairlead.dev/command-<container>`. All others become stand-ins.

import type { Container, Pod } from "../api/kinds.ts";
import { UserError } from "../base/errors.ts";

export const commandAnnotation = "fairlead.dev/command";

export interface ImageCommand {
  /** An image name; `*` stands for any characters. `nginx` also means `docker.io/library/nginx:1.27`. */
  readonly pattern: string;
  /** Run by `/bin/sh -c`; `"$@"` are the container's command and args. */
  readonly command: string;
}

/** Reads `PATTERN=COMMAND`. Throws a UserError. */
export function parseImageCommand(text: string): ImageCommand {
  const equals = text.indexOf("=");
  const pattern = text.slice(0, equals).trim();
  const command = text.slice(equals + 1).trim();
  if (equals < 0 || pattern === "" || command === "") {
    throw new UserError(`--image ${JSON.stringify(text)}: not of the form PATTERN=COMMAND`, {
      remedy: "write for example --image 'nginx*=python3 -m http.server 80'",
      exitCode: 2,
    });
  }
  return { pattern, command };
}

/** The argv that takes the container's place; undefined for a stand-in. */
export function commandFor(pod: Pod, container: Container, rules: readonly ImageCommand[]): string[] | undefined {
  const annotations = pod.metadata.annotations ?? {};
  const isFirst = pod.spec?.containers[0]?.name === container.name;
  const command =
    annotations[`${commandAnnotation}-${container.name}`] ??
    (isFirst ? annotations[commandAnnotation] : undefined) ??
    rules.find((rule) => matchesImage(rule.pattern, container.image ?? ""))?.command;
  if (command === undefined) return undefined;
  return ["/bin/sh", "-c", command, container.name, ...(container.command ?? []), ...(container.args ?? [])];
}

/** Whether an image is meant: as it is written, or without its registry, repository folders, tag and digest. */
export function matchesImage(pattern: string, image: string): boolean {
  const source = pattern.split("*").map((part) => part.replace(/[.*+?^${}()|[\]\\]/g, "\\$&"));
  const expression = new RegExp(`^${source.join(".*")}$`);
  const untagged = image.replace(/@.*$/, "").replace(/:[^/:]*$/, "");
  const short = untagged.slice(untagged.lastIndexOf("/") + 1);
  return [image, untagged, short].some((name) => expression.test(name));
}
