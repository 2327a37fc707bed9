// A generation: what `chat` and `complete` return.
import type { Delta, GenerationResult } from "./types.js";

/** One running generation. It starts at once; iterate over it (one reader), or await `result()` or `text()`. */
export interface Generation extends AsyncIterable<Delta, void, undefined> {
  /** Settles when the generation ends: cancelled ones resolve too, aborted ones reject with `signal.reason`. */
  result(): Promise<GenerationResult>;
  /** The whole text, once the generation ends. */
  text(): Promise<string>;
  /** The text as a web stream; cancelling the stream cancels the generation. Counts as the one reader. */
  textStream(): ReadableStream<string>;
  /** Ends the generation within a step; `result()` then has `finishReason: "cancelled"`. */
  cancel(): void;
}
