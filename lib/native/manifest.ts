interface Manifest {
  name: string;
  version: string;
  engines: { node: string };
}

/** This package's own manifest. */
// eslint-disable-next-line @typescript-eslint/no-require-imports
export const manifest = require("../../package.json") as Manifest;

/** The oldest Node it runs on: "20.19". */
export const oldestNode = manifest.engines.node.replace(">=", "");

/** Compares versions number by number; what is missing counts as 0. */
export function isOlder(version: string, than: string): boolean {
  const [a, b] = [version, than].map((text) => text.split(".").map((part) => parseInt(part, 10)));
  const differs = [0, 1, 2].find((i) => (a![i] ?? 0) !== (b![i] ?? 0));
  return differs !== undefined && (a![differs] ?? 0) < (b![differs] ?? 0);
}
