/// <reference types="node" preserve="true" />
// The model store: short names, where their files come from, and the folder that keeps them.
export { cacheFolder, storeFolder } from "./folders.js";
export { pull, type PulledModel, type PullOptions, type PullProgress } from "./pull.js";
export { list, remove, resolve, type StoredModel } from "./store.js";
export { findKnownModel, type KnownModel, knownModels, type PartSource } from "./table.js";
