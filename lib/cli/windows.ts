// The windows in which a long text is evaluated.

/** Tokens evaluated together; those from `scoredFrom` on count. */
export interface Context {
  tokens: number[];
  scoredFrom: number;
}

/**
 * Cuts tokens into windows of `size` as llama.cpp's perplexity tool does, so that figures compare: what does not fill
 * a window is left out, the first token of each is replaced by BOS where the model adds one (`bos`), and of positions
 * 0 … size-1 the predictions made at size/2 (rounded down) … size-2 count, which are those of the tokens after them.
 * A text shorter than one window is one context, and all tokens after the first count.
 */
export function cutWindows(
  tokens: readonly number[],
  size: number,
  bos: number | undefined,
): [Context, ...Context[]] {
  const window = (i: number): Context => {
    const part = tokens.slice(i * size, (i + 1) * size);
    if (bos !== undefined) part[0] = bos;
    return { tokens: part, scoredFrom: (size >> 1) + 1 };
  };
  const count = Math.floor(tokens.length / size);
  if (count === 0) return [{ tokens: [...tokens], scoredFrom: 1 }];
  return [window(0), ...Array.from({ length: count - 1 }, (_, i) => window(i + 1))];
}
