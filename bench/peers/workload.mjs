// What every engine is measured on, so that their figures compare.

/** Tokens generated after each prompt's first one. */
export const decodeTokens = 64;

/** Ids that every vocabulary has and that are neither special nor all the same. */
export const prompt = (length) => Array.from({ length }, (_, i) => 1000 + ((i * 7919) % 20011));

/**
 * Tokens per second of reading prompts and of writing after them. `generate(length)` gives the milliseconds
 * `{ prompt, decode }` of one generation: up to its first token, and from there on.
 */
export async function measure(generate, rounds) {
  const rates = { prompt64: [], prompt512: [], decode64: [], decode1024: [] };
  for (let round = 0; round < rounds; round++) {
    const short = await generate(64);
    const middle = await generate(512);
    const long = await generate(1024);
    rates.prompt64.push(64e3 / short.prompt);
    rates.prompt512.push(512e3 / middle.prompt);
    rates.decode64.push((decodeTokens * 1e3) / short.decode);
    rates.decode1024.push((decodeTokens * 1e3) / long.decode);
  }
  return Object.fromEntries(
    Object.entries(rates).map(([name, list]) => {
      const sorted = [...list].sort((a, b) => a - b);
      return [name, { best: sorted.at(-1), median: sorted[(sorted.length - 1) >> 1] }];
    }),
  );
}
