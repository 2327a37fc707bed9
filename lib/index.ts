export { InhouseError, type InhouseErrorCode } from "./errors.js";
export type { Generation } from "./generate.js";
export { readHeader, type MetadataArray, type MetadataEntry, type MetadataScalar } from "./header.js";
export type { MetadataType, ModelHeader, TensorEntry } from "./header.js";
export { loadModel, type Model } from "./model.js";
export type { ChatOptions, CompleteOptions, GenerateOptions, SamplingOptions, Tokenizer } from "./model.js";
export type * from "./types.js";
