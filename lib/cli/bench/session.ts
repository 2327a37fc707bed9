import type { Model } from "../../model.js";
import type { ScaledAdapter } from "../../types.js";
import type { Session } from "./measure.js";

/** inhouse as an engine to be timed. */
export function sessionOf(model: Model, adapter?: ScaledAdapter, signal?: AbortSignal): Session {
  return {
    async *generate(prompt, tokens) {
      // Without guesses, which these prompts without sense would make too good to be true.
      const options = {
        maxTokens: tokens,
        temperature: 0,
        ignoreStopTokens: true,
        speculation: "off",
        adapter,
        signal,
      } as const;
      for await (const delta of model.complete(prompt, options)) yield delta.tokens.length;
    },
    close: () => model.dispose(),
  };
}
