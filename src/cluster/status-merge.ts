// How a wanted status meets the stored one where several controllers share an object. Pure; the sink writes the result.

type Status = Readonly<Record<string, unknown>>;

/** What is written, made of what is stored and what is wanted. */
export type StatusMerge = (stored: Status, wanted: Status) => Status;

/** The fields that are wanted replace the stored ones; fields that are not mentioned stay. Undefined removes a field. */
export const mergeFields: StatusMerge = (stored, wanted) => ({ ...stored, ...wanted });

/**
 * For routes (Gateway API, RouteStatus): entries of `parents` that other controllers wrote stay, ours are exactly the
 * wanted ones. At most 32 entries are kept, ours first.
 */
export function mergeParents(isOurs: (controllerName: string) => boolean): StatusMerge {
  return (stored, wanted) => ({
    ...stored,
    ...wanted,
    parents: [...entries(wanted), ...entries(stored).filter((one) => !isOurs(one.controllerName))].slice(0, 32),
  });
}

function entries(status: Status): readonly { readonly controllerName: string }[] {
  return Array.isArray(status["parents"]) ? status["parents"] : [];
}
