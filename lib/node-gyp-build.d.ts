declare module "node-gyp-build" {
  /** Finds and loads the addon of the package in a folder. */
  export default function nodeGypBuild(folder: string): unknown;
}
