// A draft model, which guesses what another writes: it must be another file, of the same vocabulary.
import { stat } from "node:fs/promises";

import type { ModelHeader } from "./header.js";
import { tokenizerData } from "./metadata.js";
import { invalidArgument } from "./options.js";
import { createTokenizer, type Tokenizer } from "./tokenizer/tokenizer.js";

/** Tokens that stand at a vocabulary's end for its size alone, at most; models of one family differ in them. */
const mostPadding = 128;

/** Refuses a draft that is the model's own file, by whatever name. What is not there is told by whoever opens it. */
export async function refuseSameFile(model: string, draft: string): Promise<void> {
  const [a, b] = await Promise.all(
    [model, draft].map((path) => stat(path, { bigint: true }).catch(() => undefined)),
  );
  if (a?.dev !== b?.dev || a?.ino !== b?.ino || a === undefined) return;
  throw invalidArgument(
    `loadModel: option 'draft' is ${draft}, which is the model itself; expected a smaller model of the same vocabulary`,
  );
}

/** Refuses a draft of which a token stands for another text. */
export async function refuseOtherVocabulary(
  model: { path: string; tokenizer: Tokenizer },
  header: ModelHeader,
  signal: AbortSignal,
): Promise<void> {
  const [mine, theirs] = [model.tokenizer, await createTokenizer(tokenizerData(header), { signal })];
  const refuse = (what: string): never => {
    throw invalidArgument(
      `loadModel: the draft ${header.path} has another vocabulary than ${model.path}: ${what}; expected a model of ` +
        "the same family",
    );
  };
  const sizes = [mine.size, theirs.size] as const;
  if (Math.abs(sizes[0] - sizes[1]) > mostPadding) refuse(`${sizes[1]} tokens instead of ${sizes[0]}`);
  const [a, b] = [mine.vocabulary(), theirs.vocabulary()];
  for (let id = 0; id < Math.min(...sizes); id++) {
    const [from, to] = [a.offsets[id]!, a.offsets[id + 1]!];
    const other = b.offsets[id]!;
    let same = b.offsets[id + 1]! - other === to - from;
    for (let i = 0; same && i < to - from; i++) same = a.bytes[from + i] === b.bytes[other + i];
    if (!same || mine.tokenText(id) !== theirs.tokenText(id))
      refuse(
        `token ${id} is ${JSON.stringify(theirs.tokenText(id))}, not ${JSON.stringify(mine.tokenText(id))}`,
      );
  }
}
