/// <reference types="node" preserve="true" />
export type { EmbedOptions, TextOrTokens } from "./embed.js";
export { InhouseError, type InhouseErrorCode } from "./errors.js";
export type { Generation } from "./generate.js";
export { MetadataArray, readHeader } from "./header.js";
export type { MetadataEntry, MetadataScalar, MetadataType, ModelHeader, TensorEntry } from "./header.js";
export { loadModel, type Model } from "./model.js";
export type { ChatOptions, CompleteOptions, GenerateOptions } from "./request.js";
export type { LogitBias, SamplingOptions } from "./sampling.js";
export type { Score, ScoreOptions } from "./score.js";
export type { DecodeOptions, EncodeOptions, TextRange, Tokenizer } from "./tokenizer/tokenizer.js";
export type { EmbedTrace, EvaluateTrace, GenerateTrace, LoadTrace, ScoreTrace, Trace } from "./trace.js";
export type * from "./types.js";
